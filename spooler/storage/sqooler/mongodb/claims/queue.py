"""The waiting jobs of one queue, oldest first: one listing serves many claims.

Job ids are random and sqooler writes no time, so age is the order in which the server holds the
documents, which is that of their insertion (WiredTiger numbers them as they come, and writing
about a document leaves its number). Exact on one server or replica set; a sharded queue has no
such order.

Several daemons that go through the same list meet at each job of it. So they share it out without a
word: whoever finds a job taken knows the taker from then on, and every process draws a lot for
every job, the same in everybody's eyes. A daemon takes the jobs for which it beats all it knows,
the oldest first, and then lists anew. Those whom it does not know yet it avoids by going, for
the rest of that listing, where its own lots are best. One daemon alone goes strictly by age.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from bson.objectid import ObjectId

from spooler.model.job import Job
from spooler.model.json import Json
from spooler.observe.logger import get_logger
from spooler.protocols import Clock
from spooler.storage.kit.payloads import Decoded, too_large
from spooler.storage.sqooler.client.core import NotADocument
from spooler.storage.sqooler.mongodb.claims.ledger import just_waits
from spooler.storage.sqooler.mongodb.client import Document
from spooler.storage.sqooler.mongodb.documents import as_json
from spooler.storage.sqooler.mongodb.layout import MongoLayout, ledger_of, passed

logger = get_logger("spooler.storage")

#: Jobs in one listing; bodies up to this many bytes come with it, larger ones when claimed.
LISTED = 64
_COMES_ALONG = 128 * 1024
#: A listing is trusted for so long (seconds), or for this many times what it cost.
_YOUNG, _AGE_PER_COST = 2.0, 20.0
#: Others are reckoned with for so long (seconds) after they were faster.
_RIVALS_FOR = 10.0

_DECODING: CodecOptions[dict[str, Any]] = CodecOptions(tz_aware=True)
#: What else an id can be; the index of the ids finds it, and stops when it has found enough.
_NO_JOB = [
    *("string", "int", "long", "double", "decimal", "object", "binData", "bool", "date"),
    *("null", "timestamp", "minKey", "maxKey"),
]
_FOREIGN: Document = {"_id": {"$type": _NO_JOB}}
_COUNTED = 1000
_NOT_FINITE = "the job contains NaN or Infinity; send finite numbers"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job in the queue: its size in bytes, its body when that is small, when we first saw it."""

    number: ObjectId
    size: int
    body: bytes | None
    seen: datetime


class MongoQueue:
    """Hands out the waiting jobs of one queue. Hold `lock` while you use it."""

    def __init__(
        self, layout: MongoLayout, name: str, clock: Clock, now: Callable[[], Any]
    ) -> None:
        self.name = name
        self.lock = threading.RLock()
        self._layout = layout
        self._clock = clock
        self._now = now
        self._waiting: deque[Waiting] = deque()
        self._seen: dict[ObjectId, datetime] = {}
        self._listed_at = float("-inf")
        self._cost = 0.0
        self._untouched = True
        #: Who has been faster than we, and when it was last.
        self._rivals: dict[str, float] = {}
        self._told_of_foreign = False
        #: Called with what a listing has found.
        self.listed: Callable[[set[ObjectId]], None] = lambda _: None

    def refresh(self, me: str) -> None:
        """Ask the server when what is known is used up, old, or left to the others."""
        age = self._clock.monotonic() - self._listed_at
        young = age < max(_YOUNG, _AGE_PER_COST * self._cost)
        if self._waiting and young and (self._untouched or not self._better(me, self._waiting[0])):
            return
        self.look(me)

    def look(self, me: str) -> None:
        """Ask the server: one command, however long the queue is."""
        began = self._clock.monotonic()
        found = list(self.found(LISTED))
        self._seen = {each.number: each.seen for each in found}
        self._listed_at = self._clock.monotonic()
        self._cost = self._listed_at - began
        self._untouched = True
        past = self._listed_at - _RIVALS_FOR
        self._rivals = {each: met for each, met in self._rivals.items() if met > past}
        self._waiting = self._shared(me, found)
        self.listed(set(self._seen))

    def met(self, me: str, rival: str) -> None:
        """Note who has been faster, and avoid those of whom nothing is known yet."""
        if rival in {"", me}:
            return
        known = rival in self._rivals
        self._rivals[rival] = self._clock.monotonic()
        if not known:
            self._waiting = self._shared(
                me, sorted(self._waiting, key=lambda each: _lot(me, each.number))
            )

    def _shared(self, me: str, waiting: list[Waiting]) -> deque[Waiting]:
        """First what is ours, last what most others take before us."""
        return deque(sorted(waiting, key=lambda each: self._better(me, each)))

    def _better(self, me: str, waiting: Waiting) -> int:
        """Return how many of those who are known have a better lot than we."""
        if not self._rivals:
            return 0
        ours = _lot(me, waiting.number)
        return sum(_lot(each, waiting.number) < ours for each in self._rivals)

    @property
    def used_up(self) -> bool:
        """Return whether nothing is known that could be taken."""
        return not self._waiting

    def take(self) -> Waiting | None:
        """Return the next job for us, or None."""
        self._untouched = False
        return self._waiting.popleft() if self._waiting else None

    @contextmanager
    def keeping(self, waiting: Waiting) -> Iterator[None]:
        """Put a job back to its place when what is done about it fails."""
        self._waiting.appendleft(waiting)
        yield
        self._waiting.popleft()

    def forget(self) -> None:
        """Have the next `refresh` ask the server."""
        with self.lock:
            self._waiting.clear()

    def lying(self) -> int:
        """How many jobs lie in the queue, held ones too; what is nobody's job is not counted.

        As the server estimates it, which is exact but after a crash of the server.
        """
        queue = self._layout.queue(self.name)
        lying = queue.estimated_document_count()
        if not lying or not (foreign := queue.count_documents(_FOREIGN, limit=_COUNTED)):
            return lying
        self._tell_of_foreign(foreign)
        if foreign < _COUNTED:
            return max(0, lying - foreign)
        return queue.count_documents({"_id": {"$type": "objectId"}})

    def _tell_of_foreign(self, count: int) -> None:
        """Log once that there are documents that nobody can ask for as a job; for people."""
        if self._told_of_foreign:
            return
        self._told_of_foreign = True
        first = self._layout.queue(self.name).find_one(_FOREIGN, {"_id": 1})
        logger.warning(
            "the queue %r holds %d%s documents whose ids are no ObjectIds, such as "
            "%r; they are no jobs and are ignored, but slow down polling: remove them from "
            "jobs/queued.%s",
            *(self.name, count, "" if count < _COUNTED else " or more"),
            *(first and first["_id"], self.name),
        )

    def found(self, limit: int | None = None) -> Iterator[Waiting]:
        """Ask for the jobs that could be claimed now, in order."""
        now = self._clock.now()
        asked = listing(self.name, self._now(), limit)
        queue = self._layout.queue(self.name)
        for each in queue.aggregate(asked, hint={"$natural": 1}):
            number = each["_id"]
            body = each.get("body")
            yield Waiting(
                number,
                int(each["size"]),
                None if body is None else bytes(body.raw),
                self._seen.get(number, now),
            )


