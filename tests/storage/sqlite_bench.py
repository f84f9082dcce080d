"""A SQLite file as a bench for the contract suite."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from spooler.model.device import DeviceCard
from spooler.model.json import JsonObject
from spooler.protocols import Clock, Signer
from spooler.signing.keys import PrivateKey
from spooler.storage import Opening, open_backend, open_submitter
from spooler.storage.settings import SqliteSettings
from spooler.storage.sqlite.backend import SqliteBackend
from spooler.storage.sqlite.submitter import SqliteSubmitter
from spooler.testing.bench import DEVICE, QUEUE, Bench
from spooler.testing.clock import ManualClock

#: The same in every process of a test.
KEY = PrivateKey(b"7" * 32, "lab")
MAX_PAYLOAD = 10_000


def settings_of(path: Path) -> SqliteSettings:
    return SqliteSettings(type="sqlite", path=path)


def sqlite_backend(
    path: Path,
    clock: Clock,
    *,
    signer: Signer | None = KEY,
    former_keys: tuple[dict[str, str], ...] = (),
) -> SqliteBackend:
    opening = Opening(clock, MAX_PAYLOAD, signer=signer, former_keys=former_keys)
    backend = open_backend(settings_of(path), opening)
    assert isinstance(backend, SqliteBackend)
    return backend


def sqlite_submitter(path: Path, clock: Clock) -> SqliteSubmitter:
    submitter = open_submitter(settings_of(path), clock)
    assert isinstance(submitter, SqliteSubmitter)
    return submitter


def rows(path: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    """What somebody with the sqlite3 program sees, or does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        return connection.execute(statement, values).fetchall()


def sqlite_bench(folder: Path) -> Iterator[Bench]:
    """A bench on a file in `folder`; what was opened is closed at the end."""
    path, clock, opened = folder / "jobs.db", ManualClock(), []

    def backend() -> SqliteBackend:
        made = sqlite_backend(path, clock)
        opened.append(made)
        return made

    backend().catalogue.announce(QUEUE, DeviceCard(DEVICE), clock.now())
    submitter = sqlite_submitter(path, clock)

    def submit_as(job_id: str, payload: JsonObject) -> None:
        submitter.submit(DEVICE, payload, job_id=job_id)

    def delete(job_id: str) -> None:
        rows(path, "DELETE FROM jobs WHERE queue = ? AND id = ?", DEVICE, job_id)

    def digest(job_id: str) -> str:
        ((payload,),) = rows(
            path,
            "SELECT payload FROM requests JOIN jobs ON job = number WHERE queue = ? AND id = ?",
            DEVICE,
            job_id,
        )
        assert isinstance(payload, bytes)
        return hashlib.sha256(payload).hexdigest()

    yield Bench(clock, backend, submitter, submit_as=submit_as, delete=delete, digest=digest)
    for each in opened:
        each.close()
    submitter.close()
