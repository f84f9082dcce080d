"""The daemon's side of one run: why it should stop, and how far it is."""

from __future__ import annotations

import threading
from collections.abc import Callable

from spooler.model.run import StopReason


class Control:
    """Stops one run. The first reason stands; setting it is atomic, from any thread."""

    def __init__(self, tell: Callable[[str], None] = lambda _: None) -> None:
        self._reason: StopReason | None = None
        self._tell = tell

    @property
    def stop_reason(self) -> StopReason | None:
        return self._reason

    def stop(self, reason: StopReason) -> None:
        """Have the run end."""
        if self._reason is None:
            self._reason = reason

    def progress(self, text: str) -> None:
        self._tell(text)


class Until:
    """Ends what it controls, the opening of a device, as soon as an event is set."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping

    @property
    def stop_reason(self) -> StopReason | None:
        return StopReason.SHUTDOWN if self._stopping.is_set() else None

    def progress(self, text: str) -> None:
        """Nobody is told."""
