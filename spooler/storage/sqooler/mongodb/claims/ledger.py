"""The ledger of the jobs of one queue: who holds which, until when, by the server's clock.

A server's clock can be set back, and what was to last for seconds would last for days. So a lease
has also run out when we have watched it unchanged for its time, and a delay that began in the
future is over.

Each verb is one conditional write of one document, so it has happened or it has not, and who
comes late finds the condition unmet. Whatever stands in a ledger, reading it fails nobody: only
spooler writes there, but others may write to the same database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from bson.objectid import ObjectId
from pymongo import ASCENDING, ReturnDocument
from pymongo.errors import DuplicateKeyError, OperationFailure

from spooler.errors import LeaseLost
from spooler.model.claim import Attempt, Claim, Lease, Owner
from spooler.model.job import Job
from spooler.model.storage import Standing
from spooler.observe.logger import get_logger
from spooler.protocols import Judge
from spooler.storage.kit.watched import Seen, Watched
from spooler.storage.sqooler.mongodb.client import Document
from spooler.storage.sqooler.mongodb.layout import (
    LEDGER_INDEX,
    Documents,
    MongoLayout,
    Phase,
    ledger_of,
    number_of,
    passed,
)

logger = get_logger("spooler.storage")

EPOCH = datetime.fromtimestamp(0, UTC)
#: What an end leaves behind is of no use to who asks for claims, and may be large.
_WITHOUT_END = {"end": 0, "jws": 0}
#: Open entries, in the words of their index.
OPEN = {"until": {"$gte": EPOCH}}
#: Jobs that somebody holds.
HELD = {**OPEN, "phase": Phase.HELD.value}
#: What stood there before, or nothing where that is not what it should be.
_COUNTED = {"$convert": {"input": "$counted", "to": "int", "onError": 0, "onNull": 0}}
_HISTORY = {"$cond": [{"$isArray": "$history"}, "$history", []]}
#: Not permitted; or an index of that name, or of those keys, exists with other options.
_NOT_OURS_TO_MAKE = {13, 85, 86}


@dataclass(frozen=True, slots=True)
class Open:
    """A claim of somebody's that is held or committed, and the end of its lease."""

    number: ObjectId
    claim: Claim
    phase: Phase
    until: datetime


