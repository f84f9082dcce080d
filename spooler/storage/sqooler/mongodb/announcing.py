"""Configuration and public key of a device on a MongoDB server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument

from spooler.errors import KeyRefused
from spooler.model.device import DeviceCard
from spooler.model.job import Queue
from spooler.signing.sqooler_form import public_jwk_of
from spooler.storage.sqooler.approval import demand_ours, same_public_key
from spooler.storage.sqooler.client.core import NotADocument
from spooler.storage.sqooler.mongodb.address import MongoAddress
from spooler.storage.sqooler.mongodb.client import Document, translated
from spooler.storage.sqooler.mongodb.documents import as_json, encode
from spooler.storage.sqooler.mongodb.layout import RAW, Documents, MongoLayout
from spooler.storage.sqooler.rendering import Renderer

#: Configurations of one name that are looked at.
_NAMESAKES = 20
_DECODING: CodecOptions[Document] = CodecOptions(tz_aware=True)


class MongoCatalogue:
    """Publishes device cards, and refuses to put another key's signature in place of one."""

    def __init__(
        self,
        address: MongoAddress,
        layout: MongoLayout,
        renderer: Renderer,
        former_keys: Sequence[dict[str, str]],
    ) -> None:
        self._address = address
        self._layout = layout
        self._renderer = renderer
        self._former_keys = former_keys
        #: The id of the one configuration of each queue that was approved.
        self._approved: dict[str, ObjectId] = {}

    def announce(self, queue: Queue, card: DeviceCard, at: datetime) -> None:
        """Write the key first, then the configuration that names it.

        Each time it is looked who stands announced: somebody may have begun the collections anew,
        with another key, while this process went on.
        """
        name = queue.name
        with translated(self._address):
            standing = self._demand_ours(name)
            place = self._approved.get(name)
            if place is None or all(each["_id"] != place for each in standing):
                place = self._choose(name, standing)
                self._publish_key()
                self._publish_succession(name)
            said = self._renderer.config(replace(card, name=name), at)
            document: Any = encode(json.loads(self._renderer.sealed(said)), place)
            self._layout.configs().replace_one({"_id": place}, document, upsert=True)
        self._approved[name] = place

    def inspect(self, queue: Queue) -> str:
        del queue  # its server, or its file, says what is wrong when it is asked
        return ""

    def check_key_owner(self, queue: Queue) -> None:
        with translated(self._address):
            self._demand_ours(queue.name)

    def _choose(self, name: str, found: list[RawBSONDocument]) -> ObjectId:
        """Return the id to write to.

        sqooler's clients take whichever they find of several configurations of one name, so
        all but one are removed.
        """
        own = _id_for(name)
        if not found:
            return own
        kept: ObjectId = next(
            (each["_id"] for each in found if each["_id"] == own), found[0]["_id"]
        )
        others = [each["_id"] for each in found if each["_id"] != kept]
        if others:
            self._layout.configs().delete_many({"_id": {"$in": others}})
        return kept

    def _demand_ours(self, name: str) -> list[RawBSONDocument]:
        """Find the configurations of a name; KeyRefused when one is signed with another's key."""
        asked = {"$or": [{"display_name": name}, {"payload.display_name": name}]}
        found = _found(self._layout.configs(), asked)
        for standing in found:
            demand_ours(_content(standing), name, self._renderer.signer, self._former_keys)
        return found

    def _publish_key(self) -> None:
        signer = self._renderer.signer
        if signer is None:
            return
        keys = self._layout.public_keys()
        document = public_jwk_of(signer).model_dump(mode="json")
        found = _found(keys, {"kid": signer.kid})
        if any(not same_public_key(_content(each), document) for each in found):
            raise KeyRefused(
                f"another public key is already published under the kid {signer.kid!r}; "
                "make a key with a kid of its own: spooler keys generate"
            )
        place = found[0]["_id"] if found else _id_for(f"kid {signer.kid}")
        content: Any = encode(document, place)
        keys.replace_one({"_id": place}, content, upsert=True)

    def _publish_succession(self, name: str) -> None:
        """Let older results be verified: they name a key that the configuration names no more."""
        if self._renderer.signer is None or not self._former_keys:
            return
        place = _id_for(f"succession {name}")
        said = json.loads(self._renderer.succession(name, self._former_keys))
        content: Any = encode(said, place)
        self._layout.successions().replace_one({"_id": place}, content, upsert=True)


def _id_for(name: str) -> ObjectId:
    """The same id from everyone who announces this name for the first time."""
    return ObjectId(hashlib.sha256(name.encode()).digest()[:12])


def _found(place: Documents, asked: Document) -> list[RawBSONDocument]:
    """Undecoded: one that cannot be decoded must not hide the others."""
    return list(place.with_options(codec_options=RAW).find(asked).limit(_NAMESAKES))


def _content(document: RawBSONDocument) -> Any:
    """A stored document as JSON, so that what was signed can be verified; None when it is none."""
    try:
        content = bson.decode(document.raw, _DECODING)
        return as_json({key: value for key, value in content.items() if key != "_id"})
    except (NotADocument, BSONError):
        return None
