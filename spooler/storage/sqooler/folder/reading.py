"""Reads what others may have written: documents of ours, and jobs."""

from __future__ import annotations

import hashlib
import json
import threading
from typing import Any

from spooler.clock import moment
from spooler.durable import Disk, Place, unavailable
from spooler.model.job import Job
from spooler.model.json import unique
from spooler.protocols import Clock
from spooler.storage.kit.payloads import Decoded, decode, too_large
from spooler.storage.sqooler.folder.layout import JOB_ID

#: Bytes of a document that are taken into memory.
_LARGEST = 16 * 1024 * 1024
#: A job file that cannot be read as JSON may still be being written in place: so long (seconds)
#: it must not change before it is taken for broken ...
SETTLED_AFTER = 2.0
#: ... or so long, unless the settings say otherwise, where only its end is missing: an upload
#: over a bad line pauses.
UPLOAD_PAUSE = 30.0
#: One that is older than this by the wall clock is taken as it is.
_OLD = 3600.0


def document(disk: Disk, place: Place, *, limit: int = _LARGEST) -> dict[str, Any]:
    """Return the JSON object at a place; empty when there is none, or something else."""
    try:
        content = disk.read(place, limit=limit)
        whole = len(content) <= limit
        found = json.loads(content, object_pairs_hook=unique) if whole else None
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class JobReader:
    """Reads job files, at most `max_payload` bytes of each."""

    def __init__(self, disk: Disk, max_payload: int) -> None:
        self._disk = disk
        self._max_payload = max_payload

    def waiting(self, queue: str, job_id: str, place: str, size: int, modified_ns: int) -> Job:
        """Return the job in a file; FileNotFoundError when it is gone."""
        content = (
            self._disk.read(place, limit=self._max_payload) if size <= self._max_payload else b""
        )
        size = max(size, len(content))
        whole = size <= self._max_payload
        decoded = self._decoded(job_id, content) if whole else too_large(size, self._max_payload)
        digest = hashlib.sha256(content).hexdigest() if whole else ""
        submitted = moment(modified_ns / 1e9)
        return Job(job_id, queue, decoded.payload, digest, decoded.defect, submitted)

    def claimed(self, queue: str, job_id: str, place: str) -> Job:
        """Return the job in a claim. Its submitter owns the file, and may have closed it to us."""
        found = self._disk.look(place)
        try:
            return self.waiting(queue, job_id, place, found.st_size, found.st_mtime_ns)
        except PermissionError as error:
            defect = str(unavailable(error, f"job {job_id}"))
            submitted = moment(found.st_mtime)
            return Job(job_id, queue, defect=defect, submitted_at=submitted)

    @staticmethod
    def _decoded(job_id: str, content: bytes) -> Decoded:
        if JOB_ID.match(job_id):
            return decode(content)
        return Decoded(
            defect=f"the job id {job_id!r} is not 24 hex digits; "
            "submit through upload_job, which makes such an id"
        )


class Settling:
    """Tells broken job files from those that their submitters are still writing."""

    def __init__(self, clock: Clock, upload_pause: float = UPLOAD_PAUSE) -> None:
        self._clock = clock
        self._upload_pause = upload_pause
        self._lock = threading.Lock()
        #: By job: how long the file was and when it was written last, and since when we know that.
        self._known: dict[str, tuple[tuple[int, int], float]] = {}

    def broken(self, job_id: str, size: int, modified_ns: int, *, incomplete: bool) -> bool:
        """Return whether an unreadable file is to be taken as it is.

        `incomplete`: only its end is missing, so that an upload may have paused.
        """
        wait = self._upload_pause if incomplete else SETTLED_AFTER
        if self._clock.now().timestamp() - modified_ns / 1e9 > max(_OLD, wait):
            return True
        now, seen = self._clock.monotonic(), (size, modified_ns)
        with self._lock:
            known = self._known.get(job_id)
            if known is None or known[0] != seen:
                self._known[job_id] = (seen, now)
                return False
            return now - known[1] >= wait

    def forget(self, job_id: str) -> None:
        """The file can be read, or is gone."""
        with self._lock:
            self._known.pop(job_id, None)