class MongoLedger:
    """Who holds which job. `now` is the server's time in the words of an aggregation."""

    def __init__(
        self, layout: MongoLayout, now: Callable[[], Any], monotonic: Callable[[], float]
    ) -> None:
        self._layout = layout
        self.now = now
        self._indexed: set[str] = set()
        self._watched: Watched[str] = Watched(monotonic)
        self._told: set[tuple[str, str]] = set()

    def of(self, queue: str) -> Documents:
        """Return the ledger of a queue, its index made before the first use."""
        ledger = self._layout.ledger(queue)
        if queue not in self._indexed:
            try:
                ledger.create_index([("until", ASCENDING)], name=LEDGER_INDEX, sparse=True)
            except OperationFailure as error:
                if error.code not in _NOT_OURS_TO_MAKE:
                    raise
            self._indexed.add(queue)
        return ledger

    # --- taking -----------------------------------------------------------------------------

    def take(self, job: Job, lease: Lease) -> Claim | str:
        """Make a waiting job ours; else return which process was faster, as far as it is known.

        A job that nobody has claimed before has no document, or one that only says that it is
        withdrawn: it is made here, and of several makers the server lets one have it. What was
        refused comes back as it stands, and so says who has it.
        """
        now = self.now()
        held = {
            **_lease_document(lease, now),
            "phase": Phase.HELD.value,
            "attempt": {"$add": [_COUNTED, 1]},
            "started": False,
        }
        due = {"$or": [passed("$until", now), {"$not": [passed("$since", now)]}]}
        free = {"$and": [just_waits("$phase"), due]}
        granted = {"$cond": [free, {"$mergeObjects": ["$$ROOT", held]}, "$$ROOT"]}
        ledger, number = self.of(job.queue), number_of(job.id)
        try:
            said = ledger.find_one_and_update(
                {"_id": number},
                [{"$replaceWith": granted}],
                upsert=True,
                projection=_WITHOUT_END,
                return_document=ReturnDocument.AFTER,
            )
        except DuplicateKeyError:  # both made the document at the same moment
            said = ledger.find_one({"_id": number}, _WITHOUT_END)
        said = said or {}
        if (said.get("phase"), said.get("token")) == (Phase.HELD.value, lease.token):
            return claim_of(job, lease, said)
        return _owner_of(said.get("owner")).process

    def recall(self, queue: str, lease: Lease) -> Claim | None:
        """Return the claim that a call with this token has made before its answer was lost."""
        said = self.of(queue).find_one(
            {**OPEN, "phase": Phase.HELD.value, **_token_document(lease)}, _WITHOUT_END
        )
        return None if said is None else claim_of(Job(str(said["_id"]), queue), lease, said)

    # --- holding ----------------------------------------------------------------------------

    def renew(self, claim: Claim, *, started: bool) -> Claim:
        said = self.of(claim.job.queue).find_one_and_update(
            {**fence(claim), "phase": Phase.HELD.value},
            [
                {
                    "$set": {
                        **_term(claim.lease, self.now()),
                        **({"started": True} if started else {}),
                    }
                }
            ],
            projection={"cancelled": 1, "started": 1},
            return_document=ReturnDocument.AFTER,
        )
        if said is None:
            raise lost(claim)
        withdrawn = bool(said.get("cancelled"))
        return replace(claim, started=bool(said.get("started")), cancelled=withdrawn)

    def give_back(self, claim: Claim, reason: str, *, refund: bool, delay: float) -> None:
        """Let others have the job, which has kept its place in the queue."""
        now = self.now()
        back: Document = {"phase": Phase.WAITING.value, "since": now, "until": _after(now, delay)}
        if not refund:
            past = {
                "number": "$attempt",
                "owner": {"$literal": str(claim.lease.owner)},
                "at": now,
                "ended": {"$literal": reason.encode("utf-8", "replace").decode()},
                "started": "$started",
            }
            back["counted"] = "$attempt"
            back["history"] = {"$concatArrays": [_HISTORY, [past]]}
        said = self.of(claim.job.queue).update_one(
            {**fence(claim), "phase": Phase.HELD.value},
            [{"$set": back}, {"$unset": ["token", "owner", "attempt", "started", "ttl"]}],
        )
        if not said.matched_count:
            raise lost(claim)

    # --- taking over ------------------------------------------------------------------------

    def due(self, queue: str, judge: Judge) -> Iterator[Open]:
        """Give the claims that may be taken over, or completed: late ones, and of the dead."""
        found = list(self._open(queue))
        seen = [
            Seen(repr(each["_id"]), repr((each.get("token"), each.get("until"))), ttl / 1000)
            for each in found
            if isinstance(ttl := each.get("ttl"), int)
        ]
        unchanged = self._watched.run_out(queue, seen)
        for said in found:
            each = _open_of(queue, said)
            if each is None:
                self.tell_of_unreadable(queue, said["_id"])
                continue
            late = said["late"] or repr(said["_id"]) in unchanged
            standing = judge(each.claim)
            if standing is Standing.DEAD or (standing is Standing.LEASED and late):
                yield each

    def _open(self, queue: str) -> Iterator[Document]:
        """Give the entries that are held or committed; `late` by the server's clock."""
        wanted = {**OPEN, "phase": {"$in": [Phase.HELD.value, Phase.COMMITTED.value]}}
        late = {"late": passed("$until", self.now())}
        shown = {**dict.fromkeys(_SHOWN, 1), **late}
        yield from self.of(queue).aggregate([{"$match": wanted}, {"$project": shown}])

    def tell_of_unreadable(self, queue: str, number: Any) -> None:
        """Log once that an entry is not ours; it is left alone, and so is its job."""
        self.tell_once(
            queue,
            number,
            f"the entry {number} in jobs/{ledger_of(queue)} is not one of spooler's, so its job "
            "stays where it is; correct the entry, or remove it to have the job run",
        )

    def tell_once(self, queue: str, number: Any, text: str) -> None:
        """Log something about an entry, the first time."""
        if (queue, repr(number)) not in self._told:
            self._told.add((queue, repr(number)))
            logger.warning("%s", text)

    def take_over(self, open_claim: Open, lease: Lease) -> Claim | None:
        """Make somebody's claim ours; None when somebody was faster, or it was renewed."""
        old, queue = open_claim.claim, open_claim.claim.job.queue
        said = self.of(queue).find_one_and_update(
            {**fence(old, whoever=True), "phase": Phase.HELD.value, "until": open_claim.until},
            [{"$set": _lease_document(lease, self.now())}],
            projection=_WITHOUT_END,
            return_document=ReturnDocument.AFTER,
        )
        if said is None:
            # When an answer is lost the driver asks again by itself. MongoDB knows such a repeat;
            # a server that only speaks its language may do it anew, and refuse.
            mine = {"_id": open_claim.number, "phase": Phase.HELD.value, **_token_document(lease)}
            said = self.of(queue).find_one(mine, _WITHOUT_END)
        return None if said is None else claim_of(Job(old.job.id, queue), lease, said)

    def withdrawn(self, queue: str, numbers: Sequence[ObjectId]) -> set[ObjectId]:
        """Return which of some jobs their submitters have withdrawn."""
        asked = {"_id": {"$in": list(numbers)}, "cancelled": True}
        return {each["_id"] for each in self.of(queue).find(asked, {"_id": 1})}

    def held(self, queue: str) -> int:
        """Count the jobs that somebody holds."""
        return self.of(queue).count_documents(HELD)


