"""A claim: a job and the right to write about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from spooler.model.job import Job


@dataclass(frozen=True, slots=True)
class Owner:
    """One process: nobody else ever has the same `process`.

    `estate` is the folder of what this process leaves behind when it dies, "" when it leaves
    nothing. `host` and `pid` are for people only: nothing is concluded from them.
    """

    host: str
    pid: int
    process: str
    estate: str = ""

    def __str__(self) -> str:
        return f"{self.host}/{self.pid}/{self.process[:8]}"


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write about one job: a token of ours, who has it, and for how long.

    `token` is new for each job wanted, and path-safe. `ttl` in seconds: a lease that is not
    renewed for so long runs out.
    """

    token: str
    owner: Owner
    ttl: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one earlier attempt at a job ended; `started` when it may have touched the instrument."""

    number: int
    owner: str
    at: datetime
    ended: str
    started: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """A job and the lease on it.

    Every later write is conditional on the lease's token and the attempt. `handle` is the
    storage's own note of where the lease stands (a file name, a revision): a hint, never a
    condition, and nobody else reads it. `started` says that the handler may have touched the
    instrument, `cancelled` that the submitter has withdrawn the job (the lease stays ours until
    the end is acknowledged). `until` is a deadline on our monotonic clock that `renew` cannot
    move, None where there is none. `history` holds the attempts that ended without a report,
    oldest first.
    """

    job: Job
    lease: Lease
    attempt: int
    handle: str = ""
    started: bool = False
    cancelled: bool = False
    until: float | None = None
    history: tuple[Attempt, ...] = field(default=())

    @property
    def token(self) -> str:
        """The token of the lease."""
        return self.lease.token

    @property
    def owner(self) -> Owner:
        """Return who holds the lease."""
        return self.lease.owner

    @property
    def runs(self) -> int:
        """Return how many attempts, this one included, may have touched the instrument."""
        return sum(each.started for each in self.history) + self.started
