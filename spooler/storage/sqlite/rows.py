"""From rows to claims, and from claims to the columns of a statement."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from spooler.errors import BackendUnavailable, Scope
from spooler.model.claim import Attempt, Claim, Lease, Owner
from spooler.model.job import Job
from spooler.storage.kit.payloads import decode, too_large
from spooler.storage.sqlite.schema import HISTORY, JOB


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Have what cannot be read trouble its queue alone: others may write the file too."""
    try:
        yield
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise BackendUnavailable(
            f"{what} cannot be read; somebody else has changed it: {error}", scope=Scope.QUEUE
        ) from error


def read_job(row: sqlite3.Row, limit: int) -> Job:
    """Return the job in a row of JOB; one of more than `limit` bytes has a defect."""
    with readable(f"job number {row['number']}"):
        return _job(row, limit)


def _job(row: sqlite3.Row, limit: int) -> Job:
    content = row["payload"]
    if not isinstance(row["id"], str):
        raise TypeError("its id is not text")
    found = too_large(row["size"], limit) if content is None else decode(content)
    return Job(
        row["id"],
        row["queue"],
        found.payload,
        digest="" if content is None else hashlib.sha256(content).hexdigest(),
        defect=found.defect,
        submitted_at=moment(row["submitted_at"]),
        submitter=row["submitter"],
    )


def read_claim(connection: sqlite3.Connection, number: int, limit: int) -> Claim:
    """Return the claim that stands on a job."""
    with readable(f"job number {number}"):
        return _claim(connection, number, limit)


def _claim(connection: sqlite3.Connection, number: int, limit: int) -> Claim:
    row = connection.execute(JOB, {"number": number, "limit": limit}).fetchone()
    if row is None:
        raise ValueError("its request is missing")
    owner = Owner(row["host"], row["pid"], row["process"], row["estate"])
    return Claim(
        read_job(row, limit),
        Lease(row["token"], owner, row["ttl"]),
        row["attempt"],
        started=row["started_at"] is not None,
        cancelled=bool(row["cancelled"]),
        history=tuple(
            Attempt(
                past["number"],
                past["owner"],
                datetime.fromisoformat(past["at"]),
                past["ended"],
                started=bool(past["started"]),
            )
            for past in connection.execute(HISTORY, {"number": number})
        ),
    )


def moment(text: str | None) -> datetime | None:
    """Return a stored time."""
    return None if text is None else datetime.fromisoformat(text)


def stored(at: datetime | None) -> str | None:
    """Return a time as it is stored."""
    return None if at is None else at.isoformat()


def lease_columns(lease: Lease) -> dict[str, Any]:
    """Return who holds a job and for how long, for TAKE and TAKE_OVER."""
    owner = lease.owner
    return {
        "token": lease.token,
        "host": owner.host,
        "pid": owner.pid,
        "process": owner.process,
        "estate": owner.estate,
        "ttl": lease.ttl,
    }


def fence(claim: Claim) -> dict[str, Any]:
    """Return what each write about a claim is conditional on: its job, token and attempt."""
    return {
        "queue": claim.job.queue,
        "id": claim.job.id,
        "token": claim.lease.token,
        "attempt": claim.attempt,
    }
