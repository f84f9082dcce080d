"""A sqooler storage as one end of a migration: what is where, as JSON, and the waiting jobs.

The age of waiting jobs is kept as each storage knows it. In a folder it is the time of the file:
files are written in order, each with a later time than the one before. In MongoDB it is the
order of insertion, and jobs are inserted in order.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spooler.storage.sqooler.core import NotADocument
from spooler.storage.sqooler.local import LocalProviderExtended, encode
from spooler.storage.sqooler.provider import StorageProvider

CONFIGS, PUBLIC_KEYS = "backends/configs", "backends/public_keys"
QUEUED, RUNNING, FINISHED, DELETED = "jobs/queued", "jobs/running", "jobs/finished", "jobs/deleted"
#: Documents that are about something, and the field that says what.
NAMED = {CONFIGS: "display_name", PUBLIC_KEYS: "kid"}
#: Where waiting jobs lie that were taken out of a folder's queue.
_MOVING = "spooler/moving"
#: Nanoseconds between the ages of two files.
_TICK = 1000


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of a waiting job: withdrawn or not, and attempts that ended without report.

    An attempt says `number, owner, at` (ISO text) and `ended`.
    """

    cancelled: bool = False
    attempts: Sequence[Mapping[str, Any]] = ()


class Side(ABC):
    """One end of a migration."""

    def __init__(self, documents: StorageProvider) -> None:
        self.documents = documents

    def paths(self) -> list[str]:
        """The paths whose documents go along, in the order of copying.

        What a reader of a job looks for comes before the job; waiting jobs are not in it.
        """
        found = [PUBLIC_KEYS, CONFIGS]
        for above in ("results", "spooler/reports", "status", FINISHED):
            found += (f"{above}/{name}" for name in self.documents.branches(above))
        return [*found, DELETED]

    def read(self, path: str, document_id: str) -> dict[str, Any]:
        """A document as JSON. FileNotFoundError, or NotADocument with the reason."""
        return self.documents.get(path, document_id)

    def write(self, path: str, document_id: str, content: Mapping[str, Any]) -> None:
        """A new document."""
        self.documents.upload(content, path, document_id)

    @abstractmethod
    def demand_storable(self, path: str, document_id: str, content: Mapping[str, Any]) -> None:
        """ValueError when this storage could not hold the document."""

    @abstractmethod
    def claimed(self) -> int:
        """How many jobs are in somebody's hands."""

    # --- waiting jobs --------------------------------------------------------------------------

    def queues(self) -> list[str]:
        """The devices that may have waiting jobs."""
        return self.documents.branches(QUEUED)

    @abstractmethod
    def waiting(self, device: str) -> list[str]:
        """The jobs that nobody holds, the oldest first."""

    @abstractmethod
    def in_hand(self, device: str) -> list[str]:
        """The jobs that `take_out` has taken and `put_away` has not seen, the oldest first."""

    @abstractmethod
    def body(self, device: str, job_id: str) -> dict[str, Any]:
        """The body of a job that waits or is in hand; FileNotFoundError when it is neither."""

    @abstractmethod
    def past(self, device: str, job_id: str) -> Past:
        """What else is known of such a job."""

    @abstractmethod
    def take_out(self, device: str, job_id: str) -> bool:
        """Keep a waiting job from every daemon, in one step; False when somebody has it."""

    @abstractmethod
    def put_away(self, device: str, job_id: str) -> None:
        """Remove a job in hand for good."""

    @abstractmethod
    def queue(self, device: str, job_id: str, content: Mapping[str, Any], past: Past) -> None:
        """Add a job, younger than all that wait; what is known of it comes first."""

    def close(self) -> None:
        """Let go of connections."""
        self.documents.close()


class FolderSide(Side):
    """A local folder."""

    def __init__(self, documents: LocalProviderExtended) -> None:
        super().__init__(documents)
        self._base = Path(documents.base_path)
        self._youngest: dict[str, int] = {}

    def demand_storable(self, path: str, document_id: str, content: Mapping[str, Any]) -> None:
        del path, document_id
        encode(content)

    def claimed(self) -> int:
        claims = sum(1 for _ in self._base.glob("spooler/claims/*/*"))
        return max(claims, len(self.documents.ids(RUNNING)))

    def queues(self) -> list[str]:
        return sorted({*super().queues(), *self.documents.branches(_MOVING)})

    def waiting(self, device: str) -> list[str]:
        return self.documents.ids(f"{QUEUED}/{device}")

    def in_hand(self, device: str) -> list[str]:
        return self.documents.ids(f"{_MOVING}/{device}")

    def body(self, device: str, job_id: str) -> dict[str, Any]:
        try:
            return self.documents.get(f"{_MOVING}/{device}", job_id)
        except FileNotFoundError:
            return self.documents.get(f"{QUEUED}/{device}", job_id)

    def past(self, device: str, job_id: str) -> Past:
        cancelled = self.documents.exists(_cancels(device), job_id)
        try:
            history = self.documents.get(_history(device), job_id)
        except (FileNotFoundError, NotADocument):
            return Past(cancelled)
        attempts = history.get("attempts")
        return Past(cancelled, tuple(attempts) if isinstance(attempts, list) else ())

    def take_out(self, device: str, job_id: str) -> bool:
        try:
            self.documents.move(f"{QUEUED}/{device}", f"{_MOVING}/{device}", job_id)
        except FileNotFoundError:
            return False
        return True

    def put_away(self, device: str, job_id: str) -> None:
        for path in (_history(device), _cancels(device), f"{_MOVING}/{device}"):
            with suppress(FileNotFoundError):
                self.documents.delete(path, job_id)

    def queue(self, device: str, job_id: str, content: Mapping[str, Any], past: Past) -> None:
        with suppress(FileExistsError):
            if past.cancelled:
                self.write(_cancels(device), job_id, {"job_id": job_id})
        if past.attempts:
            since = datetime.now(UTC).isoformat()
            history = {"attempts": list(past.attempts), "since": since, "delay": 0.0}
            with suppress(FileExistsError):
                self.write(_history(device), job_id, history)
        path = self._base / QUEUED / device
        if device not in self._youngest:
            ages = (file.stat().st_mtime_ns for file in path.glob("*.json"))
            self._youngest[device] = max(ages, default=0)
        self.write(f"{QUEUED}/{device}", job_id, content)
        self._grow_younger(path / f"{job_id}.json", device)

    def _grow_younger(self, file: Path, device: str) -> None:
        """Files of one tick of the file system's clock would have no order."""
        try:
            age = file.stat().st_mtime_ns
            if age <= self._youngest[device]:
                age = self._youngest[device] + _TICK
                os.utime(file, ns=(age, age))
        except FileNotFoundError:
            return  # a daemon has claimed it already
        self._youngest[device] = age


def _cancels(device: str) -> str:
    return f"spooler/cancels/{device}"


def _history(device: str) -> str:
    return f"spooler/history/{device}"
