"""Several writes in order, of which none follows one that is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias, cast

from pymongo import DeleteMany, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.collection import Collection
from pymongo.errors import (
    BulkWriteError,
    ClientBulkWriteException,
    OperationFailure,
    PyMongoError,
)
from pymongo.results import ClientBulkWriteResult

from spooler.storage.sqooler.mongodb.client import Client, Document, is_trouble

Where: TypeAlias = Collection[Any]
_Write: TypeAlias = InsertOne[Any] | ReplaceOne[Any] | UpdateOne | UpdateMany | DeleteMany

#: What a server says of a document with an id that exists, and what one that lacks a command.
_DUPLICATE, _NO_COMMAND = 11000, 59


class Refused(Exception):
    """The server took the steps before `index`, refused that one, and did not do the others."""

    def __init__(self, index: int, code: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index
        self.code = code

    @property
    def duplicate(self) -> bool:
        """Return whether a document of that id exists already."""
        return self.code == _DUPLICATE


@dataclass(frozen=True, slots=True)
class Step:
    """One write, and where."""

    place: Where
    write: _Write


def insert(place: Where, document: Any) -> Step:
    """Add a document; refused as a duplicate when one of its id exists."""
    return Step(place, InsertOne(document, namespace=place.full_name))


def put(place: Where, wanted: Document, document: Any, *, make: bool) -> Step:
    """Put a document in the place of another; where there is none only with `make`."""
    return Step(place, ReplaceOne(wanted, document, upsert=make, namespace=place.full_name))


def change(place: Where, wanted: Document, how: Document, *, make: bool = False) -> Step:
    """Change one document."""
    return Step(place, UpdateOne(wanted, how, upsert=make, namespace=place.full_name))


def change_all(place: Where, wanted: Document, how: Document) -> Step:
    """Change all documents that meet a condition."""
    return Step(place, UpdateMany(wanted, how, namespace=place.full_name))


def remove_all(place: Where, wanted: Document) -> Step:
    """Remove all documents that meet a condition."""
    return Step(place, DeleteMany(wanted, namespace=place.full_name))


class Sender:
    """Sends steps: in one command where the server can, else one for each run in one place."""

    def __init__(self, client: Client, can: Callable[[], bool]) -> None:
        self._client = client
        self._can = can
        self._cannot = False

    @property
    def together(self) -> bool:
        """Return whether any number of steps costs one command."""
        return not self._cannot and self._can()

    def __call__(self, steps: Sequence[Step]) -> list[int]:
        """Return how many documents each step has met, its neighbours in one place included.

        Raises Refused.
        """
        if not steps:
            return []
        if self.together:
            try:
                return self._in_one(steps)
            except OperationFailure as error:
                if error.code != _NO_COMMAND:
                    raise
                self._cannot = True  # whatever it says of its version
        met: list[int] = []
        for _, run in groupby(steps, key=lambda step: step.place.full_name):
            met += self._in_one_place(len(met), list(run))
        return met

    def _in_one(self, steps: Sequence[Step]) -> list[int]:
        writes = [step.write for step in steps]
        try:
            said = self._client.bulk_write(writes, ordered=True, verbose_results=True)
        except ClientBulkWriteException as error:
            raise _cause(error) from None
        return [_met(said, number) for number in range(len(steps))]

    @staticmethod
    def _in_one_place(before: int, steps: Sequence[Step]) -> list[int]:
        try:
            said = steps[0].place.bulk_write([step.write for step in steps])
        except BulkWriteError as error:
            failed = (error.details or {}).get("writeErrors", [])
            if not failed:
                raise  # it was written, and is not safe yet
            raise _refusal(dict(failed[0]), int(failed[0]["index"]) + before) from None
        upserted = len(said.upserted_ids or ())
        met = said.matched_count + upserted + said.inserted_count + said.deleted_count
        return [met] * len(steps)


def _met(said: ClientBulkWriteResult, number: int) -> int:
    if number in said.update_results:
        update = said.update_results[number]
        return update.matched_count + (update.upserted_id is not None)
    if number in said.delete_results:
        return said.delete_results[number].deleted_count
    return int(number in said.insert_results)


def _cause(error: ClientBulkWriteException) -> Exception:
    """Return what went wrong, in the words of a single write."""
    if isinstance(error.error, PyMongoError):
        return error.error
    if error.write_errors:
        # Documents, whatever the driver's types say.
        first = cast("Document", error.write_errors[0])
        return _refusal(first, first["idx"])
    return error


def _refusal(said: Document, index: int) -> Exception:
    """A refused write; trouble of the server is not about this write."""
    code, reason = said.get("code", 0), str(said.get("errmsg", ""))
    return (
        OperationFailure(reason, code, said) if is_trouble(code) else Refused(index, code, reason)
    )
