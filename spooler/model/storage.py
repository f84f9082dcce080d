"""What storages promise, would write, and say of a signature."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from spooler.model.json import JsonObject


class Fence(StrEnum):
    """How a storage keeps a late writer out."""

    #: The write itself is conditional: there is no moment between the look and the write.
    ATOMIC = "atomic"
    #: The writer looks and then writes: run one daemon per queue.
    CHECKED = "checked"


@dataclass(frozen=True, slots=True)
class Traits:
    """What a storage promises, as data, so that nobody checks types.

    keeps_claims: it remembers who holds what; where it does not, the daemon writes it down.
    delays: it holds a job back for the delay of `release`; where not, the daemon does.
    ordered: jobs are handed out oldest first.
    largest_report: bytes that the data of a result may have, or None.
    fence: whether a write by a late writer is refused by the storage itself.
    """

    keeps_claims: bool = True
    delays: bool = True
    ordered: bool = True
    largest_report: int | None = None
    fence: Fence = Fence.ATOMIC


class Standing(StrEnum):
    """What is known of the holder of a claim, and so when somebody else may take it over."""

    #: Never: it is cared for here.
    SPARED = "spared"
    #: When its lease runs out.
    LEASED = "leased"
    #: Now: its holder is dead and has left nothing that is worth waiting for.
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Write:
    """One document that would be written: its place and its content."""

    place: str
    content: JsonObject


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether a result is signed by the announced key, and a sentence that says so."""

    ok: bool
    detail: str
    kid: str = ""
