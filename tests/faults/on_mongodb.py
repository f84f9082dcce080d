"""MongoDB's entry among the storages: databases named after the folder, on one server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bson.objectid import ObjectId
from pymongo import MongoClient

from spooler.protocols import Backend, Clock
from spooler.storage.sqooler.mongodb.address import MongoAddress
from spooler.storage.sqooler.mongodb.backend import MongoBackend
from spooler.storage.sqooler.mongodb.layout import DATABASES, Phase
from spooler.testing.bench import DEVICE
from spooler.testing.clock import ManualClock
from tests.faults.commands import command_steps
from tests.faults.storages import KEY, SERVER, Storage


def _settings(folder: Path) -> dict[str, Any]:
    return {"type": "sqooler-mongodb", "uri": SERVER[0], "prefix": f"{folder.name}_"}


def _opened(folder: Path, clock: Clock) -> Backend:
    """With a manual clock, the server's time is that of the test."""
    address = MongoAddress(uri=SERVER[0], prefix=f"{folder.name}_")
    if isinstance(clock, ManualClock):
        return MongoBackend(address, clock, signer=KEY, now=lambda: {"$literal": clock.now()})
    return MongoBackend(address, clock, signer=KEY)


class _Places:
    """The collections of one storage, by `database/collection`."""

    def __init__(self, client: MongoClient[dict[str, Any]], prefix: str) -> None:
        self.client = client
        self.prefix = prefix

    def __getitem__(self, place: str) -> Any:
        database, _, name = place.partition("/")
        return self.client[f"{self.prefix}_{database}"][name]

    def has(self, place: str, job: str) -> bool:
        return self[place].find_one({"_id": ObjectId(job)}) is not None


@contextmanager
def _places(folder: Path) -> Iterator[_Places]:
    """A client for a moment: none is to live on in a forked process."""
    client: MongoClient[dict[str, Any]] = MongoClient(SERVER[0])
    try:
        yield _Places(client, folder.name)
    finally:
        client.close()


def _empty(_: Path, target: Path) -> None:
    """The databases are those of the first; what is in them of jobs is removed."""
    jobs = [f"jobs/{name}.{DEVICE}" for name in ("queued", "finished", "spooler")]
    others = [f"{name}/{DEVICE}" for name in ("status", "results")]
    with _places(target) as at:
        for place in (*jobs, *others, "jobs/deleted", f"spooler/replaced.{DEVICE}"):
            at[place].delete_many({})


def _drop(folder: Path) -> None:
    with _places(folder) as at:
        for name in DATABASES:
            at.client.drop_database(f"{folder.name}_{name}")


def _look(folder: Path, job: str, ended: bool) -> list[str]:
    """The status and the result agree, and the body lies in one place.

    While an end that is decided is being published it may lie in two.
    """
    with _places(folder) as at:
        found = []
        status = at[f"status/{DEVICE}"].find_one({"_id": ObjectId(job)}) or {}
        said = status.get("payload", status).get("status")
        if said not in {"INITIALIZING", "DONE", "ERROR"}:
            found.append(f"the status is {said}")
        if said == "DONE" and not at.has(f"results/{DEVICE}", job):
            found.append("there is no result for a job that is DONE")
        places = [f"finished.{DEVICE}", "deleted", f"queued.{DEVICE}"]
        places = [place for place in places if at.has(f"jobs/{place}", job)]
        ledger = at[f"jobs/spooler.{DEVICE}"].find_one({"_id": ObjectId(job)}) or {}
    phase = ledger.get("phase")
    filed = [place for place in places if not place.startswith("queued")]
    decided = phase in {Phase.COMMITTED, Phase.ENDED} and not ended
    if len(filed or places) != 1 or (len(places) != 1 and not decided):
        found.append(f"the body lies in {places or 'no place'}, and the job is {phase}")
    if ended and (not filed or phase != Phase.ENDED):
        found.append(f"the body lies in {places}, and the job is {phase}")
    return found


def _left(folder: Path) -> list[str]:
    with _places(folder) as at:
        return [
            f"{place}/{each['_id']}"
            for place in (f"jobs/queued.{DEVICE}", f"spooler/replaced.{DEVICE}")
            for each in at[place].find({})
        ]


MONGODB = Storage(
    "mongodb",
    _settings,
    opened=_opened,
    look=_look,
    left=_left,
    copy=_empty,
    drop=_drop,
    finer=command_steps,
)
