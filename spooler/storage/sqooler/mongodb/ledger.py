"""The ledger of the jobs of one device: who holds which, until when, by the server's clock.

A server's clock can be set back, and what was to last for seconds would last for days. So a lease
has also run out when we have watched it unchanged for its time, and a delay that began in the
future is over.

Each verb is one conditional write of one document, so it has happened or it has not, and who
comes late finds the condition unmet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from bson.objectid import ObjectId
from pymongo import ASCENDING, ReturnDocument
from pymongo.errors import DuplicateKeyError, OperationFailure

from spooler.errors import LeaseLost
from spooler.model.claim import Claim, Owner
from spooler.model.job import Job
from spooler.storage.sqooler.mongodb.client import Document
from spooler.storage.sqooler.mongodb.entries import Entry, claim_of, dead, entry_of, owner_document
from spooler.storage.sqooler.mongodb.layout import (
    LEDGER_INDEX,
    Documents,
    MongoLayout,
    Phase,
    ledger_of,
    number_of,
    passed,
)
from spooler.storage.sqooler.mongodb.unchanged import UnchangedLeases

logger = logging.getLogger("spooler.storage")

_EPOCH = datetime.fromtimestamp(0, UTC)
#: What an end leaves behind is of no use to who asks for claims, and may be large.
_WITHOUT_END = {"end": 0, "jws": 0}
#: Open entries, in the words of their index.
OPEN = {"until": {"$gte": _EPOCH}}
#: What stood there before, or nothing where that is not what it should be.
_COUNTED = {"$convert": {"input": "$counted", "to": "int", "onError": 0, "onNull": 0}}
_HISTORY = {"$cond": [{"$isArray": "$history"}, "$history", []]}


class MongoLedger:
    """Who holds which job. `now` is the server's time in the words of an aggregation."""

    def __init__(
        self, layout: MongoLayout, now: Callable[[], Any], monotonic: Callable[[], float]
    ) -> None:
        self._layout = layout
        self.now = now
        self._indexed: set[str] = set()
        self._unchanged = UnchangedLeases(monotonic)
        self._told: set[tuple[str, Any]] = set()

    def of(self, device: str) -> Documents:
        """The ledger of a device, its index made before the first use."""
        ledger = self._layout.ledger(device)
        if device not in self._indexed:
            try:
                ledger.create_index([("until", ASCENDING)], name=LEDGER_INDEX, sparse=True)
            except OperationFailure as error:
                if error.code not in _NOT_OURS_TO_MAKE:
                    raise
            self._indexed.add(device)
        return ledger

    # --- taking -----------------------------------------------------------------------------

    def take(self, job: Job, owner: Owner, ttl: float, token: str) -> Claim | None:
        """Make a waiting job ours; None when somebody was faster.

        A job that nobody has claimed before has no document, or one that only says that it is
        withdrawn: it is made here, and of several makers the server lets one have it.
        """
        now = self.now()
        lease = {
            "phase": Phase.HELD.value,
            "token": token,
            "attempt": {"$add": [_COUNTED, 1]},
            "owner": {"$literal": owner_document(owner)},
            "started": False,
            "until": _after(now, ttl),
            "ttl": _milliseconds(ttl),
        }
        due = {"$or": [passed("$until", now), {"$not": [passed("$since", now)]}]}
        granted = {"$cond": [due, {"$mergeObjects": ["$$ROOT", lease]}, "$$ROOT"]}
        try:
            said = self.of(job.device).find_one_and_update(
                {"_id": number_of(job.id), "phase": {"$in": [None, Phase.WAITING.value]}},
                [{"$replaceWith": granted}],
                upsert=True,
                projection=_WITHOUT_END,
                return_document=ReturnDocument.AFTER,
            )
        except DuplicateKeyError:
            said = self._of_token(job.device, number_of(job.id), owner, token)
        return claim_of(job, owner, said) if said and said.get("token") == token else None

    def recall(self, device: str, owner: Owner, token: str) -> Claim | None:
        """The claim that a call with this token has made before its answer was lost."""
        said = self.of(device).find_one(
            {**OPEN, "phase": Phase.HELD.value, "token": token, "owner.process": owner.process},
            _WITHOUT_END,
        )
        return None if said is None else claim_of(Job(str(said["_id"]), device), owner, said)

    def _of_token(self, device: str, number: ObjectId, owner: Owner, token: str) -> Document | None:
        """The entry of a refused job, if it was this very call that has taken it.

        When an answer is lost the driver asks again by itself. MongoDB knows such a repeat and
        gives the first answer; a server that only speaks its language may do it anew, and refuse.
        """
        mine = {"phase": Phase.HELD.value, "token": token, "owner.process": owner.process}
        return self.of(device).find_one({"_id": number, **mine}, _WITHOUT_END)

    # --- holding ----------------------------------------------------------------------------

    def renew(self, claim: Claim, ttl: float, *, started: bool) -> Claim:
        said = self.of(claim.job.device).find_one_and_update(
            {**fence(claim), "phase": Phase.HELD.value},
            [
                {
                    "$set": {
                        "until": _after(self.now(), ttl),
                        "ttl": _milliseconds(ttl),
                        **({"started": True} if started else {}),
                    }
                }
            ],
            projection={"cancelled": 1, "started": 1},
            return_document=ReturnDocument.AFTER,
        )
        if said is None:
            raise lost(claim)
        return replace(
            claim,
            started=bool(said.get("started")),
            cancelled=bool(said.get("cancelled")),
        )

    def give_back(self, claim: Claim, reason: str, *, refund: bool, delay: float) -> None:
        """The body has never left its place in the queue, so the job has its place again."""
        now = self.now()
        back: Document = {
            "phase": Phase.WAITING.value,
            "since": now,
            "until": _after(now, delay),
        }
        if not refund:
            past = {
                "number": "$attempt",
                "owner": {"$literal": str(claim.owner)},
                "at": now,
                "ended": {"$literal": reason.encode("utf-8", "replace").decode()},
            }
            back["counted"] = "$attempt"
            back["history"] = {"$concatArrays": [_HISTORY, [past]]}
        said = self.of(claim.job.device).update_one(
            {**fence(claim), "phase": Phase.HELD.value},
            [{"$set": back}, {"$unset": ["token", "owner", "attempt", "started", "ttl"]}],
        )
        if not said.matched_count:
            raise lost(claim)

    # --- taking over ------------------------------------------------------------------------

    def expired(self, device: str, owner: Owner, spare: Collection[str]) -> list[Entry]:
        """The claims whose lease ran out, or whose process is certainly dead."""
        found = list(self._open(device, spare))
        unchanged = self._unchanged.of(device, found)
        entries = []
        for each in found:
            if each["late"] or each["_id"] in unchanged or dead(each.get("owner"), owner):
                entry = entry_of(each)
                if entry is None:
                    self.tell_of_unreadable(device, each["_id"])
                else:
                    entries.append(entry)
        return entries

    def _open(self, device: str, spare: Collection[str]) -> Iterable[Document]:
        """The entries that are held or committed by others; `late` by the server's clock."""
        return self.of(device).aggregate(
            [
                {
                    "$match": {
                        **OPEN,
                        "phase": {"$in": [Phase.HELD.value, Phase.COMMITTED.value]},
                        "token": {"$nin": list(spare)},
                    }
                },
                {
                    "$project": {
                        **dict.fromkeys(("phase", "token", "attempt", "until", "owner", "ttl"), 1),
                        "late": passed("$until", self.now()),
                    }
                },
            ]
        )

    def tell_of_unreadable(self, device: str, number: Any) -> None:
        """Tell once of an entry that is none of ours; it is left alone, and so is its job."""
        if (device, number) not in self._told:
            self._told.add((device, number))
            logger.warning(
                "the entry %s in jobs/%s is not one of spooler's, so its job stays where it is; "
                "correct the entry, or remove it to have the job run",
                *(number, ledger_of(device)),
            )

    def take_over(
        self, device: str, entry: Entry, owner: Owner, ttl: float, token: str
    ) -> Claim | None:
        """Make somebody's claim ours; None when somebody was faster, or it was renewed."""
        said = self.of(device).find_one_and_update(
            {
                "_id": entry.number,
                "phase": Phase.HELD.value,
                "token": entry.token,
                "attempt": entry.attempt,
                "until": entry.until,
            },
            [
                {
                    "$set": {
                        "token": token,
                        "owner": {"$literal": owner_document(owner)},
                        "until": _after(self.now(), ttl),
                        "ttl": _milliseconds(ttl),
                    }
                }
            ],
            projection=_WITHOUT_END,
            return_document=ReturnDocument.AFTER,
        )
        if said is None:
            said = self._of_token(device, entry.number, owner, token)
        return None if said is None else claim_of(Job(str(entry.number), device), owner, said)

    def held(self, device: str) -> int:
        """How many jobs somebody holds."""
        return self.of(device).count_documents({**OPEN, "phase": Phase.HELD.value})


#: Not permitted; or an index of that name, or of those keys, is there with other options.
_NOT_OURS_TO_MAKE = {13, 85, 86}


def fence(claim: Claim) -> Document:
    """What a ledger document must say for a write about this claim."""
    return {
        "_id": number_of(claim.job.id),
        "token": claim.token,
        "attempt": claim.attempt,
        "owner.process": claim.owner.process,
    }


def lost(claim: Claim) -> LeaseLost:
    """What is said of a claim that is not ours any more."""
    return LeaseLost(
        f"job {claim.job.id} is no longer held by {claim.owner} (attempt {claim.attempt})"
    )


def _after(now: Any, seconds: float) -> Document:
    return {"$add": [now, _milliseconds(seconds)]}


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