# --- what an entry says ------------------------------------------------------------------------

_SHOWN = ("phase", "token", "attempt", "until", "owner", "ttl", "started", "cancelled")


def just_waits(phase: Any) -> Document:
    """Ask whether nobody has a job, in the words of an aggregation."""
    return {"$eq": [{"$ifNull": [phase, Phase.WAITING.value]}, Phase.WAITING.value]}


def claim_of(job: Job, lease: Lease, said: Mapping[str, Any]) -> Claim:
    """Return the claim that an entry describes which was just made ours."""
    return Claim(
        job,
        lease,
        said["attempt"],
        started=bool(said.get("started")),
        cancelled=bool(said.get("cancelled")),
        history=_history(said.get("history")),
    )


def _open_of(queue: str, said: Mapping[str, Any]) -> Open | None:
    """Return a claim that is held or committed; None when the entry does not say whose."""
    number, token, attempt, until = (
        said.get(each) for each in ("_id", "token", "attempt", "until")
    )
    if not isinstance(number, ObjectId) or not isinstance(token, str):
        return None
    if not isinstance(attempt, int) or not isinstance(until, datetime):
        return None
    ttl = said.get("ttl")
    seconds = ttl / 1000 if isinstance(ttl, int) else 0.0
    lease = Lease(token, _owner_of(said.get("owner")), seconds)
    claim = claim_of(Job(str(number), queue), lease, said)
    return Open(number, claim, Phase(said["phase"]), until)


def _owner_of(said: Any) -> Owner:
    """Return the owner in an entry; what it does not say stays empty."""
    known = said if isinstance(said, Mapping) else {}
    host, process, estate = (
        text if isinstance(text := known.get(each), str) else ""
        for each in ("host", "process", "estate")
    )
    pid = known.get("pid")
    return Owner(host, pid if isinstance(pid, int) else 0, process, estate)


def _history(said: Any) -> tuple[Attempt, ...]:
    """Return the earlier attempts; what is none is left out."""
    found = []
    for each in said if isinstance(said, list) else ():
        if not isinstance(each, Mapping):
            continue
        number, at = each.get("number"), each.get("at")
        if isinstance(number, int) and isinstance(at, datetime) and {"owner", "ended"} <= set(each):
            ended, started = str(each["ended"]), bool(each.get("started"))
            found.append(Attempt(number, str(each["owner"]), at, ended, started=started))
    return tuple(found)


# --- what an entry is told ---------------------------------------------------------------------


def fence(claim: Claim, *, whoever: bool = False) -> Document:
    """Return what an entry must say for a write about this claim."""
    wanted = {"_id": number_of(claim.job.id), "token": claim.lease.token, "attempt": claim.attempt}
    return wanted if whoever else {**wanted, "owner.process": claim.lease.owner.process}


def lost(claim: Claim) -> LeaseLost:
    """Return what is said of a claim that is not ours any more."""
    return LeaseLost(
        f"job {claim.job.id} is no longer held by {claim.lease.owner} (attempt {claim.attempt})"
    )


def _token_document(lease: Lease) -> Document:
    return {"token": lease.token, "owner.process": lease.owner.process}


def _lease_document(lease: Lease, now: Any) -> Document:
    owner = lease.owner
    said = {"host": owner.host, "pid": owner.pid, "process": owner.process, "estate": owner.estate}
    return {"token": lease.token, "owner": {"$literal": said}, **_term(lease, now)}


def _term(lease: Lease, now: Any) -> Document:
    return {"until": _after(now, lease.ttl), "ttl": _milliseconds(lease.ttl)}


def _after(now: Any, seconds: float) -> Document:
    return {"$add": [now, _milliseconds(seconds)]}


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
