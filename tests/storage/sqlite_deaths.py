"""A process that works on a SQLite storage and kills itself, at a given step or at any moment.

    python -m tests.storage.sqlite_deaths FILE steps 17     before the 17th statement
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


def journey(backend: SqliteBackend, *, released: bool, size: int) -> bool:
    """One job from its claim to its end, or back to its queue; False when there is none."""
    claim = backend.claim(QUEUE, new_lease())
    if claim is None:
        return False
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
    return True


def steps(backend: SqliteBackend) -> None:
    """One job is given back, then it is ended."""
    for released in (True, False):
        journey(backend, released=released, size=10)


def forever(backend: SqliteBackend, seed: int) -> None:
    """Ends of all sizes, as long as there are jobs."""
    drawn = random.Random(seed)
    while journey(backend, released=drawn.random() < 0.3, size=drawn.choice([10, 5000, 500_000])):
        continue


def main(path: str, way: str, number: str) -> None:
    if way == "steps":
        Mortal.left = int(number)
        real = sqlite3.connect
        sqlite3.connect = lambda *a, **k: real(*a, factory=Mortal, **k)  # type: ignore[assignment]
        steps(sqlite_backend(Path(path), SystemClock()))
    else:
        forever(sqlite_backend(Path(path), SystemClock()), int(number))
    say("alive")


if __name__ == "__main__":
    main(*sys.argv[1:])
