"""Where jobs live: the list of storages, and how each is opened.

A new storage adds its settings to `settings.py`, its two lines here, and its ten-line test.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spooler.protocols import Backend, Clock, Signer, Submitter
from spooler.storage.memory import MemoryBackend, MemoryStorage, MemorySubmitter
from spooler.storage.settings import (
    MemorySettings,
    SqliteSettings,
    SqoolerLocalSettings,
    SqoolerMongodbSettings,
    StorageSettings,
)

if TYPE_CHECKING:
    from spooler.storage.sqooler.client.local import LocalProviderExtended
    from spooler.storage.sqooler.client.mongodb import MongodbProviderExtended

#: The memory storages of this process, by name.
_MEMORY: dict[str, MemoryStorage] = {}


@dataclass(frozen=True, slots=True)
class Opening:
    """What a backend needs beside its own settings."""

    clock: Clock
    max_payload: int
    signer: Signer | None = None
    #: Public JWKs of keys that were ours before a rotation.
    former_keys: Sequence[dict[str, str]] = ()


def open_backend(settings: StorageSettings, opening: Opening) -> Backend:
    """The daemon's view of the storage; nothing is written by opening it."""
    match settings:
        case SqoolerLocalSettings():
            from spooler.storage.sqooler.folder.backend import (  # noqa: PLC0415 - on demand
                FolderBackend,
            )

            return FolderBackend(
                settings.path,
                opening.clock,
                signer=opening.signer,
                former_keys=opening.former_keys,
                sync=settings.fsync,
                max_payload=opening.max_payload,
            )
        case SqoolerMongodbSettings():
            from spooler.storage.sqooler.mongodb.address import MongoAddress  # noqa: PLC0415 - on demand
            from spooler.storage.sqooler.mongodb.backend import (  # noqa: PLC0415 - on demand
                MongoBackend,
            )

            return MongoBackend(
                MongoAddress.of_settings(settings),
                opening.clock,
                signer=opening.signer,
                former_keys=opening.former_keys,
                max_payload=opening.max_payload,
            )
        case SqliteSettings():
            from spooler.storage.sqlite.backend import SqliteBackend  # noqa: PLC0415 - on demand
            from spooler.storage.sqlite.catalogue import SqliteCatalogue  # noqa: PLC0415 - on demand
            from spooler.storage.sqlite.database import Database  # noqa: PLC0415 - on demand

            database = Database(settings.path, sync=settings.fsync)
            catalogue = SqliteCatalogue(database, opening.signer, opening.former_keys)
            return SqliteBackend(
                database, catalogue, opening.clock, max_payload=opening.max_payload
            )
        case MemorySettings():
            return MemoryBackend(memory_storage(settings.name), opening.clock)


def open_submitter(settings: StorageSettings, clock: Clock) -> Submitter:
    """The submitter's view of the storage."""
    match settings:
        case SqoolerLocalSettings():
            from spooler.storage.sqooler.submitter import (  # noqa: PLC0415 - on demand
                SqoolerSubmitter,
            )

            return SqoolerSubmitter(folder_documents(settings))
        case SqoolerMongodbSettings():
            from spooler.storage.sqooler.mongodb.submitter import (  # noqa: PLC0415 - on demand
                MongoSubmitter,
            )

            return MongoSubmitter(mongodb_documents(settings))
        case SqliteSettings():
            from spooler.storage.sqlite.database import Database  # noqa: PLC0415 - on demand
            from spooler.storage.sqlite.submitter import SqliteSubmitter  # noqa: PLC0415 - on demand

            return SqliteSubmitter(Database(settings.path, sync=settings.fsync), clock)
        case MemorySettings():
            return MemorySubmitter(memory_storage(settings.name), clock)


def folder_documents(settings: SqoolerLocalSettings) -> LocalProviderExtended:
    """The folder through sqooler's own verbs."""
    from spooler.storage.sqooler.client.documents import (  # noqa: PLC0415 - on demand
        LocalLoginInformation,
    )
    from spooler.storage.sqooler.client.local import LocalProviderExtended  # noqa: PLC0415 - on demand

    login = LocalLoginInformation(base_path=str(settings.path))
    return LocalProviderExtended(login, settings.name)


def mongodb_documents(settings: SqoolerMongodbSettings) -> MongodbProviderExtended:
    """The server through sqooler's own verbs."""
    from spooler.storage.sqooler.client.mongodb import (  # noqa: PLC0415 - on demand
        MongodbProviderExtended,
    )
    from spooler.storage.sqooler.mongodb.address import MongoAddress  # noqa: PLC0415 - on demand

    return MongodbProviderExtended(MongoAddress.of_settings(settings), settings.name)


def memory_storage(name: str) -> MemoryStorage:
    """The memory storage of that name in this process."""
    return _MEMORY.setdefault(name, MemoryStorage(name))


def carries(settings: StorageSettings, queue: str) -> str:
    """Why a storage cannot have a queue of this name; "" when it can."""
    if isinstance(settings, MemorySettings) or _SQOOLER_NAME.match(queue):
        return ""
    return "sqooler knows names of up to 100 lower-case letters and digits"


_SQOOLER_NAME = re.compile(r"[a-z0-9]{1,100}\Z")
