"""One run of a handler: what it is asked, and why it may be stopped."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from spooler.model.json import Json


class StopReason(StrEnum):
    """Why a run is ended from outside."""

    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    LEASE_LOST = "lease-lost"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a runner is asked to do: one payload, seconds it may take, a folder it may use."""

    job_id: str
    attempt: int
    payload: Json
    timeout: float
    scratch: str
