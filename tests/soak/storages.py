"""The storages that a soak runs on: how settings name them, and what can be seen in them.

Another storage joins with a class of the same methods and a line in `STORAGES`.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from bson.objectid import ObjectId

from tests.servers.mongodb import MongoServer

DEVICE = "counter"


class Soaked(Protocol):
    """What a soak needs of a storage."""

    #: As many jobs at a time as it bears, and how many in all.
    waiting: int
    jobs: int
    #: A younger job may be claimed this many seconds before an older one.
    slack: float

    def settings(self) -> str:
        """The table [storage] of the settings."""

    def submit(self, count: int) -> list[str]:
        """Queue jobs, each older than the next; their ids in that order."""

    def held_by(self, pid: int) -> set[str]:
        """The jobs that are claimed by the process `pid`, dead or alive."""

    def ends(self, jobs: Iterable[str]) -> dict[str, str]:
        """The final states of those of the jobs that have one, as their submitter sees them."""

    def doubled(self) -> set[str]:
        """Jobs that are in more than one place."""

    def close(self) -> None:
        """Let go of everything."""


class Local:
    """A sqooler folder."""

    #: All at once.
    waiting = jobs = 2000
    #: So far apart claiming a job and writing it down can be on a busy machine.
    slack = 1.0

    def __init__(self, folder: Path) -> None:
        self.base = folder / "storage"
        self._ended: dict[str, str] = {}

    def settings(self) -> str:
        return f'type = "sqooler-local"\npath = "{self.base}"\nname = "soak"\nfsync = false'

    def submit(self, count: int) -> list[str]:
        queue, statuses = self.base / "jobs/queued" / DEVICE, self.base / "status" / DEVICE
        for folder in (queue, statuses):
            folder.mkdir(parents=True, exist_ok=True)
        ids = [uuid.uuid4().hex[:24] for _ in range(count)]
        for number, job in enumerate(ids):
            first = {"job_id": job, "status": "INITIALIZING", "detail": "", "error_message": "None"}
            (statuses / f"{job}.json").write_text(json.dumps(first))
            (queue / f".{job}").write_text(json.dumps({"value": number}))
            when = 1_700_000_000 + number
            os.utime(queue / f".{job}", (when, when))
            (queue / f".{job}").rename(queue / f"{job}.json")
        return ids

    def held_by(self, pid: int) -> set[str]:
        found = set()
        for place in (self.base / "spooler/claims" / DEVICE).glob("*"):
            job, _, process, *_ = place.name.split(".")
            if self._pid(process) == pid:
                found.add(job)
        return found

    def _pid(self, process: str) -> int:
        try:
            content = (self.base / "spooler/owners" / f"{process}.json").read_text()
        except FileNotFoundError:
            return 0
        return int(json.loads(content)["pid"])

    def ends(self, jobs: Iterable[str]) -> dict[str, str]:
        for job in jobs:
            if job in self._ended:
                continue
            place = self.base / "status" / DEVICE / f"{job}.json"
            said = json.loads(place.read_text())
            said = said.get("payload", said)
            if said["status"] in {"DONE", "ERROR"}:
                self._ended[job] = said["status"]
        return self._ended

    def doubled(self) -> set[str]:
        seen: set[str] = set()
        twice: set[str] = set()
        for folder in (f"queued/{DEVICE}", f"finished/{DEVICE}", "deleted"):
            names = {path.stem for path in (self.base / "jobs" / folder).glob("*.json")}
            twice |= seen & names
            seen |= names
        return twice

    def close(self) -> None:
        """There is nothing to let go of."""


class Mongo:
    """A MongoDB server, started for the soak: SecantusDB, as for the tests.

    That server goes through the whole of a collection for each question, so jobs come as the queue
    drains.
    """

    waiting, jobs = 100, 2000
    #: Daemons that meet at one list of the queue leave each other some of its jobs.
    slack = 3.0

    def __init__(self, folder: Path) -> None:
        del folder
        self.server = MongoServer()
        self.server.start()
        self._age = 0
        self._ended: dict[str, str] = {}

    def _place(self, database: str, collection: str) -> Any:
        return self.server.client[database][collection]

    def settings(self) -> str:
        return f'type = "sqooler-mongodb"\nuri = "{self.server.uri}"'

    def submit(self, count: int) -> list[str]:
        numbers = [ObjectId(uuid.uuid4().hex[:24]) for _ in range(count)]
        first = {"status": "INITIALIZING", "detail": "", "error_message": "None"}
        statuses = [{"_id": each, "job_id": str(each), **first} for each in numbers]
        self._place("status", DEVICE).insert_many(statuses)
        jobs = [{"_id": each, "value": self._age + age} for age, each in enumerate(numbers)]
        self._place("jobs", f"queued.{DEVICE}").insert_many(jobs)
        self._age += count
        return [str(each) for each in numbers]

    def held_by(self, pid: int) -> set[str]:
        wanted = {"phase": {"$in": ["held", "committed"]}, "owner.pid": pid}
        found = self._place("jobs", f"spooler.{DEVICE}").find(wanted, {"_id": 1})
        return {str(each["_id"]) for each in found}

    def ends(self, jobs: Iterable[str]) -> dict[str, str]:
        wanted = set(jobs)
        for found in self._place("status", DEVICE).find({}):
            job, said = str(found["_id"]), found.get("payload", found)
            if job in wanted and said["status"] in {"DONE", "ERROR"}:
                self._ended[job] = said["status"]
        return self._ended

    def doubled(self) -> set[str]:
        """An end may be decided and not filed yet; `finished` and `deleted` never both have it."""
        seen: set[str] = set()
        twice: set[str] = set()
        for name in (f"finished.{DEVICE}", "deleted"):
            found = {str(each["_id"]) for each in self._place("jobs", name).find({}, {"_id": 1})}
            twice |= seen & found
            seen |= found
        replaced = self._place("spooler", f"replaced.{DEVICE}").find({}, {"_id": 1})
        return twice | {str(each["_id"]).partition(".")[0] for each in replaced}

    def close(self) -> None:
        self.server.close()


STORAGES: dict[str, Callable[[Path], Soaked]] = {"local": Local, "mongodb": Mongo}
