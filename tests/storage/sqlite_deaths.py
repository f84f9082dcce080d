"""A process that works on a SQLite storage and kills itself, at a given step or at any moment.

    python -m tests.storage.sqlite_deaths FOLDER each 60    one death before each of 60 statements
    python -m tests.storage.sqlite_deaths FILE forever 3    until somebody kills it; 3 is the seed

Each verb that has returned is said on the standard output: what was said must stand.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

from spooler.clock import SystemClock
from spooler.model.claim import Claim
from spooler.model.records import report_to_json
from spooler.model.result import SignedReport
from spooler.storage.sqlite.backend import SqliteBackend
from spooler.testing.bench import QUEUE, new_lease, signed_report
from tests.storage.sqlite_bench import KEY, sqlite_backend


class Mortal(sqlite3.Connection):
    """A connection whose process dies before one of its statements."""

    left = 0

    def execute(self, *asked: Any) -> sqlite3.Cursor:
        Mortal.left -= 1
        if Mortal.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(*asked)


def say(*words: object) -> None:
    print(*words, flush=True)


def ended(backend: SqliteBackend, claim: Claim, size: int) -> None:
    report = signed_report(claim, data={"attempt": claim.attempt, "much": "x" * size}).report
    backend.ack(claim, SignedReport(report, KEY.jws(report_to_json(report))))
    say("ack", claim.job.id, claim.attempt)


def journey(backend: SqliteBackend, *, released: bool, size: int) -> None:
    """One job, where there is one, from its claim to its end or back to its queue."""
    claim = backend.claim(QUEUE, new_lease())
    if claim is None:
        return
    say("claim", claim.job.id, claim.attempt)
    claim = backend.start(claim, 600.0)
    say("start", claim.job.id, claim.attempt)
    backend.show(claim, "half way")
    claim = backend.renew(claim)
    if released:
        backend.release(claim, "crash", refund=False)
        say("release", claim.job.id, claim.attempt)
    else:
        ended(backend, claim, size)


def steps(backend: SqliteBackend) -> None:
    """One job is given back, then it is ended."""
    for released in (True, False):
        journey(backend, released=released, size=10)


def forever(backend: SqliteBackend, seed: int) -> None:
    """Ends of all sizes, then looks for more until it is killed, or its parent is gone."""
    drawn, parent = random.Random(seed), os.getppid()
    while os.getppid() == parent:
        size = drawn.choice([10, 5000, 500_000])
        journey(backend, released=drawn.random() < 0.3, size=size)


def die_at(path: Path, step: int) -> None:
    """The journey of `steps`, ended before its statement of that number, if it has so many."""
    Mortal.left = step
    real = sqlite3.connect
    sqlite3.connect = lambda *a, **k: real(*a, factory=Mortal, **k)  # type: ignore[assignment]
    steps(sqlite_backend(path, SystemClock()))


def each(folder: Path, count: int) -> None:
    """One child for each step; what it has said goes to a file beside its jobs."""
    for step in range(1, count + 1):
        place = folder / str(step)
        child = os.fork()
        if child == 0:
            with (place / "said").open("w") as said:
                os.dup2(said.fileno(), sys.stdout.fileno())
                die_at(place / "jobs.db", step)
                os._exit(0)
        say(step, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    where, way, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    if way == "each":
        each(where, number)
    else:
        forever(sqlite_backend(where, SystemClock()), number)
