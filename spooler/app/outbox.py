"""The reports of a state folder, for people: what waits, what was parked and why, another try.

Looking needs no lock: files there are whole, and one that goes meanwhile is left out. Another try
is for a time when no daemon runs: a daemon brings by itself what waits, and what was parked is
read when it starts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from spooler.app import parts
from spooler.app.state_lock import StateLock
from spooler.clock import SystemClock, moment
from spooler.daemon.claims.estates import Estates
from spooler.daemon.claims.records import PARKED, Phase, Record, Records, record_from_json
from spooler.durable import read, unavailable
from spooler.errors import BackendUnavailable, LeaseLost, ReportRefused, StateInUse, UnknownJob
from spooler.model.job import key_of
from spooler.model.result import SignedReport
from spooler.protocols import Backend
from spooler.settings import Settings
from spooler.signing.jws import payload

_NOT_TRIED = (
    "not tried: it belongs to a storage that the settings do not name under this address, another "
    "daemon is delivering it, or none of the keys here has signed it"
)
_UNREADABLE = "the file cannot be read; keep it, and report it"


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """One report on this machine's disk. `at` is when it was kept; `record` None: unreadable."""

    name: str
    parked: bool
    at: datetime
    reason: str
    record: Record | None

    @property
    def signed(self) -> SignedReport | None:
        """The report, where it can be read."""
        return None if self.record is None else self.record.signed


@dataclass(frozen=True, slots=True)
class Retried:
    """What came of another try: whether the storage has the report now, and a sentence."""

    name: str
    delivered: bool
    detail: str


def outbox_items(settings: Settings) -> list[OutboxItem]:
    """Return what waits and what was parked, oldest first. Raises BackendUnavailable."""
    folder = settings.state / "records"
    try:
        list(folder.iterdir())  # glob takes one that it may not read for empty
        found = [item for place in folder.glob("*/*/[!.]*.json") for item in _item(place)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unavailable(error, folder) from error
    return sorted(found, key=lambda item: (item.at, item.name))


def outbox_items_of(settings: Settings, names: Sequence[str]) -> list[OutboxItem]:
    """Return the items of these jobs, or with these names; all of them when none is named.

    Raises UnknownJob for a name that nothing has.
    """
    items = outbox_items(settings)
    if not names:
        return items
    for name in names:
        if not any(_is(item, name) for item in items):
            raise UnknownJob(
                f"report {name} is not among the undelivered ones; see: spooler outbox list"
            )
    return [item for item in items if any(_is(item, name) for name in names)]


def retry_outbox(settings: Settings, names: Sequence[str] = ()) -> list[Retried]:
    """Bring reports again, parked ones too; StateInUse while a daemon uses the state folder.

    What cannot be brought now because the storage is away waits for the next daemon.
    """
    chosen = [item for item in outbox_items_of(settings, names) if item.record is not None]
    if not chosen:
        return []
    try:
        lock = StateLock(settings.state)
    except StateInUse:
        raise StateInUse(
            f"a daemon uses the state folder {settings.state}, and delivers what waits by itself; "
            "stop it before you retry parked reports"
        ) from None
    try:
        wanted = {item.name: item.parked for item in chosen}
        found = []
        for name in settings.feeds():
            found += _retry(settings, name, wanted)
        tried = {each.name for each in found}
        return found + [
            Retried(name, delivered=False, detail=_NOT_TRIED)
            for name in wanted
            if name not in tried
        ]
    finally:
        lock.close()


def _retry(settings: Settings, storage: str, wanted: dict[str, bool]) -> list[Retried]:
    """Bring the chosen reports of one storage."""
    signer, clock = parts.load_signer(settings), SystemClock()
    backend = parts.open_storage(settings, settings.feeds()[storage], clock, signer)
    opened = parts.report_opener(settings, signer)
    owner = parts.this_process(settings.state)
    mine = Records(Path(owner.estate) / key_of(backend.address))
    estates = Estates(mine, parts.roots(settings.state), opened, lambda *_: None)
    try:
        mine.open()
        estates.adopt_siblings()
        parked = settings.state / "records" / PARKED / mine.folder.name
        refused = []
        for name, is_parked in wanted.items():
            if is_parked and (parked / name).exists():
                try:
                    mine.unpark(name.removesuffix(".json"), opened)
                except ValueError as error:
                    refused.append(Retried(name, delivered=False, detail=f"stays parked: {error}"))
        return refused + [
            _bring(backend, records, record)
            for records in estates
            for record in records.of(Phase.REPORT)
            if f"{record.token}.json" in wanted
        ]
    finally:
        estates.let_go()
        estates.close()
        backend.close()


def _bring(backend: Backend, records: Records, record: Record) -> Retried:
    name = f"{record.token}.json"
    if record.signed is None:
        return Retried(name, delivered=False, detail="it has no report")
    try:
        backend.ack(record.claim, record.signed)
    except ReportRefused as error:
        detail = f"the storage refuses it for good; the next daemon reports that: {error}"
        return Retried(name, delivered=False, detail=detail)
    except LeaseLost as error:
        records.park(record, str(error))
        records.drop(record.token)
        return Retried(name, delivered=False, detail=f"parked again: {error}")
    except BackendUnavailable as error:
        return Retried(name, delivered=False, detail=f"waits for the next daemon: {error}")
    records.drop(record.token)
    return Retried(name, delivered=True, detail="delivered")


def _is(item: OutboxItem, name: str) -> bool:
    job = item.record.claim.job.id if item.record is not None else ""
    return name in {item.name, job}


def _item(place: Path) -> Iterator[OutboxItem]:
    parked = place.parent.parent.name == PARKED
    try:
        at = moment(place.stat().st_mtime)
        content = read(place)
    except FileNotFoundError:
        return  # delivered meanwhile
    try:
        # For people to look at: whose signature it bears is checked before it is delivered.
        record = record_from_json(content, _unchecked)
    except ValueError:
        yield OutboxItem(place.name, parked, at, _reason(content) or _UNREADABLE, None)
        return
    if record.phase is not Phase.HELD:
        yield OutboxItem(place.name, parked, at, record.reason, record)


def _unchecked(jws: str, plain: str) -> bytes:
    return payload(jws) if jws else plain.encode()


def _reason(content: bytes) -> str:
    try:
        return str(json.loads(content)["reason"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
