"""The waiting jobs of one device, oldest first: one listing serves many claims.

Job ids are random and sqooler writes no time, so age is the order in which the server holds the
documents, which is that of their insertion (WiredTiger numbers them as they come, and writing
about a document leaves its number). Exact on one server or replica set; a sharded queue has no
such order.
"""

from __future__ import annotations

import logging
import math
import random
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
from bson.raw_bson import RawBSONDocument

from spooler.model.job import Job
from spooler.model.json import Json
from spooler.protocols import Clock
from spooler.storage.kit.payloads import Decoded, too_large
from spooler.storage.sqooler.client.core import NotADocument
from spooler.storage.sqooler.mongodb.client import Document
from spooler.storage.sqooler.mongodb.documents import as_json
from spooler.storage.sqooler.mongodb.layout import MongoLayout, Phase, ledger_of, passed

logger = logging.getLogger("spooler.storage")

#: Jobs in one listing; bodies up to this many bytes come with it, larger ones when claimed.
LISTED = 64
_COMES_ALONG = 128 * 1024
#: A listing is trusted for so long (seconds), or for this many times what it cost.
_YOUNG, _AGE_PER_COST = 2.0, 20.0

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
    """Hands out the waiting jobs of one device. Not for use by two threads at once."""

    def __init__(
        self, layout: MongoLayout, device: str, clock: Clock, now: Callable[[], Any]
    ) -> None:
        self._layout = layout
        self._device = device
        self._clock = clock
        self._now = now
        self._waiting: deque[Waiting] = deque()
        self._skipped: list[Waiting] = []
        self._seen: dict[ObjectId, datetime] = {}
        self._listed_at = float("-inf")
        self._cost = 0.0
        self._told_of_foreign = False
        #: Called with what a listing has found.
        self.listed: Callable[[set[ObjectId]], None] = lambda _: None

    def refresh(self) -> None:
        """Ask the server when what is known is used up or old."""
        age = self._clock.monotonic() - self._listed_at
        if self._waiting and age < max(_YOUNG, _AGE_PER_COST * self._cost):
            return
        self.look()

    def look(self) -> None:
        """Ask the server: one command, however long the queue is."""
        began = self._clock.monotonic()
        found = list(self._found(LISTED))
        self._waiting = deque(found)
        self._skipped = []
        self._seen = {each.number: each.seen for each in found}
        self._listed_at = self._clock.monotonic()
        self._cost = self._listed_at - began
        self.listed(set(self._seen))

    @property
    def used_up(self) -> bool:
        """Whether nothing is known that could be taken."""
        return not self._waiting

    def take(self) -> Waiting | None:
        """The oldest known job, or None."""
        return self._waiting.popleft() if self._waiting else None

    @contextmanager
    def keeping(self, waiting: Waiting) -> Iterator[None]:
        """Put a job back to its place when what is done about it fails."""
        failed = True
        try:
            yield
            failed = False
        finally:
            if failed:
                self._waiting.appendleft(waiting)
                self.restore()

    def skip(self, lost: int) -> None:
        """Leave some jobs to the others who have been faster `lost` times in a row.

        Several daemons that go through the same list would meet at each job of it.
        """
        for _ in range(random.randrange(lost + 1)):  # noqa: S311 - nothing secret about it
            if self._waiting:
                self._skipped.append(self._waiting.popleft())

    def restore(self) -> None:
        """Put the skipped jobs back to their places at the front."""
        self._waiting.extendleft(reversed(self._skipped))
        self._skipped = []

    def forget(self) -> None:
        """Have the next `refresh` ask the server."""
        self._waiting.clear()

    def lying(self) -> int:
        """How many jobs lie in the queue, held ones too; what is nobody's job is not counted.

        As the server estimates it, which is exact but after a crash of the server.
        """
        queue = self._layout.queue(self._device)
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
        first = self._layout.queue(self._device).find_one(_FOREIGN, {"_id": 1})
        logger.warning(
            "the queue of device %r holds %d%s documents whose ids are no ObjectIds, such as "
            "%r; they are nobody's jobs and are left alone, but each look at the queue goes "
            "past them: remove them from jobs/queued.%s",
            *(self._device, count, "" if count < _COUNTED else " or more"),
            *(first and first["_id"], self._device),
        )

    def every(self) -> Iterator[Waiting]:
        """All jobs that could be claimed now, in order."""
        yield from self._found(None)

    def _found(self, limit: int | None) -> Iterator[Waiting]:
        now = self._clock.now()
        asked = listing(self._device, self._now(), limit)
        queue = self._layout.queue(self._device)
        for each in queue.aggregate(asked, hint={"$natural": 1}):
            number = each["_id"]
            body = each.get("body")
            yield Waiting(
                number,
                int(each["size"]),
                None if body is None else bytes(body.raw),
                self._seen.get(number, now),
            )


def listing(device: str, now: Any, limit: int | None) -> list[Document]:
    """The jobs that nobody holds and none has to wait, in the order of the server.

    Documents whose id is no ObjectId are not sqooler's: they are left alone.
    """
    size = {"$bsonSize": "$$ROOT"}
    small = {"$cond": [{"$lte": [size, _COMES_ALONG]}, "$$ROOT", None]}
    # As the claim itself asks: no phase that is not known, or it would be asked for in vain; and a
    # delay that began in the future is none: the server's clock was set back.
    just_waits = {"$eq": [{"$ifNull": ["$$l.phase", Phase.WAITING.value]}, Phase.WAITING.value]}
    delayed = {"$and": [{"$not": [passed("$$l.until", now)]}, passed("$$l.since", now)]}
    taken = {"$or": [{"$not": [just_waits]}, delayed]}
    stages: list[Document] = [
        {"$match": {"_id": {"$type": "objectId"}}},
        {"$project": {"size": size, "body": small}},
        {
            "$lookup": {
                "from": ledger_of(device),
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


def job_of(device: str, waiting: Waiting, body: bytes | None, limit: int) -> Job:
    """The job in a document of the queue, or what is wrong with it."""
    if waiting.size > limit:
        decoded = too_large(waiting.size, limit)
    elif body is None:
        decoded = Decoded(defect="the job was removed from the queue while it waited")
    else:
        decoded = decode(body)
    return Job(str(waiting.number), device, decoded.payload, decoded.defect, waiting.seen)


def decode(body: bytes) -> Decoded:
    """The payload in a document, or one sentence for its submitter."""
    try:
        document = as_json(_without_id(bson.decode(body, _DECODING)))
    except NotADocument as error:
        return Decoded(defect=f"the job is not plain JSON: {error}; send JSON values only")
    except RecursionError:
        return Decoded(defect="the job is nested too deeply; send a flatter one")
    except (BSONError, UnicodeError, ValueError, OverflowError):
        return Decoded(
            defect="the job holds text that is no UTF-8, or a date that no calendar has; "
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


def raw(body: bytes) -> RawBSONDocument:
    """The document of these bytes, to be written as it is."""
    return RawBSONDocument(body)
