"""Documents of a sqooler storage as MongoDB holds them: BSON, and JSON of the same meaning.

What is written is what sqooler's client would write: the keys in their order, whole numbers as
whole numbers, floats as floats, datetimes as dates. Refused is what would not come back as it
was, in each server that there is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import bson
from bson.errors import BSONError
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument

from spooler.storage.sqooler.client.core import NotADocument

#: The most that one document may have, in bytes of BSON.
LARGEST = 16 * 2**20
_DEEPEST = 90
_INT64 = 2**63


class NotStorable(ValueError):
    """What MongoDB cannot hold, or would not give back as it was."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the document cannot be stored in MongoDB: {reason}")


def encode(content: Mapping[str, Any], document_id: ObjectId) -> RawBSONDocument:
    """A document ready to be written; NotStorable, in one sentence, for what MongoDB cannot hold.

    Refused are the key `_id`, keys with a dot or a dollar sign in front, numbers that JSON or
    64 bits do not have, text that is no UTF-8, other values than JSON's and datetimes, and
    documents over 16 MiB.
    """
    if "_id" in content:
        raise NotStorable("the key '_id' is the storage's own; rename it")
    _check(content, 0)
    try:
        data = bson.encode({"_id": document_id, **content})
    except (BSONError, OverflowError, UnicodeError, RecursionError, TypeError) as error:
        raise NotStorable(str(error)) from None
    if len(data) > LARGEST:
        raise NotStorable(f"it has {len(data) / 2**20:.1f} MiB, and the limit is 16 MiB; split it")
    return RawBSONDocument(data)


def _check(value: object, depth: int) -> None:
    if depth > _DEEPEST:
        raise NotStorable(f"it is nested more than {_DEEPEST} levels deep")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _check_key(key)
            _check(inner, depth + 1)
    elif isinstance(value, str):
        _check_text(value)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check(inner, depth + 1)
    else:
        _check_scalar(value)


def _check_scalar(value: object) -> None:
    if value is None or isinstance(value, bool | datetime):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotStorable(f"the number {value} is none that JSON has")
    elif isinstance(value, int):
        if not -_INT64 <= value < _INT64:
            raise NotStorable("a whole number has more than 64 bits; write it as text")
    else:
        raise NotStorable(f"there is a value of type {type(value).__name__} in it")


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise NotStorable(f"the key {key!r} is not text")
    if "." in key or key.startswith("$") or "\0" in key:
        raise NotStorable(f"the key {key!r} has a dot, or a dollar sign in front; rename it")
    _check_text(key)


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise NotStorable(f"the text {text[:20]!r} is not valid Unicode") from None


def as_json(value: object) -> Any:
    """Return a value from the database as JSON; NotADocument for what JSON does not have.

    Dates become ISO text and bytes the ASCII text they are in sqooler's keys, so a signature
    over the document stays valid. Whole numbers lose their width.
    """
    if isinstance(value, Mapping):
        return {str(key): as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    return _plain(value)


def _plain(value: object) -> bool | int | float | str | None:
    if value is None or isinstance(value, bool | str | float):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, bytes):
        return _text(value)
    raise NotADocument(
        f"there is a value of type {type(value).__name__}, which JSON cannot represent"
    )


def _text(value: bytes) -> str:
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        raise NotADocument("there are bytes in it, which JSON cannot represent") from None
