"""What a handler brings home, and what is signed of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from spooler.model.artifact import Artifact
from spooler.model.json import JsonObject
from spooler.model.state import State
from spooler.model.status import Status


@dataclass(frozen=True, slots=True)
class Result:
    """Data and files of a finished run.

    `data` must be plain JSON with finite numbers. Where the storage is sqooler's, the key
    `results` holds one experiment result per experiment; other keys go to its `header`.
    """

    data: JsonObject = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: a final state, a reason for the submitter, a result when it is done."""

    state: State
    reason: str = ""
    result: Result | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is said about one job at its end: the thing signed."""

    job_id: str
    device: str
    device_version: str
    attempt: int
    owner: str
    status: Status
    result: Result | None = None


@dataclass(frozen=True, slots=True)
class SignedReport:
    """A report and its compact RFC 7515 JWS; `jws` is empty when the backend has no key."""

    report: Report
    jws: str = ""
