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
    """How a run ended: a final state, a reason for the submitter, a result when it is done.

    `again`: the storage's own rule for repeating failures may run the job once more. Without it
    an error is final. `died`: the process that ran it was gone before it answered, so that the
    device's policy says whether the job runs again.
    """

    state: State
    reason: str = ""
    result: Result | None = None
    again: bool = False
    died: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is said about one job at its end: the thing signed.

    `queue` is where the job waited, `digest` the SHA-256 of the request as it was queued ("" where
    it was not read), `again` whether the storage's own rule may repeat it.
    """

    job_id: str
    queue: str
    device: str
    device_version: str
    attempt: int
    owner: str
    status: Status
    result: Result | None = None
    digest: str = ""
    again: bool = False


@dataclass(frozen=True, slots=True)
class SignedReport:
    """A report and its compact RFC 7515 JWS; `jws` is empty when the backend has no key."""

    report: Report
    jws: str = ""
