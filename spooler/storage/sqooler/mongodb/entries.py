"""What a document of the ledger says, in our words. Whatever stands there, reading it fails nobody.

Only spooler writes ledgers; but they lie in a database that others may write to as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson.objectid import ObjectId

from spooler.model.claim import Attempt, Claim, Owner
from spooler.model.job import Job
from spooler.storage.liveness import certainly_dead
from spooler.storage.sqooler.mongodb.client import Document
from spooler.storage.sqooler.mongodb.layout import Phase


@dataclass(frozen=True, slots=True)
class Entry:
    """A claim of somebody's, as `expired` finds it."""

    number: ObjectId
    phase: Phase
    token: str
    attempt: int
    until: datetime


def entry_of(said: Mapping[str, Any]) -> Entry | None:
    """A claim that is held or committed; None when the document does not say whose."""
    number, token, attempt, until = (said.get(each) for each in ("_id", *_MARKS))
    if not isinstance(number, ObjectId) or not isinstance(token, str):
        return None
    if not isinstance(attempt, int) or not isinstance(until, datetime):
        return None
    return Entry(number, Phase(said["phase"]), token, attempt, until)


_MARKS = ("token", "attempt", "until")


def claim_of(job: Job, owner: Owner, said: Mapping[str, Any]) -> Claim:
    """The claim that a document describes which was just made ours."""
    return Claim(
        job,
        owner,
        said["attempt"],
        said["token"],
        started=bool(said.get("started")),
        cancelled=bool(said.get("cancelled")),
        history=_history(said.get("history")),
    )


def _history(said: Any) -> tuple[Attempt, ...]:
    """The earlier attempts; what is none is left out."""
    found = []
    for each in said if isinstance(said, list) else ():
        try:
            number, at = each["number"], each["at"]
            attempt = Attempt(number, str(each["owner"]), at, str(each["ended"]))
        except (KeyError, TypeError, IndexError):
            continue
        if isinstance(number, int) and isinstance(at, datetime):
            found.append(attempt)
    return tuple(found)


def owner_document(owner: Owner) -> Document:
    """Who holds a claim, as it is written."""
    return {"host": owner.host, "pid": owner.pid, "process": owner.process}


def dead(said: Any, me: Owner) -> bool:
    """Whether the owner in a document is a process of this host that is certainly dead."""
    if not isinstance(said, dict):
        return False
    try:
        owner = Owner(str(said["host"]), int(said["pid"]), str(said["process"]))
    except (KeyError, ValueError, TypeError):
        return False
    return certainly_dead(owner, me)
