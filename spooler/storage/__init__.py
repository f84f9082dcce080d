"""Where jobs live: the list of storages, and how each is opened.

A new storage adds its settings to `settings.py`, its two lines here, and its ten-line test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spooler.errors import ConfigError
from spooler.protocols import Backend, Clock, Signer, Submitter
from spooler.storage.memory import MemoryBackend, MemoryStorage, MemorySubmitter
from spooler.storage.settings import (
    MemorySettings,
    SqoolerLocalSettings,
    SqoolerMongodbSettings,
    StorageSettings,
)

if TYPE_CHECKING:
    from spooler.storage.sqooler.local import LocalProviderExtended
    from spooler.storage.sqooler.mongodb import MongodbProviderExtended
    from spooler.storage.sqooler.transfer import Side

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
            from spooler.storage.sqooler.folder_backend import (  # noqa: PLC0415 - on demand
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
            from spooler.storage.sqooler.mongo_address import MongoAddress  # noqa: PLC0415 - on demand
            from spooler.storage.sqooler.mongo_backend import (  # noqa: PLC0415 - on demand
                MongoBackend,
            )

            return MongoBackend(
                MongoAddress.of_settings(settings),
                opening.clock,
                signer=opening.signer,
                former_keys=opening.former_keys,
                max_payload=opening.max_payload,
                transactions=settings.transactions,
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

            return SqoolerSubmitter(_folder_documents(settings))
        case SqoolerMongodbSettings():
            from spooler.storage.sqooler.mongo_submitter import (  # noqa: PLC0415 - on demand
                MongoSubmitter,
            )

            return MongoSubmitter(_mongodb_documents(settings))
        case MemorySettings():
            return MemorySubmitter(memory_storage(settings.name), clock)


def open_side(settings: StorageSettings) -> Side:
    """The storage as one end of a migration. Raises ConfigError where there is nothing to it."""
    match settings:
        case SqoolerLocalSettings():
            from spooler.storage.sqooler.transfer import FolderSide  # noqa: PLC0415 - on demand

            return FolderSide(_folder_documents(settings))
        case SqoolerMongodbSettings():
            from spooler.storage.sqooler.mongo_transfer import (  # noqa: PLC0415 - on demand
                MongoSide,
            )

            return MongoSide(_mongodb_documents(settings))
        case MemorySettings():
            raise ConfigError("a storage in memory ends with its process; there is nothing in it")


def _folder_documents(settings: SqoolerLocalSettings) -> LocalProviderExtended:
    from spooler.storage.sqooler.documents import (  # noqa: PLC0415 - on demand
        LocalLoginInformation,
    )
    from spooler.storage.sqooler.local import LocalProviderExtended  # noqa: PLC0415 - on demand

    login = LocalLoginInformation(base_path=str(settings.path))
    return LocalProviderExtended(login, settings.name)


def _mongodb_documents(settings: SqoolerMongodbSettings) -> MongodbProviderExtended:
    from spooler.storage.sqooler.mongo_address import MongoAddress  # noqa: PLC0415 - on demand
    from spooler.storage.sqooler.mongodb import (  # noqa: PLC0415 - on demand
        MongodbProviderExtended,
    )

    return MongodbProviderExtended(MongoAddress.of_settings(settings), settings.name)


def memory_storage(name: str) -> MemoryStorage:
    """The memory storage of that name in this process."""
    return _MEMORY.setdefault(name, MemoryStorage())
