"""Wake-ups by file events (inotify through watchdog).

Only arrivals are watched. watchdog itself would ask for departures too, and hold each back for
half a second to see whether it is one half of a move: every claim of ours is one, and the next
job's arrival would wait behind it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyEmitter, InotifyObserver
from watchdog.observers.inotify_c import InotifyConstants, Mask

from spooler.durable import Disk
from spooler.errors import PushUnavailable
from spooler.observe.logger import leave_out

_ARRIVALS: list[type[FileSystemEvent]] = [FileClosedEvent, FileCreatedEvent]

# This line of watchdog's only says that we have closed it.
leave_out("watchdog.observers.inotify", "called when the thread is inactive")


class _ArrivalsOnly(InotifyEmitter):
    """An emitter that asks the kernel for files that come, and for nothing else."""

    def get_event_mask_from_filter(self) -> Mask:
        return Mask(
            InotifyConstants.IN_CREATE
            | InotifyConstants.IN_MOVED_TO
            | InotifyConstants.IN_CLOSE_WRITE
            | InotifyConstants.IN_DELETE_SELF
        )


class _Observer(InotifyObserver):
    """watchdog's observer with that emitter."""

    def __init__(self) -> None:
        super().__init__()
        self._emitter_class = _ArrivalsOnly


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
        self._observer: BaseObserver | None = None
        try:
            self._start(folder, wake)
        except OSError as error:  # ENOSPC here means: no inotify watches left, not a full disk
            raise PushUnavailable(
                f"files cannot be watched here ({error.strerror or error}); raise "
                "fs.inotify.max_user_instances and max_user_watches"
            ) from error

    def _start(self, folder: str, wake: Callable[[], None]) -> None:
        self._observer = _Observer()
        self._observer.name = f"watch-{folder.rpartition('/')[2]}"
        self._observer.schedule(_Arrivals(wake), folder, event_filter=_ARRIVALS)
        self._observer.start()

    @property
    def closed(self) -> bool:
        """Return whether `close` was called."""
        return self._observer is None

    def close(self) -> None:
        with self._lock:
            observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join(timeout=5.0)
