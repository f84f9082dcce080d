"""Where a job stands and why, for its submitter."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from spooler.model.state import State


@dataclass(frozen=True, slots=True)
class Status:
    """State, a short reason a submitter can act on, and when it started and ended (UTC)."""

    state: State
    reason: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
