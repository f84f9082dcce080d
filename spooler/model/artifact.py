"""An artifact: a published file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file, found by the submitter at `path` (relative); size in bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str
