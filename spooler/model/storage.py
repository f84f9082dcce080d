"""What storages promise, would write, and say of a signature."""

from __future__ import annotations

from dataclasses import dataclass

from spooler.model.json import JsonObject


@dataclass(frozen=True, slots=True)
class Traits:
    """What a storage promises, as data, so that nobody checks types.

    renewable: a lease can be extended and is lost when it is not.
    fenced: a write with a stale token is refused by the storage itself.
    ordered: jobs are handed out oldest first.
    push: `subscribe` reports new jobs as they come.
    largest_report: bytes that a result may have, or None.
    """

    renewable: bool
    fenced: bool
    ordered: bool
    push: bool
    largest_report: int | None = None


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
