"""A claim: a job and the right to write about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from spooler.model.job import Job


@dataclass(frozen=True, slots=True)
class Owner:
    """One process of one host: nobody else ever has the same `process`.

    `host` also tells pid name spaces and boots apart, so that two owners with the same `host`
    can judge each other by pid.
    """

    host: str
    pid: int
    process: str

    def __str__(self) -> str:
        return f"{self.host}/{self.pid}/{self.process[:8]}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one earlier attempt at a job ended."""

    number: int
    owner: str
    at: datetime
    ended: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A job and the lease on it.

    Every later write is conditional on (owner, attempt, token). `handle` is the storage's own
    note of where the lease stands (a file name, a revision); nobody else reads it. `started`
    says that the handler may have touched the instrument, `cancelled` that the submitter has
    withdrawn the job (the lease stays ours until the end is acknowledged). `history` holds the
    attempts that ended without a report, oldest first.
    """

    job: Job
    owner: Owner
    attempt: int
    token: str
    handle: str = ""
    started: bool = False
    cancelled: bool = False
    history: tuple[Attempt, ...] = field(default=())
