"""The storages that faults are tried on: one entry each, and nothing else knows them apart.

An entry says how the settings of a daemon name the storage. What the rest asks for is optional:
how the owner of a job deletes it, what a reader of the storage would stumble over, which files
have no purpose once all jobs have ended, and finer steps than files and verbs.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from spooler.model.device import DeviceCard
from spooler.protocols import Backend, Clock, Submitter
from spooler.signing.keys import generate
from spooler.storage import Opening, open_backend, open_submitter
from spooler.storage.memory import memory_storage
from spooler.storage.settings import StorageSettings
from spooler.testing.bench import DEVICE, QUEUE
from tests.faults.points import At

KEY = generate("lab")
#: Files are kept in memory where that is possible: a kill needs no real disk.
SHELF = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
_SETTINGS: TypeAdapter[StorageSettings] = TypeAdapter(StorageSettings)
_PAYLOAD = 4 * 1024 * 1024
#: The address of a MongoDB server; said once, by who starts this process.
SERVER: list[str] = []


def _nothing(*_: Any) -> list[str]:
    return []


@contextmanager
def _no_steps(_: At) -> Iterator[None]:
    yield


@dataclass(frozen=True)
class Storage:
    """One kind of storage. Everything of one storage lies in a folder, or is named after it."""

    name: str
    #: What stands in the settings file for the storage in a folder.
    settings: Callable[[Path], dict[str, Any]]
    #: Opens a daemon's view with a given clock, where the settings alone do not.
    opened: Callable[[Path, Clock], Backend] | None = None
    #: Whether its jobs outlive a process.
    survives: bool = True
    #: Deletes a job as its owner can, whatever it is at.
    delete: Callable[[Path, str], None] | None = None
    #: Shows a waiting job as running, as a power cut or an operator's copy leaves it.
    picture: Callable[[Path, str], None] | None = None
    #: What a reader would stumble over; the last says whether the job has to have ended.
    look: Callable[[Path, str, bool], list[str]] = _nothing
    #: What has no purpose once all jobs have ended and no daemon runs.
    left: Callable[[Path], list[str]] = _nothing
    #: Makes the second folder a copy of the first, which no daemon uses.
    copy: Callable[[Path, Path], None] = lambda source, target: (
        shutil.copytree(source, target, dirs_exist_ok=True) and None
    )
    #: Takes away what lies elsewhere than in the folder.
    drop: Callable[[Path], None] = lambda _: None
    #: Further marks on a job's way: patterns of points, by name.
    marks: Mapping[str, str] = field(default_factory=dict)
    #: Calls `at` at steps that are finer than files and verbs, for the clients opened within.
    finer: Callable[[At], Any] = _no_steps

    def parsed(self, folder: Path) -> StorageSettings:
        return _SETTINGS.validate_python(self.settings(folder))

    def open(self, folder: Path, clock: Clock) -> Backend:
        """A daemon's view of the storage."""
        if self.opened is not None:
            return self.opened(folder, clock)
        return open_backend(self.parsed(folder), Opening(clock, _PAYLOAD, KEY))

    def submitter(self, folder: Path, clock: Clock) -> Submitter:
        return open_submitter(self.parsed(folder), clock)

    def announce(self, folder: Path, clock: Clock) -> None:
        """Announce the device, as an earlier daemon has, so that jobs can be submitted."""
        backend = self.open(folder, clock)
        if backend.catalogue is not None:
            backend.catalogue.announce(QUEUE, DeviceCard(DEVICE), clock.now())
        backend.close()


# --- memory -------------------------------------------------------------------------------------


def _forget(folder: Path, job: str) -> None:
    storage = memory_storage(folder.name)
    with storage.lock:
        del storage.entries[DEVICE, job]


MEMORY = Storage(
    "memory",
    lambda folder: {"type": "memory", "name": folder.name},
    survives=False,
    delete=_forget,
)


# --- a sqooler folder ---------------------------------------------------------------------------


def _folder(folder: Path) -> dict[str, Any]:
    return {"type": "sqooler-local", "path": folder / "storage", "name": "lab"}


def _unlink(folder: Path, job: str) -> None:
    queued = folder / "storage" / "jobs" / "queued" / DEVICE / f"{job}.json"
    claims = (folder / "storage" / "spooler" / "claims" / DEVICE).glob(f"{job}.*")
    (queued if queued.exists() else next(claims)).unlink()


