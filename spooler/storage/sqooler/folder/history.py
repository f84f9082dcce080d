"""Attempts that ended without a report, and whether a job still waits after the last of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from spooler.durable import Disk, exists
from spooler.model.claim import Attempt, Claim
from spooler.protocols import Clock
from spooler.storage.sqooler.folder.layout import MOST_ATTEMPTS, Layout
from spooler.storage.sqooler.folder.reading import document


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
            return self._read(document(place))
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
