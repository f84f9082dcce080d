"""The daemon's view of a SQLite file: each verb is one transaction, conditional on the claim.

`BEGIN IMMEDIATE` lets one writer in at a time, so what a verb has looked at stays true until it
writes. A statement about a claim names its token and attempt: who has lost it changes no row.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from spooler.errors import JobGone, LeaseLost, ReportRefused
from spooler.model.claim import Claim, Lease
from spooler.model.job import Job, Queue
from spooler.model.records import report_to_json
from spooler.model.result import SignedReport
from spooler.model.state import ENDING, State, step
from spooler.model.storage import Standing, Traits, Write
from spooler.protocols import Clock, Judge, Subscription
from spooler.storage.kit.watched import Seen, Watched
from spooler.storage.sqlite.catalogue import SqliteCatalogue
from spooler.storage.sqlite.database import Database
from spooler.storage.sqlite.rows import fence, lease_columns, read_claim, read_job, stored
from spooler.storage.sqlite.schema import (
    DEPTH,
    END,
    EXTEND,
    GIVE_BACK,
    JOB,
    KEEP_REPORT,
    NOTE_ATTEMPT,
    OLDEST_FIRST,
    OPEN_CLAIMS,
    OWN_CLAIM,
    SHOW,
    STANDING,
    TAKE,
    TAKE_OVER,
)

#: Bytes of data: nobody else can write while a report is written, so it must not take seconds.
LARGEST_REPORT = 64 * 1024 * 1024
#: What a report has besides its data.
_ENVELOPE = 64 * 1024


class SqliteBackend:
    """Jobs of every queue in one file.

    Leases run out by the clock of whoever watches: one that was not renewed for its whole time,
    as seen here, is over. No time of a lease is stored, so a wall clock that is stepped neither
    ends a live lease nor keeps a dead one; a daemon that has just started waits for one lease time.
    """

    traits = Traits(largest_report=LARGEST_REPORT)

    def __init__(
        self, database: Database, catalogue: SqliteCatalogue, clock: Clock, *, max_payload: int
    ) -> None:
        self.catalogue = catalogue
        self._database = database
        self._clock = clock
        self._max_payload = max_payload
        self._watched: Watched[int] = Watched(clock.monotonic)

    @property
    def address(self) -> str:
        return f"sqlite:{self._database.path.resolve()}"

    # --- taking a job -----------------------------------------------------------------------

    def claim(self, queue: Queue, lease: Lease) -> Claim | None:
        wanted = {"queue": queue.name, "now": self._now(), **lease_columns(lease)}
        with self._database.writing(make=True) as connection:
            found = connection.execute(OWN_CLAIM, wanted).fetchone()
            if found is None:
                found = connection.execute(OLDEST_FIRST, wanted).fetchone()
                if found is None:
                    return None
                connection.execute(TAKE, {**wanted, "number": found["number"]})
            return read_claim(connection, found["number"], self._max_payload)

    def reclaim(self, queue: Queue, lease: Lease, judge: Judge) -> Claim | None:
        """Look, judge without holding anybody up, then write where nothing has changed since."""
        wanted = {"queue": queue.name, **lease_columns(lease)}
        with self._database.reading() as connection:
            mine = connection.execute(OWN_CLAIM, wanted).fetchone()
            if mine is not None:
                return read_claim(connection, mine["number"], self._max_payload)
            rows = connection.execute(OPEN_CLAIMS, wanted).fetchall()
            claims = [read_claim(connection, row["number"], self._max_payload) for row in rows]
        run_out = self._watched.run_out(
            queue.name,
            [Seen(row["number"], (row["token"], row["renewals"]), row["ttl"]) for row in rows],
        )
        for row, claim in zip(rows, claims, strict=True):
            standing = judge(claim)
            over = standing is Standing.LEASED and row["number"] in run_out
            if standing is Standing.DEAD or over:
                taken = self._take_over(row, wanted)
                if taken is not None:
                    return taken
        return None

    def _take_over(self, row: sqlite3.Row, wanted: dict[str, Any]) -> Claim | None:
        seen = {"seen_token": row["token"], "seen_renewals": row["renewals"]}
        with self._database.writing() as connection:
            changed = connection.execute(TAKE_OVER, {**wanted, **seen, "number": row["number"]})
            if changed.rowcount == 0:
                return None
            return read_claim(connection, row["number"], self._max_payload)

    # --- while it runs ----------------------------------------------------------------------

    def start(self, claim: Claim, seconds: float) -> Claim:
        del seconds  # a lease has no end that a renewal could not move
        return self._extended(claim, started_at=stored(self._clock.now()))

    def renew(self, claim: Claim) -> Claim:
        return self._extended(claim, started_at=None)

    def _extended(self, claim: Claim, *, started_at: str | None) -> Claim:
        mine = fence(claim)
        with self._database.writing() as connection:
            changed = connection.execute(EXTEND, {**mine, "started_at": started_at})
            if changed.rowcount == 0:
                raise _lost(connection, claim)
            row = connection.execute(STANDING, mine).fetchone()
        started, cancelled = row["started_at"] is not None, bool(row["cancelled"])
        return replace(claim, started=started, cancelled=cancelled)

    def show(self, claim: Claim, text: str) -> None:
        with self._database.writing() as connection:
            connection.execute(SHOW, {**fence(claim), "text": text})

    # --- ending it --------------------------------------------------------------------------

    def ack(self, claim: Claim, signed: SignedReport) -> None:
        report, status = report_to_json(signed.report), signed.report.status
        largest = self.traits.largest_report
        if largest is not None and len(report) > largest + _ENVELOPE:
            raise ReportRefused(
                f"the report has {len(report)} bytes and this storage takes at most {largest}"
            )
        mine = fence(claim)
        ended = {
            **mine,
            "state": step(State.RUNNING, ENDING[status.state]),
            "reason": status.reason,
            "started": stored(status.started_at),
            "finished": stored(status.finished_at),
        }
        with self._database.writing() as connection:
            if connection.execute(END, ended).rowcount:
                connection.execute(KEEP_REPORT, {**mine, "report": report, "jws": signed.jws})
            elif not _ended_by(connection, claim):
                raise _lost(connection, claim)

    def release(self, claim: Claim, reason: str, *, refund: bool, delay: float = 0.0) -> None:
        """Give the job back.

        The delay is measured by the wall clock. Should that be stepped back to before the delay
        began, the wait is over; so it lasts twice as long at most, never days.
        """
        now = self._now()
        owner, at = str(claim.lease.owner), stored(self._clock.now())
        attempt = {"owner": owner, "at": at, "reason": reason}
        with self._database.writing() as connection:
            if not refund:
                connection.execute(NOTE_ATTEMPT, {**fence(claim), **attempt})
            held = {"since": now, "until": now + delay}
            if connection.execute(GIVE_BACK, {**fence(claim), **held}).rowcount == 0:
                raise _lost(connection, claim)

    def preview(self, claim: Claim, signed: SignedReport) -> tuple[Write, ...]:
        status, place = signed.report.status, f"{claim.job.queue}/{claim.job.id}"
        report = json.loads(report_to_json(signed.report))
        return (
            Write(f"jobs/{place}", {"state": status.state, "detail": status.reason}),
            Write(f"reports/{place}", {"report": report, "jws": signed.jws}),
        )

    # --- looking ----------------------------------------------------------------------------

    def depth(self, queue: Queue) -> int:
        with self._database.reading() as connection:
            (found,) = connection.execute(DEPTH, {"queue": queue.name}).fetchone()
        return int(found)

    def peek(self, queue: Queue) -> Iterator[Job]:
        """One transaction for each job: whoever looks slowly must not hold back the log."""
        wanted = {"queue": queue.name, "now": self._now()}
        with self._database.reading() as connection:
            numbers = [row["number"] for row in connection.execute(OLDEST_FIRST, wanted)]
        for number in numbers:
            asked = {"number": number, "limit": self._max_payload}
            with self._database.reading() as connection:
                row = connection.execute(JOB, asked).fetchone()
            if row is not None and row["state"] == State.QUEUED:
                job = read_job(row, self._max_payload)
                yield replace(job, withdrawn=bool(row["cancelled"]))

    def subscribe(self, queue: Queue, wake: Callable[[], None]) -> Subscription | None:
        """Return None: SQLite tells other processes nothing, and looking is one index entry."""
        return None

    def ping(self) -> None:
        self._database.probe()

    def close(self) -> None:
        self._database.close()

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _ended_by(connection: sqlite3.Connection, claim: Claim) -> bool:
    """Return whether this claim has ended the job: then its report stands there already."""
    row = connection.execute(STANDING, fence(claim)).fetchone()
    held = row is not None and (row["token"], row["attempt"]) == (claim.lease.token, claim.attempt)
    return held and State(row["state"]).ended


def _lost(connection: sqlite3.Connection, claim: Claim) -> LeaseLost:
    """Return why a write about a claim has changed nothing."""
    if connection.execute(STANDING, fence(claim)).fetchone() is None:
        return JobGone(f"job {claim.job.id} has been deleted by its owner")
    return LeaseLost(f"job {claim.job.id} is no longer held by {claim.lease.owner}")
