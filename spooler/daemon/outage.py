"""Tells once that the storage is away, and once that it is back, whoever notices."""

from __future__ import annotations

import threading
from collections.abc import Callable

from spooler.errors import BackendUnavailable
from spooler.observe.events import EventName, Observer
from spooler.protocols import Clock


class Outage:
    """One storage, as all threads of one daemon find it. Safe to use from any thread."""

    def __init__(
        self,
        observer: Observer,
        clock: Clock,
        *,
        away: EventName = EventName.STORAGE_AWAY,
        back: EventName = EventName.STORAGE_BACK,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        """`ended` is called when an outage is over, by whoever notices it."""
        self._ended = ended
        self._ended_at = float("-inf")
        self._away, self._back = away, back
        self._observer = observer
        self._clock = clock
        self._lock = threading.Lock()
        self._since: float | None = None

    @property
    def lasts(self) -> bool:
        """Whether the storage was away when somebody last asked it."""
        return self._since is not None

    def over_for(self, seconds: float) -> bool:
        """Whether no outage lasts, and none was over less than `seconds` ago."""
        return self._since is None and self._clock.monotonic() - self._ended_at >= seconds

    def noticed(self, error: BackendUnavailable, **fields: object) -> None:
        """The storage did not do what was asked; `fields` say what that was about."""
        with self._lock:
            if self._since is not None:
                return
            self._since = self._clock.monotonic()
        self._observer.emit(self._away, error=str(error), **fields)

    def over(self, **fields: object) -> None:
        """The storage has done what was asked."""
        if self._since is None:  # the usual case costs no lock
            return
        with self._lock:
            since, self._since = self._since, None
            if since is not None:
                self._ended_at = self._clock.monotonic()
        if since is not None:
            seconds = round(self._clock.monotonic() - since, 1)
            self._observer.emit(self._back, seconds=seconds, **fields)
            self._ended()
