"""A MongoDB server as one end of a migration.

A waiting job is in its queue, and the ledger says of none that somebody has it. A job that was
taken out has the entry of an ended one, with a mark: no daemon claims it, not even one that
has seen it in the queue before. The entry stays when the job has gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bson.objectid import ObjectId
from pymongo.errors import DuplicateKeyError

from spooler.migrate.side import QUEUED, RUNNING, Past, Side
from spooler.signing.sqooler_form import payload_of
from spooler.storage.sqooler.client.core import NotADocument, Place
from spooler.storage.sqooler.client.mongodb import MongodbProviderExtended
from spooler.storage.sqooler.client.names import check_path
from spooler.storage.sqooler.envelope import STORED
from spooler.storage.sqooler.mongodb.client import Document, translated
from spooler.storage.sqooler.mongodb.documents import as_json, encode
from spooler.storage.sqooler.mongodb.layout import TAKEN, MongoLayout, Phase
from spooler.storage.sqooler.mongodb.places import new_id

#: The key in the ledger of a job that was taken out.
_MOVED = "moved"
_LONG_AGO = datetime.fromtimestamp(0, UTC)
_BATCH = 1000


class MongoSide(Side):
    """A MongoDB server."""

    def __init__(self, documents: MongodbProviderExtended) -> None:
        super().__init__(documents)
        self._address = documents.address
        self._layout = MongoLayout(documents.client, documents.address.prefix)

    def read(self, path: str, document_id: str) -> dict[str, Any]:
        plain: dict[str, Any] = as_json(super().read(path, document_id))
        header = payload_of(plain).get("header")
        if path.startswith("results/") and isinstance(header, dict) and STORED in header:
            raise NotADocument(
                "its data is too large for a document and lies beside it, so it stays here; "
                "save it with: spooler result"
            )
        return plain

    def demand_storable(self, path: str, document_id: str, content: Mapping[str, Any]) -> None:
        encode(content, new_id(Place(check_path(path), document_id)))

    def claimed(self) -> int:
        held = {"phase": {"$in": [Phase.HELD.value, Phase.COMMITTED.value]}}
        count = len(self.documents.ids(RUNNING))
        for device in self.documents.branches("jobs/spooler"):
            with translated(self._address):
                # An entry that is decided on has a time, and by it an index.
                query = {"until": {"$type": "date"}, **held}
                count += self._layout.ledger(device).count_documents(query)
        return count

    # --- waiting jobs --------------------------------------------------------------------------

    def waiting(self, device: str) -> list[str]:
        queue = self.documents.ids(f"{QUEUED}/{device}")
        taken = self._taken(device, queue)
        return [job_id for job_id in queue if job_id not in taken]

    def in_hand(self, device: str) -> list[str]:
        queue = self.documents.ids(f"{QUEUED}/{device}")
        taken = self._taken(device, queue)
        return [job_id for job_id in queue if taken.get(job_id)]

    def _taken(self, device: str, queue: list[str]) -> dict[str, bool]:
        """Of the jobs in a queue those that no daemon may claim, and whether that is our doing."""
        found: dict[str, bool] = {}
        with translated(self._address):
            for start in range(0, len(queue), _BATCH):
                numbers = [ObjectId(each) for each in queue[start : start + _BATCH]]
                query = {"_id": {"$in": numbers}, "phase": {"$in": TAKEN}}
                for said in self._layout.ledger(device).find(query, {_MOVED: 1}):
                    found[str(said["_id"])] = bool(said.get(_MOVED))
        return found

    def body(self, device: str, job_id: str) -> dict[str, Any]:
        return self.read(f"{QUEUED}/{device}", job_id)

    def past(self, device: str, job_id: str) -> Past:
        with translated(self._address):
            said = self._layout.ledger(device).find_one(
                {"_id": ObjectId(job_id)}, {"cancelled": 1, "history": 1}
            )
        said = said or {}
        return Past(bool(said.get("cancelled")), tuple(as_json(said.get("history") or [])))

    def take_out(self, device: str, job_id: str) -> bool:
        with translated(self._address):
            try:
                self._layout.ledger(device).update_one(
                    {"_id": ObjectId(job_id), "phase": {"$in": [None, Phase.WAITING.value]}},
                    {"$set": {"phase": Phase.ENDED.value, _MOVED: True}, "$unset": {"until": ""}},
                    upsert=True,
                )
            except DuplicateKeyError:
                return False
        return True

    def put_away(self, device: str, job_id: str) -> None:
        self.documents.delete(f"{QUEUED}/{device}", job_id)

    def queue(self, device: str, job_id: str, content: Mapping[str, Any], past: Past) -> None:
        number = ObjectId(job_id)
        with translated(self._address):
            ledger = self._layout.ledger(device)
            # From when it was here before and moved away.
            ledger.delete_one({"_id": number, _MOVED: True})
            if past.cancelled or past.attempts:
                ledger.update_one({"_id": number}, {"$setOnInsert": _entry(past)}, upsert=True)
        self.write(f"{QUEUED}/{device}", job_id, content)


def _entry(past: Past) -> Document:
    """Return what the ledger says of a waiting job with a past."""
    attempts = [
        {
            "number": each["number"],
            "owner": each["owner"],
            "at": datetime.fromisoformat(each["at"]),
            "ended": each["ended"],
        }
        for each in past.attempts
    ]
    entry: Document = {
        "phase": Phase.WAITING.value,
        "until": _LONG_AGO,
        "counted": max((each["number"] for each in attempts), default=0),
        "history": attempts,
    }
    return {**entry, "cancelled": True} if past.cancelled else entry
