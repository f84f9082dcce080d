"""What a backend needs beside its own settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spooler.protocols import Clock, Signer


@dataclass(frozen=True, slots=True)
class Opening:
    """What the daemon gives to whoever opens a backend. `max_payload` in bytes."""

    clock: Clock
    max_payload: int
    signer: Signer | None = None
    #: Public JWKs of keys that were ours before a rotation.
    former_keys: Sequence[dict[str, str]] = ()
