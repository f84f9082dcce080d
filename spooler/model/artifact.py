"""An artifact: a published file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

#: The file in a run's scratch folder with what its handler returned and no report can carry.
REFUSED = "refused-result.json"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file, found by the submitter at `path` (relative); size in bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        """Raise ValueError for a path that could lead out of the folder that it is in."""
        parts = PurePosixPath(self.path).parts
        if not parts or parts[0] == "/" or ".." in parts or "\0" in self.path:
            raise ValueError(
                f"{self.path!r} is not a valid path for a published file; it must be relative, "
                "without '..'"
            )
