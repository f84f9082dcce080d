"""Where jobs live: the kinds of storages, and how each is opened.

A new storage is a room with an `opening` module (see `Room`), its settings in `settings.py`, and
its line in KINDS. docs/write-a-storage.md says the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

from spooler.protocols import Backend, Clock, Submitter
from spooler.storage.kit.opening import Opening
from spooler.storage.settings import StorageSettings


class Room(Protocol):
    """What the `opening` module of a storage offers. It loads no driver before it is needed."""

    def open_backend(self, settings: Any, opening: Opening) -> Backend:
        """Return the daemon's view of the storage; nothing is written by opening it."""

    def open_submitter(self, settings: Any, clock: Clock) -> Submitter:
        """Return the submitter's view of the storage."""

    def carries(self, queue: str) -> str:
        """Return why the storage cannot have a queue of this name; "" when it can."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of storage; `room` loads its opening module."""

    room: Callable[[], Room]


def _folder() -> Room:
    from spooler.storage.sqooler.folder import opening  # noqa: PLC0415 - on demand

    return opening


def _mongodb() -> Room:
    from spooler.storage.sqooler.mongodb import opening  # noqa: PLC0415 - on demand

    return opening


def _sqlite() -> Room:
    from spooler.storage.sqlite import opening  # noqa: PLC0415 - on demand

    return opening


def _memory() -> Room:
    from spooler.storage import memory  # noqa: PLC0415 - on demand

    return memory


#: Every kind of storage, by the `type` that chooses it in the settings.
KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "sqooler-local": Kind(_folder),
        "sqooler-mongodb": Kind(_mongodb),
        "sqlite": Kind(_sqlite),
        "memory": Kind(_memory),
    }
)


def open_backend(settings: StorageSettings, opening: Opening) -> Backend:
    """Return the daemon's view of a storage; nothing is written by opening it."""
    return KINDS[settings.type].room().open_backend(settings, opening)


def open_submitter(settings: StorageSettings, clock: Clock) -> Submitter:
    """Return the submitter's view of a storage."""
    return KINDS[settings.type].room().open_submitter(settings, clock)


def carries(settings: StorageSettings, queue: str) -> str:
    """Return why a storage cannot have a queue of this name; "" when it can."""
    return KINDS[settings.type].room().carries(queue)


__all__ = ["KINDS", "Kind", "Opening", "Room", "carries", "open_backend", "open_submitter"]
