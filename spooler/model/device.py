"""Devices as outsiders see them, and what may be done to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from spooler.model.json import Json


class Rerun(StrEnum):
    """When a job whose worker died may run again. Running hardware twice is a decision."""

    NEVER = "never"
    IF_NOT_STARTED = "if-not-started"
    ALWAYS = "always"


#: When a device was last seen at work that has not been open yet.
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def seen(at: datetime | None) -> datetime | None:
    """Return what a stored last-seen time means: None for NEVER."""
    return None if at == NEVER else at


@dataclass(frozen=True, slots=True)
class DeviceCard:
    """What is announced about a device.

    `properties` carries what one ecosystem wants to know beyond that (sqooler: gates,
    max_shots, num_wires, ...), under that ecosystem's own names. `last_seen`: when it could take
    jobs the last time, None for never; a device that rests gets no younger.
    """

    name: str
    version: str = "0.0.1"
    description: str = ""
    simulator: bool = False
    properties: Mapping[str, Json] = field(default_factory=dict)
    pending: int | None = None
    note: str = ""
    last_seen: datetime | None = None
