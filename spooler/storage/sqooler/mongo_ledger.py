"""The ledger of the jobs of one device: who holds which, until when, by the server's clock.

Each verb is one conditional write of one document, so it has happened or it has not, and who
comes late finds the condition unmet.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from bson.objectid import ObjectId
from pymongo import ASCENDING, ReturnDocument
from pymongo.errors import DuplicateKeyError, OperationFailure

from spooler.errors import LeaseLost
from spooler.model.claim import Attempt, Claim, Owner
from spooler.model.job import Job
from spooler.storage.liveness import certainly_dead
from spooler.storage.sqooler.mongo_client import Document
from spooler.storage.sqooler.mongo_layout import (
    LEDGER_INDEX,
    Documents,
    MongoLayout,
    Phase,
    number_of,
    passed,
)

_EPOCH = datetime.fromtimestamp(0, UTC)
#: What an end leaves behind is of no use to who asks for claims, and may be large.
_WITHOUT_END = {"end": 0, "jws": 0}
#: Open entries, in the words of their index.
OPEN = {"until": {"$gte": _EPOCH}}


@dataclass(frozen=True, slots=True)
class Entry:
    """A claim of somebody's, as `expired` finds it."""

    number: ObjectId
    phase: Phase
    token: str
    attempt: int
    until: datetime


class MongoLedger:
    """Who holds which job. `now` is the server's time in the words of an aggregation."""

    def __init__(self, layout: MongoLayout, now: Callable[[], Any]) -> None:
        self._layout = layout
        self.now = now
        self._indexed: set[str] = set()

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
            "attempt": {"$add": [{"$ifNull": ["$counted", 0]}, 1]},
            "owner": {"$literal": _owner(owner)},
            "started": False,
            "until": _after(now, ttl),
        }
        due = passed("$until", now)
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
        return _claim(job, owner, said) if said and said.get("token") == token else None

    def recall(self, device: str, owner: Owner, token: str) -> Claim | None:
        """The claim that a call with this token has made before its answer was lost."""
        said = self.of(device).find_one(
            {**OPEN, "phase": Phase.HELD.value, "token": token, "owner.process": owner.process},
            _WITHOUT_END,
        )
        return None if said is None else _claim(Job(str(said["_id"]), device), owner, said)

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
        back: Document = {"phase": Phase.WAITING.value, "until": _after(now, delay)}
        if not refund:
            past = {
                "number": "$attempt",
                "owner": {"$literal": str(claim.owner)},
                "at": now,
                "ended": {"$literal": reason},
            }
            back["counted"] = "$attempt"
            back["history"] = {"$concatArrays": [{"$ifNull": ["$history", []]}, [past]]}
        said = self.of(claim.job.device).update_one(
            {**fence(claim), "phase": Phase.HELD.value},
            [{"$set": back}, {"$unset": ["token", "owner", "attempt", "started"]}],
        )
        if not said.matched_count:
            raise lost(claim)

    # --- taking over ------------------------------------------------------------------------

    def expired(self, device: str, owner: Owner, spare: Collection[str]) -> list[Entry]:
        """The claims whose lease ran out, or whose process is certainly dead."""
        found = self.of(device).aggregate(
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
                        **{name: 1 for name in ("phase", "token", "attempt", "until", "owner")},
                        "late": passed("$until", self.now()),
                    }
                },
            ]
        )
        return [
            Entry(each["_id"], Phase(each["phase"]), each["token"], each["attempt"], each["until"])
            for each in found
            if each["late"] or _dead(each.get("owner"), owner)
        ]

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
                        "owner": {"$literal": _owner(owner)},
                        "until": _after(self.now(), ttl),
                    }
                }
            ],
            projection=_WITHOUT_END,
            return_document=ReturnDocument.AFTER,
        )
        if said is None:
            said = self._of_token(device, entry.number, owner, token)
        return None if said is None else _claim(Job(str(entry.number), device), owner, said)

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


def _owner(owner: Owner) -> Document:
    return {"host": owner.host, "pid": owner.pid, "process": owner.process}


def _after(now: Any, seconds: float) -> Document:
    return {"$add": [now, max(0, round(seconds * 1000))]}


def _dead(said: Any, me: Owner) -> bool:
    if not isinstance(said, dict):
        return False
    try:
        owner = Owner(str(said["host"]), int(said["pid"]), str(said["process"]))
    except (KeyError, ValueError, TypeError):
        return False
    return certainly_dead(owner, me)


def _claim(job: Job, owner: Owner, said: Document) -> Claim:
    """The claim that a ledger document describes."""
    return Claim(
        job,
        owner,
        said["attempt"],
        said["token"],
        started=bool(said.get("started")),
        cancelled=bool(said.get("cancelled")),
        history=tuple(
            Attempt(each["number"], each["owner"], each["at"], each["ended"])
            for each in said.get("history", ())
        ),
    )
