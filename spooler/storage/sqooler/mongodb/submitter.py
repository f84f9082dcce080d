"""The submitter's view of a MongoDB storage: where a job stands is what the ledger says."""

from __future__ import annotations

from bson.objectid import ObjectId
from pymongo.errors import DuplicateKeyError

from spooler.errors import NotCancellable
from spooler.model.result import Result
from spooler.storage.sqooler.client.mongodb import MongodbProviderExtended
from spooler.storage.sqooler.envelope import STORED
from spooler.storage.sqooler.mongodb.claims.large import LargeResults
from spooler.storage.sqooler.mongodb.claims.ledger import HELD
from spooler.storage.sqooler.mongodb.client import translated
from spooler.storage.sqooler.mongodb.layout import TAKEN, MongoLayout, Phase
from spooler.storage.sqooler.submitter import SqoolerSubmitter, Times, times_in

_DECIDED = [Phase.COMMITTED.value, Phase.ENDED.value]


class MongoSubmitter(SqoolerSubmitter):
    """A submitter over a MongoDB server."""

    def __init__(self, provider: MongodbProviderExtended) -> None:
        super().__init__(provider)
        self._provider = provider
        self._layout = MongoLayout(provider.client, provider.address.prefix)

    def result(self, device: str, job_id: str) -> Result:
        """A result too large for a document is read from beside it, and its digest checked."""
        header = self._said(device, job_id).get("header")
        stored = header.get(STORED) if isinstance(header, dict) else None
        if not isinstance(stored, dict):
            return super().result(device, job_id)
        with translated(self._provider.address):
            return LargeResults(self._layout).fetch(stored)

    def _stands(self, device: str, job_id: str) -> tuple[bool, bool]:
        """A job's body stays in its queue while it runs; the ledger says who has it."""
        waits = self._provider.exists(f"jobs/queued/{device}", job_id)
        with translated(self._provider.address):
            said = self._layout.ledger(device).find_one(
                {"_id": ObjectId(job_id)}, {"phase": 1, "cancelled": 1}
            )
        said = said or {}
        return waits and said.get("phase") not in TAKEN, bool(said.get("cancelled"))

    def _waiting(self, device: str) -> int:
        queue, ledger = self._layout.queue(device), self._layout.ledger(device)
        with translated(self._provider.address):
            lying = queue.count_documents({"_id": {"$type": "objectId"}})
            return max(0, lying - ledger.count_documents(HELD)) if lying else 0

    def _times(self, device: str, job_id: str) -> Times:
        with translated(self._provider.address):
            said = self._layout.ledger(device).find_one(
                {"_id": ObjectId(job_id)}, {"started_at": 1, "finished_at": 1, "jws": 1}
            )
        return times_in(said or {})

    def _withdraw(self, device: str, job_id: str) -> bool:
        """Of a job that has ended there is an entry that the condition does not meet."""
        ledger, number = self._layout.ledger(device), ObjectId(job_id)
        with translated(self._provider.address):
            for last in (False, True):
                try:
                    ledger.update_one(
                        {"_id": number, "phase": {"$nin": _DECIDED}},
                        {"$set": {"cancelled": True}},
                        upsert=True,
                    )
                    break
                except DuplicateKeyError:
                    # It has ended, or somebody has made its entry at this very moment.
                    if last or ledger.find_one({"_id": number, "phase": {"$in": _DECIDED}}):
                        raise NotCancellable(f"job {job_id} has already ended") from None
        return self._stands(device, job_id)[0]
