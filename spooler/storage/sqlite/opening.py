"""Opens a SQLite file as a storage."""

from __future__ import annotations

from spooler.protocols import Backend, Clock, Submitter
from spooler.storage.kit.opening import Opening
from spooler.storage.settings import SqliteSettings
from spooler.storage.sqlite.backend import SqliteBackend
from spooler.storage.sqlite.catalogue import SqliteCatalogue
from spooler.storage.sqlite.database import Database
from spooler.storage.sqlite.submitter import SqliteSubmitter

_LONGEST = 200


def open_backend(settings: SqliteSettings, opening: Opening) -> Backend:
    """Return the daemon's view of the file; nothing is written by opening it."""
    database = Database(settings.path, sync=settings.fsync)
    catalogue = SqliteCatalogue(database, opening.signer, opening.former_keys)
    return SqliteBackend(database, catalogue, opening.clock, max_payload=opening.max_payload)


def open_submitter(settings: SqliteSettings, clock: Clock) -> Submitter:
    """Return the submitter's view of the file."""
    return SqliteSubmitter(Database(settings.path, sync=settings.fsync), clock)


def carries(queue: str) -> str:
    """Return why the file cannot have a queue of this name; "" when it can."""
    if queue.isprintable() and 0 < len(queue) <= _LONGEST:
        return ""
    return f"a name has at most {_LONGEST} characters, all of them printable"
