"""Renews the held claims, from a thread that does nothing else.

One writer per claim: whoever writes about a claim holds its lock, so that a renewal and the
final write exclude each other. A storage that is away does not end a run: the fence decides,
when the report is delivered, whether somebody else has taken over meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from spooler.errors import BackendUnavailable, LeaseLost
from spooler.model.claim import Claim
from spooler.model.run import StopReason
from spooler.protocols import Backend, Clock

#: Renewals within one lease time.
_RENEWALS = 3.0
#: The longest time (seconds) until a submitter's cancellation is noticed.
_NOTICE_WITHIN = 5.0


class Held:
    """A claim that is being kept alive. `claim` is its newest value; `lock` guards it."""

    def __init__(self, claim: Claim, stop: Callable[[StopReason], None], due: float) -> None:
        self.claim = claim
        self.stop = stop
        self.due = due
        self.progress = ""
        self.lock = threading.Lock()
        self.over = False


class LeaseKeeper:
    """Keeps claims alive from `hold` to `drop`."""

    def __init__(self, backend: Backend, clock: Clock, ttl: float) -> None:
        self._backend = backend
        self._clock = clock
        self.ttl = ttl
        self._every = min(ttl / _RENEWALS, _NOTICE_WITHIN)
        self._held: set[Held] = set()
        self._guard = threading.Lock()
        self._closing = threading.Event()

    def hold(self, claim: Claim, stop: Callable[[StopReason], None]) -> Held:
        """Renew `claim` from now on; `stop` is called when its run should end."""
        held = Held(claim, stop, self._clock.monotonic() + self._every)
        with self._guard:
            self._held.add(held)
        return held

    def started(self, held: Held) -> None:
        """Note that the handler is about to run; raises what `renew` raises."""
        with held.lock:
            held.claim = self._backend.renew(held.claim, self.ttl, started=True)
            held.due = self._clock.monotonic() + self._every
        if held.claim.cancelled:
            held.stop(StopReason.CANCELLED)

    def drop(self, held: Held) -> None:
        """Renew no more; harmless to repeat."""
        with self._guard:
            self._held.discard(held)

    def held_tokens(self) -> set[str]:
        """The tokens of all claims that are kept alive here."""
        with self._guard:
            return {held.claim.token for held in self._held}

    def run(self) -> None:
        """Renew what is due, until `close`."""
        while not self._closing.is_set():
            wait = self.renew_due()
            self._closing.wait(wait)

    def renew_due(self) -> float:
        """One pass; seconds until the next.

        Never longer than the time between two renewals, so that the thread need not be woken
        for each new claim: most are given up long before their first renewal is due.
        """
        now = self._clock.monotonic()
        with self._guard:
            due = [held for held in self._held if held.due <= now]
        for held in due:
            self._renew(held)
        with self._guard:
            nearest = min((held.due for held in self._held), default=now + self._every)
        return min(self._every, max(0.01, nearest - self._clock.monotonic()))

    def _renew(self, held: Held) -> None:
        if not held.lock.acquire(blocking=False):
            held.due = self._clock.monotonic() + self._every / 10
            return  # it is being written about, which is a sign of life itself
        try:
            if held.over:
                return
            progress, held.progress = held.progress, ""
            held.claim = self._backend.renew(held.claim, self.ttl, progress=progress)
            held.due = self._clock.monotonic() + self._every
        except BackendUnavailable:
            held.due = self._clock.monotonic() + self._every / 2
            return
        except LeaseLost:
            self.drop(held)
            held.stop(StopReason.LEASE_LOST)
            return
        finally:
            held.lock.release()
        if held.claim.cancelled:
            held.stop(StopReason.CANCELLED)

    def close(self) -> None:
        """End `run`."""
        self._closing.set()
