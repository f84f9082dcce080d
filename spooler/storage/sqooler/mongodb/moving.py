"""Moving a document between collections without a moment in which a crash loses it.

In one transaction where the server has them. Elsewhere in two steps: written at the target,
then deleted at the source; of several movers the one whose delete hits is the one that moved
it. A crash between the two leaves the document in both places, and whoever moves it next goes on
with the delete. What remains without transactions: a mover that stands still between reading
and writing while others move the document there *and on* leaves a copy at the target.
"""

from __future__ import annotations

from typing import TypeAlias

from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, OperationFailure

from spooler.storage.sqooler.mongodb.client import Client

Raw: TypeAlias = Collection[RawBSONDocument]

#: A server says so where transactions are not to be had after all.
_NO_TRANSACTIONS = {20, 263}
#: A document that does not fit into what the server keeps for transactions.
_TOO_LARGE = 313


class Mover:
    """Moves documents on one server."""

    def __init__(self, client: Client, *, transactions: bool | None = None) -> None:
        """`transactions` is found out with the first move when it is not given."""
        self._client = client
        self.transactions = transactions

    def move(self, start: Raw, final: Raw, wanted: ObjectId) -> bool:
        """Move one document as bytes; False when it is not (any more) at `start`.

        FileExistsError when there is another one at `final`.
        """
        if start.full_name == final.full_name:
            if start.find_one({"_id": wanted}) is None:
                return False
            raise FileExistsError
        if self.transactions is None:
            self.transactions = has_transactions(self._client)
        if not self.transactions:
            return self._by_steps(start, final, wanted)
        try:
            return self._at_once(start, final, wanted)
        except DuplicateKeyError:
            return self._go_on(start, final, wanted)
        except OperationFailure as error:
            if error.code not in {*_NO_TRANSACTIONS, _TOO_LARGE}:
                raise
            self.transactions = error.code == _TOO_LARGE
            return self._by_steps(start, final, wanted)

    def _at_once(self, start: Raw, final: Raw, wanted: ObjectId) -> bool:
        def steps(session: ClientSession) -> bool:
            document = start.find_one({"_id": wanted}, session=session)
            if document is None:
                return False
            final.insert_one(document, session=session)
            start.delete_one({"_id": wanted}, session=session)
            return True

        with self._client.start_session() as session:
            return session.with_transaction(steps)

    def _by_steps(self, start: Raw, final: Raw, wanted: ObjectId) -> bool:
        document = start.find_one({"_id": wanted})
        if document is None:
            return False
        try:
            final.insert_one(document)
        except DuplicateKeyError:
            return self._go_on(start, final, wanted)
        return bool(start.delete_one({"_id": wanted}).deleted_count)

    def _go_on(self, start: Raw, final: Raw, wanted: ObjectId) -> bool:
        """Complete a move that a crash, or another mover, has left half done."""
        here, there = start.find_one({"_id": wanted}), final.find_one({"_id": wanted})
        if here is None:
            return False
        if there is None or there.raw != here.raw:
            raise FileExistsError
        return bool(start.delete_one({"_id": wanted}).deleted_count)


def has_transactions(client: Client) -> bool:
    """Ask a server whether it has multi-document transactions."""
    said = client.admin.command("hello")
    return "setName" in said or said.get("msg") == "isdbgrid"
