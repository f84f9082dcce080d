"""Where things lie on a MongoDB server that sqooler's users and we share, and what it can do.

sqooler's own places are those of the wire format. Ours are

    jobs / spooler.<queue>        the ledger: one document per job that was ever claimed
    spooler / keys                which keys a device had before
    spooler / replaced.<queue>    what stood in the place of a result before
    spooler / large.files, .chunks   what no document can hold (GridFS)

A ledger document has the id of its job and says everything that is decided about it: who holds
it and until when, how its earlier attempts ended, whether its submitter has withdrawn it, how
it ended. Every decision is one conditional write of that one document. It lies in the database
of the queues because a server cannot look from one database into another in one command.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from bson.codec_options import CodecOptions
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.database import Database

from spooler.storage.sqooler.mongodb.client import Client, Document

RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
#: The wire version of MongoDB 8.0, which writes to several collections in one command.
_BULK_SINCE = 25

Documents: TypeAlias = Collection[Document]
Raw: TypeAlias = Collection[RawBSONDocument]

#: Every database that a daemon writes to.
DATABASES = ("jobs", "status", "results", "backends", "spooler")

#: The index by which open claims are found; ended ones have no `until`.
LEDGER_INDEX = "spooler_until"


class Phase(StrEnum):
    """How far a job is, as its ledger says. Without a document, or a phase, it just waits."""

    #: Given back; waits until `until`.
    WAITING = "waiting"
    HELD = "held"
    #: The end is decided and its documents are in the ledger: anybody may publish them.
    COMMITTED = "committed"
    ENDED = "ended"


#: A job in one of these is not to be claimed.
TAKEN = [Phase.HELD.value, Phase.COMMITTED.value, Phase.ENDED.value]


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a server can do: change streams, and writes to several collections in one command."""

    push: bool
    together: bool

    @classmethod
    def of(cls, hello: Document) -> Abilities:
        """Read it from what the server says of itself."""
        push = "setName" in hello or hello.get("msg") == "isdbgrid"
        return cls(push=push, together=hello.get("maxWireVersion", 0) >= _BULK_SINCE)


class MongoLayout:
    """The collections below one prefix."""

    def __init__(self, client: Client, prefix: str) -> None:
        self.client = client
        self._prefix = prefix

    def queue(self, queue: str) -> Raw:
        """Return the waiting and running jobs, byte for byte as they were submitted."""
        return self._raw("jobs", f"queued.{queue}")

    def ledger(self, queue: str) -> Documents:
        return self.database("jobs")[ledger_of(queue)]

    def ended(self, queue: str, *, done: bool) -> Raw:
        return self._raw("jobs", f"finished.{queue}" if done else "deleted")

    def status(self, queue: str) -> Raw:
        return self._raw("status", queue)

    def results(self, queue: str) -> Raw:
        return self._raw("results", queue)

    def replaced(self, queue: str) -> Documents:
        return self.database("spooler")[f"replaced.{queue}"]

    def successions(self) -> Documents:
        """Return which keys each device had before."""
        return self.database("spooler")["keys"]

    def configs(self) -> Documents:
        return self.database("backends")["configs"]

    def public_keys(self) -> Documents:
        return self.database("backends")["public_keys"]

    def database(self, name: str) -> Database[Document]:
        """One of DATABASES."""
        return self.client[self._prefix + name]

    def _raw(self, database: str, collection: str) -> Raw:
        return self.database(database)[collection].with_options(codec_options=RAW)


def ledger_of(queue: str) -> str:
    """Return the name of a queue's ledger."""
    return f"spooler.{queue}"


def number_of(job_id: str) -> ObjectId:
    """Return the id of a job's documents; the job came from there, so it is one."""
    return ObjectId(job_id)


def passed(until: Any, now: Any) -> Document:
    """Ask whether a moment is over, in the words of an aggregation; one that is missing is.

    Compared as numbers: SecantusDB 0.7 takes every date for equal to $$NOW.
    """
    moment = {"$convert": {"input": until, "to": "long", "onNull": 0, "onError": 0}}
    return {"$lte": [moment, {"$toLong": now}]}
