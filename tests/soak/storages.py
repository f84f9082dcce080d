"""The storages that a soak runs on: how settings name them, and what can be seen in them.

Another storage joins with a class of the same methods and a line in `STORAGES`.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

DEVICE = "counter"


class Soaked(Protocol):
    """What a soak needs of a storage."""

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


class Local:
    """A sqooler folder."""

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


STORAGES = {"local": Local}
