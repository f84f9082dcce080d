"""Where things lie in a folder that sqooler's users and we share, and how claims are named.

sqooler's own places are those of the wire format. Ours are all below `spooler/`:

    claims/<device>/<claim name>     the job file itself, while it is claimed
    history/<device>/<id>.json       attempts that ended without a report
    cancels/<device>/<id>.json       the submitter's wish to withdraw the job
    reports/<device>/<id>.json       the signed report as a compact JWS
    replaced/<device>/...            what stood in the place of a result before
    owners/<process>.json            who the process in a claim name is

A claim is one file, moved by one rename from the queue to a name that nobody else can have:
`<id>.<attempt>.<process>.<token>.<phase><beat>-<ttl>`. Each later step (renew, start, commit,
take over, give back, finish) is again one rename of that file, so it either has happened or has
not, and whoever comes late finds the name gone. sqooler's `jobs/running/<id>.json` is shown as
a second link to the file; nothing is decided by it.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

#: What a file in a queue must be called to be taken for a job; others are left alone.
JOB_FILE = re.compile(r"(?P<id>[A-Za-z0-9_-]{1,100})\.json\Z")
#: What sqooler and MongoDB take for a job id.
JOB_ID = re.compile(r"[0-9a-f]{24}\Z")
#: No attempt has this number: a claim's name has six places for it.
MOST_ATTEMPTS = 999_999
DEVICE = re.compile(r"[a-z0-9]{1,100}\Z")


class Phase(StrEnum):
    """How far a claim is."""

    CLAIMED = "c"
    STARTED = "s"
    #: Committed: staged documents are complete, and anybody may publish them.
    COMMITTED_DONE = "d"
    COMMITTED_ERROR = "e"

    @property
    def committed(self) -> bool:
        """Whether the end of the job is decided."""
        return self in {Phase.COMMITTED_DONE, Phase.COMMITTED_ERROR}


_CLAIM = re.compile(
    r"(?P<id>[A-Za-z0-9_-]{1,100})\.(?P<attempt>\d{1,6})\.(?P<process>[0-9a-f-]{1,80})"
    rf"\.(?P<token>[0-9a-f]{{1,40}})\.(?P<phase>[{''.join(Phase)}])"
    r"(?P<beat>\d{1,9})-(?P<ttl>\d{1,9})\Z"
)


class ClaimName(NamedTuple):
    """What a claim's file name says. `ttl` in whole milliseconds."""

    job_id: str
    attempt: int
    process: str
    token: str
    phase: Phase
    beat: int
    ttl: int

    @classmethod
    def parse(cls, name: str) -> ClaimName | None:
        """None for a file that is no claim."""
        found = _CLAIM.match(name)
        if found is None:
            return None
        job_id, attempt, process, token, phase, beat, ttl = found.groups()
        return cls(job_id, int(attempt), process, token, Phase(phase), int(beat), int(ttl))

    def __str__(self) -> str:
        return (
            f"{self.job_id}.{self.attempt}.{self.process}.{self.token}"
            f".{self.phase}{self.beat}-{self.ttl}"
        )

    def renewed(self, ttl: float, *, started: bool) -> ClaimName:
        """The next name of a renewed claim."""
        phase = Phase.STARTED if started else self.phase
        return self._replace(phase=phase, beat=self.beat + 1, ttl=milliseconds(ttl))


def milliseconds(ttl: float) -> int:
    """A lease time as it stands in a claim's name."""
    return max(1, round(ttl * 1000))


class Layout:
    """The places below one base folder, as text: they are made for every step of every job."""

    def __init__(self, base: Path) -> None:
        self.base = str(base)

    def marker(self) -> str:
        """What says that this is the folder that we have used, and not an empty mount point."""
        return f"{self.base}/spooler/storage.json"

    def queue(self, device: str) -> str:
        return f"{self.base}/jobs/queued/{device}"

    def running(self, job_id: str) -> str:
        return f"{self.base}/jobs/running/{job_id}.json"

    def ended(self, device: str, job_id: str, *, done: bool) -> str:
        folder = f"finished/{device}" if done else "deleted"
        return f"{self.base}/jobs/{folder}/{job_id}.json"

    def status(self, device: str, job_id: str) -> str:
        return f"{self.base}/status/{device}/{job_id}.json"

    def result(self, device: str, job_id: str) -> str:
        return f"{self.base}/results/{device}/{job_id}.json"

    def config(self, device: str) -> str:
        return f"{self.base}/backends/configs/{device}.json"

    def public_key(self, kid: str) -> str:
        return f"{self.base}/backends/public_keys/{kid}.json"

    def succession(self, device: str) -> str:
        return f"{self.base}/spooler/keys/{device}.json"

    def all_claims(self) -> str:
        return f"{self.base}/spooler/claims"

    def claims(self, device: str) -> str:
        return f"{self.base}/spooler/claims/{device}"

    def owner(self, process: str) -> str:
        return f"{self.base}/spooler/owners/{process}.json"

    def history(self, device: str, job_id: str) -> str:
        return f"{self.base}/spooler/history/{device}/{job_id}.json"

    def cancel(self, device: str, job_id: str) -> str:
        return f"{self.base}/spooler/cancels/{device}/{job_id}.json"

    def report(self, device: str, job_id: str) -> str:
        return f"{self.base}/spooler/reports/{device}/{job_id}.json"

    def replaced(self, device: str, job_id: str, token: str) -> str:
        return f"{self.base}/spooler/replaced/{device}/{job_id}.{token}.json"


def folder_of(place: str) -> str:
    """The folder that a place is in."""
    return place.rpartition("/")[0]