def _lot(process: str, number: ObjectId) -> bytes:
    """Return what a process draws at a job: the same for everybody, and of no pattern."""
    return hashlib.blake2b(process.encode() + number.binary, digest_size=8).digest()


def listing(queue: str, now: Any, limit: int | None) -> list[Document]:
    """Return the jobs that nobody holds and none has to wait, in the order of the server.

    Documents whose id is no ObjectId are not sqooler's: they are left alone.
    """
    size = {"$bsonSize": "$$ROOT"}
    small = {"$cond": [{"$lte": [size, _COMES_ALONG]}, "$$ROOT", None]}
    # As the claim itself asks: no phase that is not known, or it would be asked for in vain; and a
    # delay that began in the future is none: the server's clock was set back.
    delayed = {"$and": [{"$not": [passed("$$l.until", now)]}, passed("$$l.since", now)]}
    taken = {"$or": [{"$not": [just_waits("$$l.phase")]}, delayed]}
    stages: list[Document] = [
        {"$match": {"_id": {"$type": "objectId"}}},
        {"$project": {"size": size, "body": small}},
        {
            "$lookup": {
                "from": ledger_of(queue),
                "localField": "_id",
                "foreignField": "_id",
                "as": "ledger",
            }
        },
        {
            "$match": {
                "$expr": {
                    "$eq": [
                        {"$filter": {"input": "$ledger", "as": "l", "cond": taken}},
                        [],
                    ]
                }
            }
        },
        {"$project": {"size": 1, "body": 1}},
    ]
    return stages if limit is None else [*stages, {"$limit": limit}]


def job_of(queue: str, waiting: Waiting, body: bytes | None, limit: int) -> Job:
    """Make the job of a document in the queue, or say what is wrong with it."""
    if waiting.size > limit:
        decoded = too_large(waiting.size, limit)
    elif body is None:
        decoded = Decoded(defect="the job was removed from the queue while it waited")
    else:
        decoded = decode(body)
    return Job(
        str(waiting.number),
        queue,
        decoded.payload,
        digest="" if body is None else hashlib.sha256(body).hexdigest(),
        defect=decoded.defect,
        submitted_at=waiting.seen,
    )


def decode(body: bytes) -> Decoded:
    """Return the payload in a document, or one sentence for its submitter."""
    try:
        document = as_json(_without_id(bson.decode(body, _DECODING)))
    except NotADocument as error:
        return Decoded(defect=f"the job is not plain JSON: {error}; send JSON values only")
    except RecursionError:
        return Decoded(defect="the job is nested too deeply; send a flatter one")
    except (BSONError, UnicodeError, ValueError, OverflowError):
        return Decoded(
            defect="the job contains text that is not valid UTF-8, or a date that no calendar has; "
            "correct it and send it again"
        )
    if not _finite(document):
        return Decoded(defect=_NOT_FINITE)
    return Decoded(payload=document)


def _without_id(document: dict[str, Any]) -> dict[str, Any]:
    document.pop("_id", None)
    return document


def _finite(value: Json) -> bool:
    """Whether every number below `value` is one that JSON has; the server bounds the depth."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return not isinstance(value, list) or all(map(_finite, value))
