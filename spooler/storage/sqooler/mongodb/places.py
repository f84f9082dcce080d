"""Where a document of a sqooler path lies in MongoDB, and which ids and names it can have.

The first segment of a path is the database, the others with dots between them the collection.
"""

from __future__ import annotations

import re

from bson.objectid import ObjectId

from spooler.storage.sqooler.client.core import Place

_ID = re.compile(r"[0-9a-fA-F]{24}")
_PREFIX = re.compile(r"[A-Za-z0-9_-]{0,32}")
#: Databases of the server itself.
_RESERVED = {"admin", "config", "local"}
_LONGEST_DATABASE, _LONGEST_COLLECTION = 63, 180


def check_prefix(prefix: str) -> str:
    """`prefix` when it can go before the names of databases; else ValueError."""
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(
            f"the prefix {prefix!r} is not usable: use at most 32 letters, digits and _ - only"
        )
    return prefix


def database_of(segments: tuple[str, ...], prefix: str = "") -> str:
    """Return the database of a path; ValueError for what MongoDB could not tell apart or hold."""
    name = prefix + segments[0]
    dotted = any("." in each for each in segments)
    if dotted or name in _RESERVED or len(name) > _LONGEST_DATABASE:
        raise ValueError(
            f"the storage path {'/'.join(segments)!r} is not usable in MongoDB: its segments must "
            "have no dot, and the first must be a short name that is not the server's own"
        )
    return name


def collection_of(segments: tuple[str, ...]) -> str:
    """Return the collection of a path; ValueError when it names none."""
    name = ".".join(segments[1:])
    if not name or segments[1] == "system" or len(name) > _LONGEST_COLLECTION:
        raise ValueError(
            f"the storage path {'/'.join(segments)!r} is not usable in MongoDB: it must name a "
            "database and a collection, as in jobs/running"
        )
    return name


def is_object_id(name: str) -> bool:
    """Return whether a document in MongoDB can have this id."""
    return _ID.fullmatch(name) is not None


def new_id(place: Place) -> ObjectId:
    """Return the id for a new document; ValueError when MongoDB cannot have it."""
    if not is_object_id(place.id):
        raise ValueError(
            f"the id {place.id!r} is not usable in MongoDB: it must be 24 hex digits, as "
            "create_job_id makes them"
        )
    return ObjectId(place.id)


def known_id(place: Place) -> ObjectId:
    """Return the id to look for; what no document can have is the id of no document."""
    if not is_object_id(place.id):
        raise missing(place)
    return ObjectId(place.id)


def missing(place: Place) -> FileNotFoundError:
    """Return what is said of a document that is not there."""
    return FileNotFoundError(f"{place}: there is no such document")
