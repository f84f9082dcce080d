"""sqooler's MongoDB storage: a path's first segment is the database, the rest the collection.

Only the verbs of the storage are here; what is done with them is the provider's, which the
local storage shares. Ids are ObjectIds; configurations and keys are found by what they say.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import pymongo
from bson.codec_options import CodecOptions
from bson.errors import InvalidBSON
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from spooler.clock import SystemClock
from spooler.errors import BackendUnavailable
from spooler.observe.logger import get_logger
from spooler.protocols import Clock
from spooler.storage.sqooler.client.core import CheckedCore, NotADocument, Place
from spooler.storage.sqooler.client.documents import MongodbLoginInformation
from spooler.storage.sqooler.client.names import is_id
from spooler.storage.sqooler.client.provider import StorageProvider
from spooler.storage.sqooler.mongodb.address import MongoAddress
from spooler.storage.sqooler.mongodb.client import (
    Client,
    Document,
    open_as_sqooler,
    open_client,
    translated,
)
from spooler.storage.sqooler.mongodb.documents import encode
from spooler.storage.sqooler.mongodb.moving import Mover
from spooler.storage.sqooler.mongodb.places import (
    check_prefix,
    collection_of,
    database_of,
    is_object_id,
    known_id,
    missing,
    new_id,
)

logger = get_logger("spooler.storage")

#: What is looked for by its content, and the fields that say it.
_INDEXED = {
    ("backends", "configs"): ("display_name", "payload.display_name"),
    ("backends", "public_keys"): ("kid",),
}
#: Documents of one name that are looked at: more than one are a mistake already.
_NAMESAKES = 20

_RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)


class MongodbCore(CheckedCore):
    """Documents in the collections of a MongoDB server."""

    ids_are_names = False

    def __init__(
        self,
        login_dict: MongodbLoginInformation | MongoAddress,
        name: str,
        is_active: bool = True,  # noqa: FBT001, FBT002 - sqooler's users pass it by position
        *,
        prefix: str = "",
    ) -> None:
        """Take a login, and see that the server lets us in.

        `prefix` goes before the name of each database. Raises pydantic's ValidationError when the
        login can never work, BackendUnavailable (the driver's error, too) when it does not now, and
        ValueError for an unusable prefix. A whole address is taken as it is: the server is asked
        with the first verb, and ConfigError raised when it can never work.
        """
        super().__init__(name, is_active)
        known = isinstance(login_dict, MongoAddress)
        self.address: MongoAddress = (
            login_dict
            if isinstance(login_dict, MongoAddress)
            else MongoAddress.of_login(login_dict, prefix)
        )
        check_prefix(self.address.prefix)
        self.client: Client = (open_client if known else open_as_sqooler)(self.address)
        self.mover = Mover(self.client)
        self._indexed: set[tuple[str, ...]] = set()

    def close(self) -> None:
        """Let go of the connections; harmless to repeat."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- the verbs ---------------------------------------------------------------------------

    def _create(self, place: Place, content: Mapping[str, Any]) -> None:
        collection = self.collection(place.segments)
        document = encode(content, new_id(place))
        self._index(place.segments)
        with translated(self.address):
            try:
                collection.insert_one(document)
            except DuplicateKeyError:
                raise FileExistsError(f"{place}: there is a document already") from None

    def _read(self, place: Place) -> Document:
        collection, wanted = self.collection(place.segments), known_id(place)
        with translated(self.address):
            try:
                found = collection.find_one({"_id": wanted})
            except InvalidBSON:
                raise NotADocument(
                    f"{place}: the document contains text that is not valid UTF-8, or a date that "
                    "no calendar has; have it written again"
                ) from None
        if found is None:
            raise missing(place)
        del found["_id"]
        return found

    def _replace(self, place: Place, content: Mapping[str, Any]) -> None:
        collection, wanted = self.collection(place.segments), known_id(place)
        document = encode(content, wanted)
        with translated(self.address):
            done = collection.replace_one({"_id": wanted}, document)
        if not done.matched_count:
            raise missing(place)

    def _move(self, source: Place, target: Place) -> None:
        """As bytes, whatever is in them: see mongodb.moving."""
        start, final, wanted = self.raw(source), self.raw(target), known_id(source)
        with translated(self.address), pymongo.timeout(self.address.operation_timeout):
            try:
                moved = self.mover.move(start, final, wanted)
            except FileExistsError:
                raise FileExistsError(f"{target}: there is a document already") from None
        if not moved:
            raise missing(source)

    def _remove(self, place: Place) -> None:
        collection, wanted = self.collection(place.segments), known_id(place)
        with translated(self.address):
            done = collection.delete_one({"_id": wanted})
        if not done.deleted_count:
            raise missing(place)

    def _ids(self, segments: tuple[str, ...]) -> list[str]:
        """In the order in which the server holds them, which is that of their insertion.

        Ids are random and documents carry no time, so nothing else tells their age. Documents
        whose id is no ObjectId are not sqooler's and are left out.
        """
        with translated(self.address):
            found = self.collection(segments).find(
                {"_id": {"$type": "objectId"}}, {"_id": 1}, hint=[("$natural", 1)]
            )
            return [str(each["_id"]) for each in found]

    def _exists(self, place: Place) -> bool:
        if not is_object_id(place.id):
            return False
        collection = self.collection(place.segments)
        with translated(self.address):
            return collection.find_one({"_id": ObjectId(place.id)}, {"_id": 1}) is not None

    def _namesakes(self, segments: tuple[str, ...], field: str, value: str) -> list[str]:
        """In the order of sqooler's client: unsigned ones first."""
        signed = f"payload.{field}"
        with translated(self.address):
            found = list(
                self.collection(segments)
                .find({"$or": [{field: value}, {signed: value}]}, {field: 1, "_id": 1})
                .limit(_NAMESAKES + 1)
            )
        if len(found) > _NAMESAKES:
            raise ValueError(
                f"more than {_NAMESAKES} documents in {'/'.join(segments)} are about {value!r}; "
                "remove those that are not its own"
            )
        ids = [str(each["_id"]) for each in sorted(found, key=lambda one: field not in one)]
        if len(ids) > 1:
            logger.warning(
                "there are %d documents about %r in %s; %s is used, remove the others: %s",
                *(len(ids), value, "/".join(segments), ids[0], ", ".join(ids[1:])),
            )
        return ids

    def id_for(self, value: str) -> str:
        super().id_for(value)
        return uuid.uuid4().hex[:24]

    def _branches(self, segments: tuple[str, ...]) -> list[str]:
        database = database_of(segments, self.address.prefix)
        above = "".join(f"{each}." for each in segments[1:])
        with translated(self.address):
            names = self.client[database].list_collection_names()
        found = (name.removeprefix(above) for name in names if name.startswith(above))
        first = {name.partition(".")[0] for name in found}
        return sorted(name for name in first if is_id(name) and name != "system")

    # --- places ------------------------------------------------------------------------------

    def collection(self, segments: tuple[str, ...]) -> Collection[Document]:
        """Return where the documents of a path lie."""
        return self.client[database_of(segments, self.address.prefix)][collection_of(segments)]

    def raw(self, place: Place) -> Collection[RawBSONDocument]:
        """The same for documents as bytes."""
        return self.collection(place.segments).with_options(codec_options=_RAW)

    def _index(self, segments: tuple[str, ...]) -> None:
        """Before the first document of a kind that is looked for by its content."""
        if segments in self._indexed or segments not in _INDEXED:
            return
        collection = self.collection(segments)
        try:
            with translated(self.address):
                for name in _INDEXED[segments]:
                    collection.create_index([(name, pymongo.ASCENDING)])
        except BackendUnavailable as error:
            # It is looked for without an index too; a user may lack the right to make one.
            logger.debug("no index on %s: %s", "/".join(segments), error)
        self._indexed.add(segments)


class MongodbProviderExtended(StorageProvider, MongodbCore):
    """A provider over a MongoDB server, with a name of its own."""

    def __init__(
        self,
        login_dict: MongodbLoginInformation | MongoAddress,
        name: str,
        is_active: bool = True,  # noqa: FBT001, FBT002 - sqooler's users pass it by position
        *,
        prefix: str = "",
        operational_within: float = 300.0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(login_dict, name, is_active, prefix=prefix)
        self.operational_within = operational_within
        self.clock = clock if clock is not None else SystemClock()


class MongodbProvider(MongodbProviderExtended):
    """A provider over a MongoDB server, called `default`."""

    def __init__(self, login_dict: MongodbLoginInformation) -> None:
        super().__init__(login_dict, name="default", is_active=True)
