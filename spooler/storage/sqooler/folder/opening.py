"""Opens a folder in the format of sqooler's local storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spooler.protocols import Backend, Clock, Submitter
from spooler.storage.kit.opening import Opening
from spooler.storage.settings import SqoolerLocalSettings
from spooler.storage.sqooler.client.names import carries

if TYPE_CHECKING:
    from spooler.storage.sqooler.client.local import LocalProviderExtended


def open_backend(settings: SqoolerLocalSettings, opening: Opening) -> Backend:
    """Return the daemon's view of the folder; nothing is written by opening it."""
    from spooler.storage.sqooler.folder.backend import FolderBackend  # noqa: PLC0415 - on demand

    return FolderBackend(
        settings.path,
        opening.clock,
        signer=opening.signer,
        former_keys=opening.former_keys,
        sync=settings.fsync,
        max_payload=opening.max_payload,
        upload_pause=settings.upload_pause,
    )


def open_submitter(settings: SqoolerLocalSettings, clock: Clock) -> Submitter:
    """Return the submitter's view of the folder."""
    from spooler.storage.sqooler.submitter import SqoolerSubmitter  # noqa: PLC0415 - on demand

    del clock  # sqooler's documents carry no times of ours
    return SqoolerSubmitter(documents(settings))


def documents(settings: SqoolerLocalSettings) -> LocalProviderExtended:
    """Return the folder through sqooler's own verbs."""
    from spooler.storage.sqooler.client.documents import (  # noqa: PLC0415 - on demand
        LocalLoginInformation,
    )
    from spooler.storage.sqooler.client.local import LocalProviderExtended  # noqa: PLC0415 - on demand

    login = LocalLoginInformation(base_path=str(settings.path))
    return LocalProviderExtended(login, settings.name)


__all__ = ["carries", "documents", "open_backend", "open_submitter"]
