"""Renews the held claims of one storage, from a thread that does nothing else.

A storage that is away does not end a run: the fence decides, when the report is delivered, whether
somebody else has taken over meanwhile. A delivery is no reason not to renew: the storage sorts out
which of the two comes first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from spooler.errors import BackendUnavailable, LeaseLost
from spooler.model.claim import Claim
from spooler.model.run import StopReason
from spooler.protocols import Backend, Clock

#: Renewals within one lease time.
_RENEWALS = 3.0
#: The longest time (seconds) until a submitter's cancellation is noticed.
_NOTICE_WITHIN = 5.0


class Held:
    """A claim that is being kept alive; `claim` is its newest value."""

    def __init__(self, claim: Claim, stop: Callable[[StopReason], None], due: float) -> None:
        self.claim = claim
        self._lock = threading.Lock()
        self.stop = stop
        self.due = due
        #: What is to be shown of its run; "" when that has been shown.
        self.progress = ""
        #: Why the lease is not ours any more.
        self.lost = ""

    def update(self, claim: Claim) -> None:
        """Take a newer value; what was known once stays known, whichever answer came last."""
        with self._lock:
            started = claim.started or self.claim.started
            cancelled = claim.cancelled or self.claim.cancelled
            ends = [each.until for each in (claim, self.claim) if each.until is not None]
            until = max(ends, default=None)
            self.claim = replace(claim, started=started, cancelled=cancelled, until=until)
        if cancelled:
            self.stop(StopReason.CANCELLED)


class Leases:
    """Keeps claims alive from `hold` to `drop`."""

    def __init__(
        self,
        backend: Backend,
        clock: Clock,
        ttl: float,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        """`progress` is called when there is something to be shown of a run."""
        self._progress = progress
        self._backend = backend
        self._clock = clock
        self.ttl = ttl
        self._every = min(ttl / _RENEWALS, _NOTICE_WITHIN)
        self._held: dict[str, Held] = {}
        self._guard = threading.Lock()
        self._closing = threading.Event()

    def hold(self, claim: Claim, stop: Callable[[StopReason], None] = lambda _: None) -> Held:
        """Renew `claim` from now on; `stop` is called when its run should end."""
        held = Held(claim, stop, self._clock.monotonic() + self._every)
        with self._guard:
            self._held[claim.lease.token] = held
        return held

    def started(self, held: Held, seconds: float) -> None:
        """Note that the handler is about to run for `seconds`; raises what `start` raises."""
        held.update(self._backend.start(held.claim, seconds))
        held.due = self._clock.monotonic() + self._every

    def show(self, held: Held, text: str) -> None:
        """Have the progress of a run shown, by another thread than the one that renews."""
        held.progress = text
        self._progress()

    def of(self, token: str) -> Held | None:
        """Return what is kept alive under a token."""
        with self._guard:
            return self._held.get(token)

    def drop(self, token: str) -> None:
        """Renew no more; harmless to repeat."""
        with self._guard:
            self._held.pop(token, None)

    def all(self) -> list[Held]:
        """Everything that is kept alive here."""
        with self._guard:
            return list(self._held.values())

    def tokens(self) -> set[str]:
        """Return the tokens of all claims that are kept alive here."""
        with self._guard:
            return set(self._held)

    # --- the thread -------------------------------------------------------------------------

    def run(self) -> None:
        """Renew what is due, until `close`."""
        while not self._closing.is_set():
            self._closing.wait(self.renew_due())

    def renew_due(self) -> float:
        """One pass; seconds until the next.

        Never longer than the time between two renewals, so that the thread need not be woken
        for each new claim: most are given up long before their first renewal is due.
        """
        now = self._clock.monotonic()
        for held in self.all():
            if held.due <= now:
                self._renew(held)
        nearest = min((held.due for held in self.all()), default=now + self._every)
        return min(self._every, max(0.01, nearest - self._clock.monotonic()))

    def _renew(self, held: Held) -> None:
        try:
            renewed = self._backend.renew(held.claim)
        except BackendUnavailable:
            held.due = self._clock.monotonic() + self._every / 2
            return
        except LeaseLost as error:
            held.lost = str(error)
            self.drop(held.claim.lease.token)
            held.stop(StopReason.LEASE_LOST)
            return
        held.due = self._clock.monotonic() + self._every
        held.update(renewed)

    def close(self) -> None:
        """End `run`."""
        self._closing.set()
