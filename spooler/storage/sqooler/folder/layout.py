"""Where things lie in a folder that sqooler's users and we share, and how claims are named.

sqooler's own places are those of the wire format. Ours are all below `spooler/`:

    claims/<queue>/<claim name>     the job file itself, while it is claimed
    history/<queue>/<id>.json       attempts that ended without a report
    cancels/<queue>/<id>.json       the submitter's wish to withdraw the job
    reports/<queue>/<id>.json       the signed report as a compact JWS
    replaced/<queue>/...            what stood in the place of a result before
    owners/<process>.json           who the process in a claim name is

A claim is one file, moved by one rename from the queue to a name that nobody else can have:
`<id>.<attempt>.<process>.<token>.<phase><beat>-<ttl>`. Each later step (renew, start, commit,
take over, give back, finish) is again one rename of that file, so it either has happened or has
not, and whoever comes late finds the name gone. sqooler's `jobs/running/<id>.json` is shown as
a second link to the file and decides nothing.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from spooler.errors import Bug
from spooler.model.claim import Claim, Lease
from spooler.storage.kit.per_queue import PerQueue

#: What a file in a queue must be called to be taken for a job; others are left alone.
JOB_FILE = re.compile(r"(?P<id>[A-Za-z0-9_-]{1,100})\.json\Z")
#: What sqooler and MongoDB take for a job id.
JOB_ID = re.compile(r"[0-9a-f]{24}\Z")
#: The longest lease, in milliseconds: nine digits.
_LONGEST = 999_999_999
#: No attempt has this number: a claim's name has six places for it.
MOST_ATTEMPTS = 999_999


class Phase(StrEnum):
    """How far a claim is."""

    CLAIMED = "c"
    STARTED = "s"
    #: Committed: staged documents are complete, and anybody may publish them.
    COMMITTED_DONE = "d"
    COMMITTED_ERROR = "e"


#: The end of the job is decided.
COMMITTED = frozenset({Phase.COMMITTED_DONE, Phase.COMMITTED_ERROR})

_CLAIM = re.compile(
    r"(?P<id>[A-Za-z0-9_-]{1,100})\.(?P<attempt>[1-9]\d{0,5})\.(?P<process>[A-Za-z0-9_-]{1,80})"
    rf"\.(?P<token>[A-Za-z0-9_-]{{1,40}})\.(?P<phase>[{''.join(Phase)}])"
    r"(?P<beat>0|[1-9]\d{0,8})-(?P<ttl>[1-9]\d{0,8})\Z",
    re.ASCII,
)


class _Said(NamedTuple):
    """What a claim's file name says. `ttl` in whole milliseconds."""

    job_id: str
    attempt: int
    process: str
    token: str
    phase: Phase
    beat: int
    ttl: int


class ClaimName(_Said):
    """The file name of a claim."""

    @cached_property
    def text(self) -> str:
        """The name itself."""
        return (
            f"{self.job_id}.{self.attempt}.{self.process}.{self.token}"
            f".{self.phase}{self.beat}-{self.ttl}"
        )

    def __str__(self) -> str:
        return self.text

    @classmethod
    def first(cls, job_id: str, attempt: int, lease: Lease) -> ClaimName:
        """Name a new claim."""
        return cls(job_id, attempt, "", "", Phase.CLAIMED, -1, 0).held_by(lease)

    @staticmethod
    def parse(name: str) -> ClaimName | None:
        """Read a file name; None for a file that is not a claim."""
        found = _CLAIM.match(name)
        if found is None:
            return None
        job_id, attempt, process, token, phase, beat, ttl = found.groups()
        return ClaimName(job_id, int(attempt), process, token, Phase(phase), int(beat), int(ttl))

    def names(self, claim: Claim) -> bool:
        """Return whether this is a name of that claim, older or newer."""
        mine = (self.job_id, self.attempt, self.token)
        return mine == (claim.job.id, claim.attempt, claim.lease.token)

    def then(self, **changes: Any) -> ClaimName:
        """Return the next name of the claim: every observer sees that it has changed."""
        return self._replace(beat=self.beat + 1, **changes)

    def held_by(self, lease: Lease) -> ClaimName:
        """Return the name under which the holder of a lease has the claim."""
        ttl = min(max(1, round(lease.ttl * 1000)), _LONGEST)
        mine = self.then(process=lease.owner.process, token=lease.token, ttl=ttl)
        if _CLAIM.match(mine.text) is None:
            raise Bug(f"no file can have this name, so no claim: {mine.text!r}")
        return mine


class Places:
    """Where the files of one queue lie, as text: made once, and joined with names for each job."""

    def __init__(self, base: str, queue: str) -> None:
        self.queued = f"{base}/jobs/queued/{queue}"
        self.finished = f"{base}/jobs/finished/{queue}"
        self.status = f"{base}/status/{queue}"
        self.results = f"{base}/results/{queue}"
        self.config = f"{base}/backends/configs/{queue}.json"
        self.succession = f"{base}/spooler/keys/{queue}.json"
        self.claims = f"{base}/spooler/claims/{queue}"
        self.history = f"{base}/spooler/history/{queue}"
        self.cancels = f"{base}/spooler/cancels/{queue}"
        self.reports = f"{base}/spooler/reports/{queue}"
        self.replaced = f"{base}/spooler/replaced/{queue}"


class Layout:
    """The places below one base folder, as text."""

    def __init__(self, base: Path) -> None:
        self.base = str(base)
        #: Where it says that this is the folder we have used, and not an empty mount point.
        self.marker = f"{base}/spooler/storage.json"
        self.running = f"{base}/jobs/running"
        #: Where the job files of failed jobs go, of all queues.
        self.deleted = f"{base}/jobs/deleted"
        self.public_keys = f"{base}/backends/public_keys"
        self.owners = f"{base}/spooler/owners"
        #: The claims of all queues, a folder for each.
        self.claims = f"{base}/spooler/claims"
        self.queues = PerQueue(partial(Places, self.base))