def _picture(folder: Path, job: str) -> None:
    base = folder / "storage" / "jobs"
    (base / "running").mkdir(exist_ok=True)
    with suppress(FileNotFoundError, FileExistsError):  # it is not waiting, or shown already
        os.link(base / "queued" / DEVICE / f"{job}.json", base / "running" / f"{job}.json")


def client_of(folder: Path) -> Any:
    """The public sqooler package's client on a folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sqooler.schemes import LocalLoginInformation
        from sqooler.storage_providers.local import LocalProviderExtended
    return LocalProviderExtended(LocalLoginInformation(base_path=str(folder)), "lab")


def _look_at_folder(folder: Path, job: str, ended: bool) -> list[str]:
    """Documents are whole, sqooler reads them, and the job file lies in one place."""
    base, found = folder / "storage", []
    for path in base.rglob("[!.]*.json"):
        try:
            json.loads(path.read_bytes())
        except ValueError:
            found.append(f"{path.relative_to(base)} is not whole")
    return found or [*_read_by_sqooler(base, job), *_in_one_place(base, job, ended=ended)]


def _read_by_sqooler(base: Path, job: str) -> list[str]:
    client = client_of(base)
    status = client.get_status(DEVICE, "alice", job).status
    if status == "DONE":
        result = client.get_result(DEVICE, "alice", job)
        if result.status != "DONE" or not client.verify_result(DEVICE, job):
            return [f"sqooler reads {result.status} for a job that is DONE"]
    elif status not in {"INITIALIZING", "ERROR"}:
        return [f"sqooler reads the status {status}"]
    return []


def _in_one_place(base: Path, job: str, *, ended: bool) -> list[str]:
    """The link in jobs/running is only shown and does not count; at the end it is gone."""
    files = [*base.glob("jobs/*/*.json"), *base.glob("jobs/*/*/*.json")]
    files += base.glob("spooler/claims/*/*")
    places = sorted(str(path.relative_to(base)) for path in files if path.name.startswith(job))
    real = [place for place in places if not place.startswith("jobs/running")]
    if len(real) != 1:
        return [f"the job lies in {real or 'no place'}"]
    last = real[0].startswith(("jobs/finished", "jobs/deleted")) and len(places) == 1
    return [f"the job lies in {places}"] if ended and not last else []


def _left_in_folder(folder: Path) -> list[str]:
    base = folder / "storage"
    found = list(base.rglob("*.tmp"))
    for room in ("claims", "history", "cancels", "owners", "replaced"):
        found += [path for path in base.glob(f"spooler/{room}/**/*") if path.is_file()]
    return [str(path.relative_to(folder)) for path in found]


FOLDER = Storage(
    "folder",
    _folder,
    delete=_unlink,
    picture=_picture,
    look=_look_at_folder,
    left=_left_in_folder,
    #: Decided, and not published.
    marks={"committed": r"^rename .*claims.* -> .*claims.*\.[de]$"},
)


# --- SQLite -------------------------------------------------------------------------------------


def _delete_row(folder: Path, job: str) -> None:
    with closing(sqlite3.connect(folder / "jobs.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("DELETE FROM jobs WHERE queue = ? AND id = ?", (DEVICE, job))


def _look_at_sqlite(folder: Path, job: str, ended: bool) -> list[str]:
    """The file is whole, and has one job, which at the end nobody holds."""
    with closing(sqlite3.connect(folder / "jobs.db")) as connection:
        (whole,) = connection.execute("PRAGMA integrity_check").fetchone()
        rows = connection.execute("SELECT id, state FROM jobs WHERE id = ?", (job,)).fetchall()
    found = [] if whole == "ok" else [f"the database is damaged: {whole}"]
    if len(rows) != 1:
        found.append(f"the job has {len(rows)} rows")
    elif ended and rows[0][1] not in {"done", "error", "cancelled"}:
        found.append(f"the job is {rows[0][1]}")
    return found


SQLITE = Storage(
    "sqlite",
    lambda folder: {"type": "sqlite", "path": folder / "jobs.db"},
    delete=_delete_row,
    look=_look_at_sqlite,
)
