"""A job: one request for one device."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime

from spooler.model.json import Json

#: Ids that may name a file as they are.
_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{,47}\Z")
_SLUG = re.compile(r"[^a-z0-9]+")
#: Characters of the readable part of a made-up key, and of the digest behind it.
_SLUG_LENGTH, _DIGEST_LENGTH = 24, 32


def key_of(name: str) -> str:
    """`name` as it may name a file: bounded, path-safe, and different for different names.

    Plain names stay as they are. All others get a readable beginning, the mark `~` that no plain
    name has, and 128 bits of their SHA-256.
    """
    if _PLAIN.match(name):
        return name
    slug = _SLUG.sub("-", name.lower())[:_SLUG_LENGTH].strip("-") or "x"
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{slug}~{digest[:_DIGEST_LENGTH]}"


@dataclass(frozen=True, slots=True)
class Queue:
    """Jobs that wait for one device in one storage.

    `name` is what the storage is asked for; only the settings and the storage know what it means.
    `device` is the device of ours that serves it.
    """

    name: str
    device: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What the job's submitter allows: seconds of one run, and runs that have started."""

    timeout: float | None = None
    attempts: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One request, as the storage hands it out.

    `queue` is the name of its queue. `digest` is the SHA-256 of the very bytes that were queued,
    in hex, or "" where they were not read. `defect` is empty, or it says for the submitter why no
    payload could be read; then `payload` is None.
    """

    id: str
    queue: str
    payload: Json = None
    digest: str = ""
    defect: str = ""
    submitted_at: datetime | None = None
    submitter: str = ""
    limits: Limits = field(default_factory=Limits)
    #: Of a job that is looked at and not claimed: whether its submitter has withdrawn it.
    withdrawn: bool = False

    @property
    def key(self) -> str:
        """The only form of the id that names a file."""
        return key_of(self.id)
