"""A job: one request for one device."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from spooler.model.json import Json


@dataclass(frozen=True, slots=True)
class Job:
    """One request for one device, as the storage hands it out.

    `defect` is empty, or it says for the submitter why no payload could be read; then
    `payload` is None.
    """

    id: str
    device: str
    payload: Json = None
    defect: str = ""
    submitted_at: datetime | None = None
