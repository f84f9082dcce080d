"""Opens a MongoDB server in the format of sqooler's MongoDB storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spooler.protocols import Backend, Clock, Submitter
from spooler.storage.kit.opening import Opening
from spooler.storage.settings import SqoolerMongodbSettings
from spooler.storage.sqooler.client.names import carries

if TYPE_CHECKING:
    from spooler.storage.sqooler.client.mongodb import MongodbProviderExtended


def open_backend(settings: SqoolerMongodbSettings, opening: Opening) -> Backend:
    """Return the daemon's view of the server; nothing is asked of it by opening it."""
    from spooler.storage.sqooler.mongodb.address import MongoAddress  # noqa: PLC0415 - on demand
    from spooler.storage.sqooler.mongodb.backend import MongoBackend  # noqa: PLC0415 - on demand

    return MongoBackend(
        MongoAddress.of_settings(settings),
        opening.clock,
        signer=opening.signer,
        former_keys=opening.former_keys,
        max_payload=opening.max_payload,
    )


def open_submitter(settings: SqoolerMongodbSettings, clock: Clock) -> Submitter:
    """Return the submitter's view of the server."""
    from spooler.storage.sqooler.mongodb.submitter import MongoSubmitter  # noqa: PLC0415 - on demand

    del clock  # the server has its own
    return MongoSubmitter(documents(settings))


def documents(settings: SqoolerMongodbSettings) -> MongodbProviderExtended:
    """Return the server through sqooler's own verbs."""
    from spooler.storage.sqooler.client.mongodb import (  # noqa: PLC0415 - on demand
        MongodbProviderExtended,
    )
    from spooler.storage.sqooler.mongodb.address import MongoAddress  # noqa: PLC0415 - on demand

    return MongodbProviderExtended(MongoAddress.of_settings(settings), settings.name)


__all__ = ["carries", "documents", "open_backend", "open_submitter"]
