"""Several writes: in one command, in one transaction, or one after the other.

The order is kept, and nothing follows a write that is refused.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import pymongo
from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, ClientBulkWriteException, PyMongoError
from pymongo.results import ClientBulkWriteResult

from spooler.storage.sqooler.mongodb.client import Client, Document

Where: TypeAlias = Collection[Any]
_Write: TypeAlias = InsertOne[Any] | ReplaceOne[Any] | UpdateOne | UpdateMany
_Delete: TypeAlias = DeleteOne | DeleteMany

#: What a server says of a document with an id that is there already.
_DUPLICATE = 11000


class Refused(Exception):
    """The server took the steps before `index`, refused that one, and did not do the others."""

    def __init__(self, index: int, code: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index
        self.code = code

    @property
    def duplicate(self) -> bool:
        """Whether there is a document of that id already."""
        return self.code == _DUPLICATE


@dataclass(frozen=True, slots=True)
class Step:
    """One write, and where."""

    place: Where
    write: _Write | _Delete


def insert(place: Where, document: Any) -> Step:
    """A new document; refused as a duplicate when there is one of its id."""
    return Step(place, InsertOne(document, namespace=place.full_name))


def put(place: Where, wanted: Document, document: Any, *, make: bool) -> Step:
    """A document in the place of another; where there is none only with `make`."""
    return Step(place, ReplaceOne(wanted, document, upsert=make, namespace=place.full_name))


def change(place: Where, wanted: Document, how: Mapping[str, Any], *, make: bool = False) -> Step:
    """A change of one document."""
    return Step(place, UpdateOne(wanted, how, upsert=make, namespace=place.full_name))


def change_all(place: Where, wanted: Document, how: Mapping[str, Any]) -> Step:
    """A change of all documents that meet a condition."""
    return Step(place, UpdateMany(wanted, how, namespace=place.full_name))


def remove(place: Where, wanted: Document) -> Step:
    """One document less."""
    return Step(place, DeleteOne(wanted, namespace=place.full_name))


def remove_all(place: Where, wanted: Document) -> Step:
    """All documents less that meet a condition."""
    return Step(place, DeleteMany(wanted, namespace=place.full_name))


def together(
    client: Client, steps: Sequence[Step], session: ClientSession | None = None
) -> list[int]:
    """All steps in one command; how many documents each has met."""
    writes = [step.write for step in steps]
    try:
        said = client.bulk_write(writes, session=session, ordered=True, verbose_results=True)
    except ClientBulkWriteException as error:
        raise _cause(error) from None
    return [_met(said, number) for number in range(len(steps))]


def all_or_none(client: Client, steps: Sequence[Step], *, meeting: int) -> None:
    """All steps in one transaction; refused when the one numbered `meeting` meets nothing.

    The driver's own `with_transaction` begins anew for two minutes, whatever time an operation
    has; and where that time is up, it leaves the transaction open, and its locks for a minute.
    """
    late = time.monotonic() + (client.options.timeout or math.inf)
    # Nothing is read in it, so it need not wait for what was written before.
    with client.start_session(causal_consistency=False) as session:
        pause = _FIRST_PAUSE
        while True:
            try:
                with pymongo.timeout(_left(late)):
                    _write(client, session, steps, meeting)
                _commit(session, max(late, time.monotonic() + _MOMENT))
            except PyMongoError as error:
                again = error.has_error_label("TransientTransactionError")
                if not again or time.monotonic() + pause >= late:
                    raise
            else:
                return
            finally:
                _abort(session)
            time.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)


#: Seconds between the tries of a transaction that met another one.
_FIRST_PAUSE, _LAST_PAUSE = 0.005, 0.2
#: Seconds that committing or taking back has in any case: what comes to neither keeps its locks
#: until the server gives it up.
_MOMENT = 2.0


def _write(client: Client, session: ClientSession, steps: Sequence[Step], meeting: int) -> None:
    session.start_transaction()
    if not together(client, steps, session)[meeting]:
        raise Refused(meeting, 0, "there is no such document")


def _commit(session: ClientSession, late: float) -> None:
    """While there is time the driver repeats it until it is known to have happened, or not."""
    with pymongo.timeout(_left(late)):
        session.commit_transaction()


def _abort(session: ClientSession) -> None:
    if session.in_transaction:
        with pymongo.timeout(_MOMENT):
            session.abort_transaction()  # raises nothing when the server is away


def _left(late: float) -> float | None:
    """Seconds from now, as the driver has them: none is no limit."""
    return None if late == math.inf else max(0.001, late - time.monotonic())


def apart(steps: Sequence[Step]) -> list[int]:
    """Each step in a command of its own; how many documents each has met."""
    return [_alone(number, [step]) for number, step in enumerate(steps)]


def batch(steps: Sequence[Step]) -> None:
    """Steps in one place, in as few commands as there are kinds of them; in any order."""
    if steps:
        _alone(0, steps)


def _alone(number: int, steps: Sequence[Step]) -> int:
    writes = [step.write for step in steps]
    try:
        said = steps[0].place.bulk_write(writes, ordered=len(steps) == 1)
    except BulkWriteError as error:
        failed = (error.details or {}).get("writeErrors", [])
        if not failed:
            raise  # it was written, and is not safe yet
        first: Document = dict(failed[0])
        raise Refused(number, first.get("code", 0), str(first.get("errmsg", ""))) from None
    return (
        said.matched_count + len(said.upserted_ids or ()) + said.inserted_count + said.deleted_count
    )


def _met(said: ClientBulkWriteResult, number: int) -> int:
    if number in said.update_results:
        update = said.update_results[number]
        return update.matched_count + (update.upserted_id is not None)
    if number in said.delete_results:
        return said.delete_results[number].deleted_count
    return int(number in said.insert_results)


def _cause(error: ClientBulkWriteException) -> Exception:
    """What went wrong, in the words of a single write."""
    if isinstance(error.error, PyMongoError):
        return error.error
    if error.write_errors:
        # Documents, whatever the driver's types say.
        first = cast("Document", error.write_errors[0])
        return Refused(first["idx"], first.get("code", 0), str(first.get("errmsg", "")))
    return error
