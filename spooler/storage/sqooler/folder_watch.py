"""Wake-ups by file events (inotify through watchdog).

Only arrivals are watched: our own claims move files out of the queue, and being told of each
would cost more than the claim.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from spooler.durable import Disk

_ARRIVALS: list[type[FileSystemEvent]] = [FileClosedEvent, FileCreatedEvent]


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of watchdog's says anything: this one only says that we have closed it."""
    return "called when the thread is inactive" not in record.getMessage()


logging.getLogger("watchdog.observers.inotify").addFilter(_is_news)


class _Arrivals(FileSystemEventHandler):
    """Calls `wake` for each file that may be a job."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def dispatch(self, event: FileSystemEvent) -> None:
        name = str(event.src_path)
        if name.endswith(".json") and not name.rpartition("/")[2].startswith("."):
            self._wake()


class FolderWatch:
    """One watched folder; closing it ends its threads."""

    def __init__(self, folder: str, disk: Disk, wake: Callable[[], None]) -> None:
        disk.make_folder(folder)
        self._lock = threading.Lock()
        self._observer: BaseObserver | None = Observer()
        self._observer.name = f"watch-{folder.rpartition('/')[2]}"
        self._observer.schedule(_Arrivals(wake), folder, event_filter=_ARRIVALS)
        self._observer.start()

    def close(self) -> None:
        with self._lock:
            observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join(timeout=5.0)
