"""The waiting job files of one queue, oldest first: one listing serves many claims."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from spooler.durable import Disk
from spooler.model.claim import Claim
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


class Not(Enum):
    """Why a waiting file has not become a claim."""

    #: Somebody else has it, or it was deleted.
    HERE = auto()
    #: It is to be asked for again.
    YET = auto()


class FolderQueue:
    """Tries the waiting jobs of one folder, one thread at a time."""

    def __init__(
        self,
        disk: Disk,
        folder: str,
        monotonic: Callable[[], float],
        strange: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`strange` is told at each look of a file that is called like a job file, and is none."""
        self._strange = strange
        self._disk = disk
        self._folder = folder
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._waiting: deque[Waiting] = deque()
        self._listed_at = float("-inf")
        self._cost = 0.0

    def first(self, take: Callable[[Waiting], Claim | Not]) -> Claim | None:
        """Return the claim that `take` makes of the oldest job that it can take."""
        with self._lock:
            for _ in range(2):  # when all that was known has gone to others, look once more
                self._refresh()
                later: list[Waiting] = []
                known = bool(self._waiting)
                while self._waiting:
                    waiting = self._waiting[0]
                    answer = take(waiting)
                    self._waiting.popleft()
                    if isinstance(answer, Claim):
                        self._waiting.extendleft(reversed(later))
                        return answer
                    if answer is Not.YET:
                        later.append(waiting)
                if later or not known:
                    break
        return None

    def _refresh(self) -> None:
        """Look into the folder when what is known is used up or old."""
        age = self._monotonic() - self._listed_at
        if self._waiting and age < max(_YOUNG, _AGE_PER_COST * self._cost):
            return
        started = self._monotonic()
        self._waiting = deque(sorted(list_queue(self._disk, self._folder, self._strange)))
        self._listed_at = self._monotonic()
        self._cost = self._listed_at - started

    def forget(self) -> None:
        """Have the next claim look into the folder."""
        with self._lock:
            self._waiting.clear()


def list_queue(
    disk: Disk, folder: str, strange: Callable[[str], None] = lambda _: None
) -> list[Waiting]:
    """List the job files of `folder`, in no order, without foreign files, folders and links.

    `strange` is told of each file that somebody may have taken for a job file.
    """
    found = []
    with disk.entries(folder) as entries:
        for entry in entries:
            name = JOB_FILE.match(entry.name)
            if name is None or not entry.is_file(follow_symlinks=False):
                if entry.name.lower().endswith(".json") and not entry.name.startswith("."):
                    strange(entry.name)
                continue
            try:
                stat = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # claimed by somebody since the listing
            found.append(Waiting(stat.st_mtime_ns, name["id"], stat.st_size))
    return found
