"""A local folder as one end of a migration."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spooler.migrate.side import QUEUED, RUNNING, Past, Side
from spooler.storage.sqooler.client.core import NotADocument
from spooler.storage.sqooler.client.local import LocalProviderExtended, encode

#: Where waiting jobs lie that were taken out of a folder's queue.
_MOVING = "spooler/moving"
_CLAIMS = "spooler/claims"
#: Nanoseconds between the ages of two files.
_TICK = 1000


class FolderSide(Side):
    """A local folder."""

    def __init__(self, documents: LocalProviderExtended) -> None:
        super().__init__(documents)
        self._base = Path(documents.base_path)
        self._disk = documents.disk
        self._youngest: dict[str, int] = {}

    def demand_storable(self, path: str, document_id: str, content: Mapping[str, Any]) -> None:
        del path, document_id
        encode(content)

    def claimed(self) -> int:
        above = self._base / _CLAIMS
        queues = self._disk.names(above)
        claims = sum(len(self._disk.names(above / queue)) for queue in queues)
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
            with self._disk.entries(path) as entries:
                ages = (each.stat(follow_symlinks=False).st_mtime_ns for each in entries)
                self._youngest[device] = max(ages, default=0)
        self.write(f"{QUEUED}/{device}", job_id, content)
        self._grow_younger(path / f"{job_id}.json", device)

    def _grow_younger(self, file: Path, device: str) -> None:
        """Files of one tick of the file system's clock would have no order."""
        try:
            age = self._disk.look(file).st_mtime_ns
            if age <= self._youngest[device]:
                age = self._youngest[device] + _TICK
                self._disk.set_age(file, age)
        except FileNotFoundError:
            return  # a daemon has claimed it already
        self._youngest[device] = age


def _cancels(device: str) -> str:
    return f"spooler/cancels/{device}"


def _history(device: str) -> str:
    return f"spooler/history/{device}"
