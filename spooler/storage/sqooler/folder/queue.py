"""The waiting job files of one device, oldest first: one listing serves many claims."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from spooler.storage.sqooler.folder.layout import JOB_FILE

#: A listing is made again when it is this many times older than it took to make, so that
#: listing a queue of any length costs at most about five per cent of the time ...
_AGE_PER_COST = 20.0
#: ... and never before this many seconds, while there are jobs left in it.
_YOUNG = 1.0


class Waiting(NamedTuple):
    """One job file. Order: age by modification time, then name."""

    modified_ns: int
    job_id: str
    size: int


class FolderQueue:
    """Hands out the waiting jobs of one folder. Not for use by two threads at once."""

    def __init__(self, folder: str, monotonic: Callable[[], float]) -> None:
        self._folder = folder
        self._monotonic = monotonic
        self._waiting: deque[Waiting] = deque()
        self._listed_at = float("-inf")
        self._cost = 0.0
        self._deferred: list[Waiting] = []

    def refresh(self) -> None:
        """Look into the folder when what is known is used up or old."""
        age = self._monotonic() - self._listed_at
        if self._waiting and age < max(_YOUNG, _AGE_PER_COST * self._cost):
            return
        started = self._monotonic()
        self._waiting = deque(sorted(list_queue(self._folder)))
        self._deferred = []
        self._listed_at = self._monotonic()
        self._cost = self._listed_at - started

    def take(self) -> Waiting | None:
        """The oldest known job, or None."""
        return self._waiting.popleft() if self._waiting else None

    def defer(self, waiting: Waiting) -> None:
        """Put a job that cannot be claimed yet aside until `restore`."""
        self._deferred.append(waiting)

    @property
    def deferring(self) -> bool:
        """Whether jobs were put aside since the last listing."""
        return bool(self._deferred)

    def restore(self) -> None:
        """Put the deferred jobs back to their places at the front."""
        self._waiting.extendleft(reversed(self._deferred))
        self._deferred = []

    def forget(self) -> None:
        """Have the next `refresh` look into the folder."""
        self._waiting.clear()


def list_queue(folder: str) -> list[Waiting]:
    """The job files of `folder`, in no order; foreign files, folders and links are left out."""
    found = []
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return []
    with entries:
        for entry in entries:
            name = JOB_FILE.match(entry.name)
            if name is None or not entry.is_file(follow_symlinks=False):
                continue
            try:
                stat = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # claimed by somebody since the listing
            found.append(Waiting(stat.st_mtime_ns, name["id"], stat.st_size))
    return found
