"""Whether this machine's disk can take what the next run brings: else none is begun."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from spooler.durable import Disk, unavailable
from spooler.errors import BackendUnavailable
from spooler.observe.events import EventName, Observer
from spooler.protocols import Clock

#: The state folder's permissions: what waits and what is kept in it is for our user alone.
STATE_MODE = 0o700
#: A disk with less (bytes) is full: a report and the audit trail must find room.
LEAST = 1 << 20
#: Seconds until a full disk is looked at again.
ROOM_AGAIN = 1.0
#: What is written to see whether a disk that has refused a report takes one again.
_PROBE = bytes(1 << 16)


class Room:
    """The disk of the state folder. Safe to use from any thread; told once, like an outage."""

    def __init__(self, folder: Path, disk: Disk, observer: Observer, clock: Clock) -> None:
        self._folder = folder
        self._disk = disk
        self._refused = False
        self._observer = observer
        self._clock = clock
        self._guard = threading.Lock()
        self._full_since: float | None = None

    def missing(self, error: BackendUnavailable, **fields: object) -> None:
        """Something of a run was not taken; `fields` say what that was about."""
        self._refused = True
        self._full(error, **fields)

    def there(self) -> bool:
        """Return whether there is room for what a run brings."""
        try:
            self._look()
        except OSError as error:
            self._full(unavailable(error, self._folder))
            return False
        self._recovered()
        return True

    def _full(self, error: BackendUnavailable, **fields: object) -> None:
        with self._guard:
            if self._full_since is not None:
                return
            self._full_since = self._clock.monotonic()
        self._observer.emit(EventName.DISK_FULL, error=str(error), **fields)

    def _recovered(self) -> None:
        if self._full_since is None:  # the usual case costs no lock
            return
        with self._guard:
            since, self._full_since = self._full_since, None
        if since is not None:
            seconds = round(self._clock.monotonic() - since, 1)
            self._observer.emit(EventName.DISK_RECOVERED, seconds=seconds)

    def _look(self) -> None:
        try:
            demand_room(self._folder)
        except FileNotFoundError:  # somebody has removed it
            self._disk.make_folder(self._folder, mode=STATE_MODE)
            demand_room(self._folder)
        if self._refused:
            place = f"{self._folder}/.room.tmp"
            self._disk.stage(place, _PROBE)
            self._disk.remove(place)
            self._refused = False


def demand_room(folder: Path) -> None:
    """Raise OSError where the disk of `folder` has too little room for a run to be begun."""
    if _free_bytes(folder) < LEAST:
        raise OSError(errno.ENOSPC, "less than 1 MiB is free")


def _free_bytes(folder: Path) -> int:
    """What may still be written to the disk of `folder`; 0 also when it takes no more files."""
    room = os.statvfs(folder)
    if room.f_files and not room.f_favail:
        return 0
    return room.f_bavail * room.f_frsize
