"""What daemons write down for each other in small files: who they are, and how attempts ended.

A process in the name of a claim has a file that says whose it is. A job that goes back to its queue
has one with the attempts that ended without a report, and how long it waits after the last of them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from spooler.durable import Disk, exists
from spooler.model.claim import Attempt, Claim, Owner
from spooler.protocols import Clock
from spooler.storage.sqooler.folder.layout import MOST_ATTEMPTS, ClaimName, Layout
from spooler.storage.sqooler.folder.reading import document

#: More than any process number of Linux, and the longest texts that are believed.
_NO_PID = 2**31
_HOST, _ESTATE, _FILE = 255, 4096, 16 * 1024
#: Seconds after which a process says again who it is, when it claims ...
_REFRESHED_AFTER = 3600.0
#: ... and after which one that has no claim and has said nothing is forgotten.
FORGOTTEN_AFTER = 86_400.0


@dataclass(frozen=True, slots=True)
class Past:
    """Earlier attempts at a job, and whether it still waits after the last."""

    attempts: tuple[Attempt, ...] = ()
    waits: bool = False


_NO_PAST = Past()


class FolderHistory:
    """The files below `spooler/history`."""

    def __init__(self, layout: Layout, disk: Disk, clock: Clock) -> None:
        self._layout = layout
        self._disk = disk
        self._clock = clock

    def past(self, queue: str, job_id: str) -> Past:
        """Return what is known of earlier attempts at a job."""
        place = f"{self._layout.queues[queue].history}/{job_id}.json"
        if not exists(place):
            return _NO_PAST
        try:
            return self._read(document(self._disk, place))
        except (ValueError, KeyError, TypeError, OverflowError):
            return _NO_PAST  # the job has ended meanwhile, or it is not our writing: ours is whole

    def _read(self, content: dict[str, Any]) -> Past:
        attempts = tuple(
            Attempt(
                int(each["number"]),
                each["owner"],
                datetime.fromisoformat(each["at"]),
                each["ended"],
                started=bool(each.get("started", False)),
            )
            for each in content["attempts"]
        )
        if any(not 0 < each.number < MOST_ATTEMPTS for each in attempts):
            raise ValueError("no attempt has such a number")
        waited = (self._clock.now() - datetime.fromisoformat(content["since"])).total_seconds()
        # A wall clock that was set back cannot hold a job for longer than it was meant to wait.
        return Past(attempts, waits=0 <= waited < content["delay"])

    def note(self, claim: Claim, ended: Attempt | None, delay: float) -> None:
        """Write down how an attempt ended, and how long the job waits, before it goes back.

        Attempts are keyed by number: a note written twice, or by a loser of a race, counts once.
        """
        queue, job_id = claim.job.queue, claim.job.id
        attempts = {past.number: past for past in self.past(queue, job_id).attempts}
        if ended is not None:
            attempts[ended.number] = ended
        content = {
            "attempts": [{**asdict(past), "at": past.at.isoformat()} for past in attempts.values()],
            "since": self._clock.now().isoformat(),
            "delay": delay,
        }
        place = f"{self._layout.queues[queue].history}/{job_id}.json"
        self._disk.publish(place, json.dumps(content).encode(), mark=claim.lease.token)


def claim_names(disk: Disk, layout: Layout) -> Iterator[tuple[str, ClaimName]]:
    """The claims of all queues, each with its queue; what is no folder of claims holds none."""
    for queue in disk.names(layout.claims):
        with suppress(OSError):
            for each in disk.names(f"{layout.claims}/{queue}"):
                if (name := ClaimName.parse(each)) is not None:
                    yield queue, name


class FolderOwners:
    """The files below `spooler/owners`."""

    def __init__(self, layout: Layout, disk: Disk, clock: Clock) -> None:
        self._layout = layout
        self._disk = disk
        self._clock = clock
        self._lock = threading.Lock()
        self._introduced: dict[str, float] = {}

    def introduce(self, owner: Owner) -> None:
        """Write down who the process in our claim names is, before the first claim."""
        now = self._clock.monotonic()
        with self._lock:
            last = self._introduced.get(owner.process)
            if last is not None and now - last < _REFRESHED_AFTER:
                return
            content = {
                "host": owner.host,
                "pid": owner.pid,
                "process": owner.process,
                "estate": owner.estate,
            }
            place = self._place(owner.process)
            self._disk.publish(place, json.dumps(content).encode(), mark=owner.process[-8:])
            self._introduced[owner.process] = now
            self._sweep()

    def named(self, process: str) -> Owner:
        """Return who a process in a claim name says it is; without an estate when unknown."""
        try:
            said = document(self._disk, self._place(process), limit=_FILE)
        except PermissionError:
            said = {}
        match said:
            case {"process": str(name), "host": str(host), "pid": int(pid), **others}:
                estate = others.get("estate", "")
                if (
                    (name, type(pid)) == (process, int)
                    and 0 < pid < _NO_PID
                    and len(host) <= _HOST
                    and isinstance(estate, str)
                    and len(estate) <= _ESTATE
                    and "\0" not in estate
                ):
                    return Owner(host, pid, process, estate)
        return Owner("", 0, process)

    def _place(self, process: str) -> str:
        return f"{self._layout.owners}/{process}.json"

    def forget(self) -> None:
        """Remove what was written down about us, unless claims of ours remain."""
        with self._lock:
            holders = self._holders()
            for process in self._introduced.keys() - holders:
                self._disk.remove(self._place(process))
            self._introduced.clear()

    def _sweep(self) -> None:
        """Remove what is a day old and needed by no claim: a living process says it again."""
        now = self._clock.now().timestamp()
        old = []
        with self._disk.entries(self._layout.owners) as entries:
            for entry in entries:
                try:
                    modified = entry.stat(follow_symlinks=False).st_mtime
                except FileNotFoundError:
                    continue  # another daemon sweeps too
                if entry.name.endswith(".json") and now - modified > FORGOTTEN_AFTER:
                    old.append(entry.name)
        holders = self._holders() if old else set()
        for name in old:
            if name.removesuffix(".json") not in holders:
                self._disk.remove(f"{self._layout.owners}/{name}")

    def _holders(self) -> set[str]:
        """Return the processes that have claims."""
        return {name.process for _, name in claim_names(self._disk, self._layout)}
