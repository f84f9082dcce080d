"""What has to be done now and then for all devices: deliver, recover, announce.

Timers say when, this thread does it. Each duty stands alone: one that meets a storage that is
away is tried again later and does not keep the others from their turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from spooler.daemon.announcer import Announcer
from spooler.daemon.backoff import Backoff
from spooler.daemon.claims.recovery import Recovery
from spooler.daemon.outage import Outage
from spooler.daemon.reports.delivery import Delivery
from spooler.daemon.worker import Worker
from spooler.errors import BackendUnavailable
from spooler.protocols import Clock

#: Seconds until a report that was only postponed is brought again.
_A_MOMENT = 0.02
#: The longest this thread sleeps, should the timers ever fall silent (seconds).
_LONGEST = 60.0
#: Timers that are this many intervals late, and this many seconds beyond, are taken for stopped.
_LATE, _SLACK = 2.0, 5.0


class Bell:
    """Duties that are asked for, by timers and by whoever has news."""

    def __init__(self) -> None:
        self.rung = threading.Event()
        self._wanted: set[str] = set()
        self._lock = threading.Lock()

    def ring(self, duty: str) -> None:
        """Ask for "announce", "recover" or "deliver"."""
        with self._lock:
            self._wanted.add(duty)
        self.rung.set()

    def answer(self) -> set[str]:
        """What was asked for since the last answer."""
        with self._lock:
            wanted, self._wanted = self._wanted, set()
        return wanted


class Housekeeper:
    """The duties; `run` is the body of the thread "outbox"."""

    def __init__(
        self,
        *,
        delivery: Delivery,
        recovery: Recovery,
        announcer: Announcer,
        workers: Sequence[Worker],
        outage: Outage,
        bell: Bell,
        stopping: threading.Event,
        clock: Clock,
        interval: Callable[[], float],
        late: Callable[[], None],
    ) -> None:
        """`late` is called when no timer has asked for anything for some `interval()`s.

        A wall clock that was set back stops them, and all workers may be busy for hours.
        """
        self._clock = clock
        self._interval = interval
        self._late = late
        self._heard = clock.monotonic()
        self._delivery = delivery
        self._recovery = recovery
        self._announcer = announcer
        self._workers = workers
        self._outage = outage
        self._bell = bell
        self._stopping = stopping
        self._backoff = Backoff(first=0.5, last=30.0)

    def begin(self) -> None:
        """Before the first claim: deliver what was kept, settle what was left. Raises KeyRefused.

        A storage that is away delays this, it does not prevent the start.
        """
        self._delivery.restore()
        self._delivery.retry()
        self.recover()
        self._announcer.announce()

    def run(self) -> None:
        """Do the duties as they are asked for, until `close`."""
        pause = _LONGEST
        while not self._stopping.is_set():
            self._bell.rung.wait(min(pause, self._patience()))
            self._bell.rung.clear()
            if self._stopping.is_set():
                return
            pause = self._round()

    def _round(self) -> float:
        """One round of duties; seconds until the next is due at the latest."""
        wanted = self._bell.answer()
        if wanted & {"announce", "recover"}:
            self._heard = self._clock.monotonic()
        elif self._patience() <= 0:
            self._heard = self._clock.monotonic()
            self._late()
        if "announce" in wanted:
            self._announcer.announce()
        if "recover" in wanted:
            self.recover()
        if not self._delivery.waiting:
            return _LONGEST
        self._delivery.retry()
        if not self._delivery.waiting:
            self._backoff.reset()
            return _LONGEST
        return self._backoff.wait() if self._outage.lasts else _A_MOMENT

    def _patience(self) -> float:
        """Seconds until silent timers are taken for stopped."""
        silent = self._clock.monotonic() - self._heard
        return max(0.0, _LATE * self._interval() + _SLACK - silent)

    def recover(self) -> None:
        """Settle what dead daemons left, for each device."""
        for worker in self._workers:
            try:
                if self._recovery.recover(worker.rules, worker.version):
                    worker.wake()
            except BackendUnavailable as error:
                self._outage.noticed(error, device=worker.rules.name)
                return

    def close(self) -> None:
        """End `run`."""
        self._stopping.set()
        self._bell.rung.set()
