"""The outbox of a state folder, for people: what waits, what was parked and why, another try.

Looking needs no lock: files there are whole, and one that goes meanwhile is left out. Another try
is for a time when no daemon runs: a daemon reads its outbox once, when it starts, and what waits
it brings by itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from spooler.app import parts
from spooler.clock import SystemClock
from spooler.daemon.reports.outbox import Entry, Outbox, entry_of
from spooler.durable import read, unavailable
from spooler.errors import BackendUnavailable, LeaseLost, StateInUse, UnknownJob
from spooler.protocols import Backend
from spooler.settings import Settings

_UNREADABLE = "the file cannot be read; keep it, and report it"


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """One report on this machine's disk. `at` is when it was kept; `entry` None: unreadable."""

    name: str
    parked: bool
    at: datetime
    reason: str
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Retried:
    """What came of another try: whether the storage has the report now, and a sentence."""

    name: str
    delivered: bool
    detail: str


def outbox_items(settings: Settings) -> list[OutboxItem]:
    """What waits and what was parked, oldest first. Raises BackendUnavailable."""
    folder = settings.state / "outbox"
    try:
        found = [*_items(folder, parked=False), *_items(folder / "parked", parked=True)]
    except OSError as error:
        raise unavailable(error, folder) from error
    return sorted(found, key=lambda item: (item.at, item.name))


def outbox_items_of(settings: Settings, names: Sequence[str]) -> list[OutboxItem]:
    """The items of these jobs, or with these names; all of them when none is named.

    Raises UnknownJob for a name that nothing has.
    """
    items = outbox_items(settings)
    if not names:
        return items
    for name in names:
        if not any(_is(item, name) for item in items):
            raise UnknownJob(f"there is no report {name} in the outbox; see: spooler outbox list")
    return [item for item in items if any(_is(item, name) for name in names)]


def retry_outbox(settings: Settings, names: Sequence[str] = ()) -> list[Retried]:
    """Bring reports again, parked ones too; StateInUse while a daemon uses the state folder.

    What cannot be brought now because the storage is away waits for the next daemon.
    """
    chosen = [item for item in outbox_items_of(settings, names) if item.entry is not None]
    if not chosen:
        return []
    try:
        lock = parts.lock_state(settings.state)
    except StateInUse:
        raise StateInUse(
            f"a daemon uses the state folder {settings.state}, and brings what waits by itself; "
            "stop it before you bring what was parked"
        ) from None
    try:
        backend = parts.open_storage(settings, SystemClock(), parts.load_signer(settings))
        try:
            outbox = Outbox(settings.state / "outbox")
            for item in chosen:
                if item.parked:
                    outbox.unpark(item.name)
            outbox.restore()
            wanted = {item.name for item in chosen}
            return [
                _bring(backend, outbox, entry) for entry in outbox.entries() if entry.name in wanted
            ]
        finally:
            backend.close()
    finally:
        os.close(lock)


def _bring(backend: Backend, outbox: Outbox, entry: Entry) -> Retried:
    try:
        backend.ack(entry.claim, entry.signed)
    except LeaseLost as error:
        outbox.park(entry, str(error))
        return Retried(entry.name, delivered=False, detail=f"parked again: {error}")
    except BackendUnavailable as error:
        return Retried(entry.name, delivered=False, detail=f"waits for the next daemon: {error}")
    outbox.drop(entry)
    return Retried(entry.name, delivered=True, detail="the storage has it")


def _is(item: OutboxItem, name: str) -> bool:
    job = item.entry.claim.job.id if item.entry is not None else ""
    return name in {item.name, job}


def _items(folder: Path, *, parked: bool) -> Iterator[OutboxItem]:
    for place in folder.glob("[!.]*.json"):
        try:
            at = datetime.fromtimestamp(place.stat().st_mtime, UTC)
            content = read(place)
        except FileNotFoundError:
            continue  # delivered meanwhile
        reason = _reason(place) if parked else ""
        try:
            entry = entry_of(content)
        except ValueError:
            yield OutboxItem(place.name, parked, at, reason or _UNREADABLE, None)
        else:
            yield OutboxItem(place.name, parked, at, reason, entry)


def _reason(place: Path) -> str:
    try:
        return str(json.loads(read(f"{place}.reason"))["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
