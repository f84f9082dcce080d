"""What has to be done now and then for all devices: deliver, recover, announce.

Timers say when, this thread does it. Each duty stands alone: one that meets a storage that is
away is tried again later and does not keep the others from their turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from spooler.daemon.announcer import Announcer
from spooler.daemon.backoff import Backoff
from spooler.daemon.delivery import Delivery
from spooler.daemon.recovery import Recovery
from spooler.daemon.worker import Worker
from spooler.errors import BackendUnavailable
from spooler.observe.events import EventName, Observer

#: The longest this thread sleeps, should the timers ever fall silent (seconds).
_LONGEST = 60.0


class Housekeeper:
    """The duties; `run` is the body of the thread "outbox"."""

    def __init__(
        self,
        *,
        delivery: Delivery,
        recovery: Recovery,
        announcer: Announcer,
        workers: Sequence[Worker],
        observer: Observer,
        stopping: threading.Event,
    ) -> None:
        self._delivery = delivery
        self._recovery = recovery
        self._announcer = announcer
        self._workers = workers
        self._observer = observer
        self._wake = threading.Event()
        self._stopping = stopping
        self._wanted: set[str] = set()
        self._backoff = Backoff(first=0.5, last=30.0)

    def want(self, duty: str) -> Callable[[], None]:
        """A function that asks for a duty: "announce" or "recover"."""

        def ask() -> None:
            self._wanted.add(duty)
            self._wake.set()

        return ask

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
            self._wake.wait(pause)
            self._wake.clear()
            if self._stopping.is_set():
                return
            pause = self._round()

    def _round(self) -> float:
        """One round of duties; seconds until the next is due at the latest."""
        wanted, self._wanted = self._wanted, set()
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
        return self._backoff.wait()

    def recover(self) -> None:
        """Settle what dead daemons left, for each device."""
        for worker in self._workers:
            try:
                if self._recovery.recover(worker.rules, worker.card.version):
                    worker.wake()
            except BackendUnavailable as error:
                self._observer.emit(
                    EventName.STORAGE_AWAY, device=worker.rules.name, error=str(error)
                )
                return

    def close(self) -> None:
        """End `run`."""
        self._stopping.set()
        self._wake.set()
