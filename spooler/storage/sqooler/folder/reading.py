"""From a waiting file to a job: when it may be taken, and what is wrong with it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime

from spooler.durable import exists, read, unavailable
from spooler.model.job import Job
from spooler.observe.logger import get_logger
from spooler.protocols import Clock
from spooler.storage.sqooler.folder.claims import FolderClaims
from spooler.storage.sqooler.folder.layout import Layout
from spooler.storage.sqooler.folder.queue import FolderQueue, Waiting

logger = get_logger("spooler.storage")

#: A job file that cannot be read as JSON may still be being written in place: so long (seconds)
#: it must not change before it is taken for broken ...
SETTLED_AFTER = 2.0
#: ... unless it is older than this by the wall clock.
_OLD = 3600.0


@dataclass
class DeviceQueue:
    """What is known about the queue of one device; `lock` guards it among our threads."""

    queue: FolderQueue
    lock: threading.Lock = field(default_factory=threading.Lock)
    #: Unreadable job files: size, and since when it has been that.
    unreadable: dict[str, tuple[int, float]] = field(default_factory=dict)
    #: Files that we may not read, and have said so.
    forbidden: set[str] = field(default_factory=set)


class FolderReader:
    """Reads the waiting files of one storage."""

    def __init__(
        self, layout: Layout, clock: Clock, claims: FolderClaims, max_payload: int
    ) -> None:
        self._layout = layout
        self._clock = clock
        self._claims = claims
        self._max_payload = max_payload

    def read(self, state: DeviceQueue, device: str, waiting: Waiting) -> Job | None:
        """The job in a waiting file; None when it is gone, or is not to be taken yet."""
        place = f"{self._layout.queue(device)}/{waiting.job_id}.json"
        content = b""
        if waiting.size <= self._max_payload:
            try:
                content = read(place, limit=self._max_payload)
            except FileNotFoundError:
                return None
            except PermissionError as error:
                self._unreadable(state, waiting, error)
                return None
        size = max(waiting.size, len(content))
        decoded = self._claims.decode(waiting.job_id, content, size)
        if decoded.defect and not self._settled(state, waiting, size):
            state.queue.defer(waiting)
            return None
        state.unreadable.pop(waiting.job_id, None)
        state.forbidden.discard(waiting.job_id)
        if exists(self._layout.running(waiting.job_id)):
            state.queue.defer(waiting)  # a job of this id runs already
            return None
        submitted = datetime.fromtimestamp(waiting.modified_ns / 1e9, UTC)
        return Job(waiting.job_id, device, decoded.payload, decoded.defect, submitted)

    def _unreadable(self, state: DeviceQueue, waiting: Waiting, error: PermissionError) -> None:
        """Leave a file that we may not read to its submitter, and say so once."""
        state.queue.defer(waiting)
        if waiting.job_id not in state.forbidden:
            state.forbidden.add(waiting.job_id)
            logger.warning(
                "a job waits until its file may be read",
                job=waiting.job_id,
                error=str(unavailable(error, str(error.filename))),
            )

    def _settled(self, state: DeviceQueue, waiting: Waiting, size: int) -> bool:
        """Whether a broken job file is really broken, and not half written by its submitter."""
        if self._clock.now().timestamp() - waiting.modified_ns / 1e9 > _OLD:
            return True
        now = self._clock.monotonic()
        known = state.unreadable.get(waiting.job_id)
        if known is None or known[0] != size:
            state.unreadable[waiting.job_id] = (size, now)
            return False
        return now - known[1] >= SETTLED_AFTER
