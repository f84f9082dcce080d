"""The real sqooler, the package that users have: a peer to talk to, never a dependency."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # pydantic warns about sqooler's own models when they are imported.
    warnings.simplefilter("ignore")
    from sqooler import schemes, security
    from sqooler.storage_providers import mongodb
    from sqooler.storage_providers.local import LocalProvider, LocalProviderExtended
    from sqooler.storage_providers.mongodb import MongodbProviderExtended

__all__ = [
    "LocalProvider",
    "LocalProviderExtended",
    "MongodbProviderExtended",
    "mongodb",
    "schemes",
    "security",
]
