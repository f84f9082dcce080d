"""A sqooler storage as one end of a migration: what is where, as JSON, and the waiting jobs.

The age of waiting jobs is kept as each storage knows it. In a folder it is the time of the file:
files are written in order, each with a later time than the one before. In MongoDB it is the
order of insertion, and jobs are inserted in order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spooler.storage.sqooler.client.provider import StorageProvider

CONFIGS, PUBLIC_KEYS = "backends/configs", "backends/public_keys"
QUEUED, RUNNING, FINISHED, DELETED = "jobs/queued", "jobs/running", "jobs/finished", "jobs/deleted"
#: Documents that are about something, and the field that says what.
NAMED = {CONFIGS: "display_name", PUBLIC_KEYS: "kid"}


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
        """Return the paths whose documents go along, in the order of copying.

        What a reader of a job looks for comes before the job; waiting jobs are not in it.
        """
        found = [PUBLIC_KEYS, CONFIGS]
        for above in ("results", "spooler/reports", "status", FINISHED):
            found += (f"{above}/{name}" for name in self.documents.branches(above))
        return [*found, DELETED]

    def read(self, path: str, document_id: str) -> dict[str, Any]:
        """Return a document as JSON. FileNotFoundError, or NotADocument with the reason."""
        return self.documents.get(path, document_id)

    def write(self, path: str, document_id: str, content: Mapping[str, Any]) -> None:
        """A new document."""
        self.documents.upload(content, path, document_id)

    @abstractmethod
    def demand_storable(self, path: str, document_id: str, content: Mapping[str, Any]) -> None:
        """ValueError when this storage could not hold the document."""

    @abstractmethod
    def claimed(self) -> int:
        """Return how many jobs are in somebody's hands."""

    # --- waiting jobs --------------------------------------------------------------------------

    def queues(self) -> list[str]:
        """Return the devices that may have waiting jobs."""
        return self.documents.branches(QUEUED)

    @abstractmethod
    def waiting(self, device: str) -> list[str]:
        """Return the jobs that nobody holds, the oldest first."""

    @abstractmethod
    def in_hand(self, device: str) -> list[str]:
        """The jobs that `take_out` has taken and `put_away` has not seen, the oldest first."""

    @abstractmethod
    def body(self, device: str, job_id: str) -> dict[str, Any]:
        """The body of a job that waits or is in hand; FileNotFoundError when it is neither."""

    @abstractmethod
    def past(self, device: str, job_id: str) -> Past:
        """Return what else is known of such a job."""

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
