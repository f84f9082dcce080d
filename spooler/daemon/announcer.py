"""Says which devices there are, under which key, and that they are alive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from spooler.daemon.outage import Outage
from spooler.daemon.worker import Worker
from spooler.errors import BackendUnavailable
from spooler.observe.events import EventName, Observer
from spooler.protocols import Backend, Clock


class Announcer:
    """Announces the devices of all workers."""

    def __init__(
        self,
        backend: Backend,
        workers: Sequence[Worker],
        clock: Clock,
        observer: Observer,
        outage: Outage,
    ) -> None:
        self._outage = outage
        self._backend = backend
        self._workers = workers
        self._clock = clock
        self._observer = observer

    def announce(self) -> bool:
        """Announce each device; False when the storage is away. Raises KeyRefused."""
        done = True
        for worker in self._workers:
            device = worker.rules.name
            try:
                card = replace(worker.card, pending=self._backend.depth(device))
                self._backend.announce(card, self._clock.now())
            except BackendUnavailable as error:
                self._observer.emit(EventName.ANNOUNCE_FAILED, device=device, error=str(error))
                done = False
            else:
                self._outage.over(device=device)
                self._observer.emit(EventName.ANNOUNCE_DONE, device=device)
        return done
