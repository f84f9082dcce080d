"""Eight daemons' views of one server, each a process: every job exactly once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from bson.objectid import ObjectId

from spooler.testing.bench import DEVICE
from tests.servers.mongodb import MongoServer
from tests.storage.mongo_bench import Backends

#: More take longer than a test may: `SPOOLER_TEST_RACE_JOBS=2000` for the whole of it.
JOBS = int(os.environ.get("SPOOLER_TEST_RACE_JOBS", "240"))
TAKERS = 8
#: The server of the tests is slow when many wait (docs/decisions/0008); jobs come in portions.
PORTION = 120

TAKER = """
import secrets, sys
from spooler.clock import SystemClock
from spooler.storage.sqooler.mongodb.address import MongoAddress
from spooler.storage.sqooler.mongodb.backend import MongoBackend
from spooler.testing.bench import QUEUE, new_lease, other_owner, signed_report

me = other_owner()
backend = MongoBackend(MongoAddress(uri=sys.argv[1], prefix=sys.argv[2]), SystemClock())
backend.ping()
print("ready", flush=True)
for _ in sys.stdin:
    while (claim := backend.claim(QUEUE, new_lease(me, 60.0))) is not None:
        claim = backend.start(claim, 60.0)
        backend.ack(claim, signed_report(claim, data={"by": me.process}))
        print(claim.job.id, flush=True)
    print("idle", flush=True)
backend.close()
"""


@pytest.fixture
def backends(mongodb_server: MongoServer, mongo_prefix: str) -> Iterator[Backends]:
    made = Backends(mongodb_server, mongo_prefix)
    yield made
    made.close()


@pytest.mark.timeout(300)
def test_eight_daemons_do_every_job_exactly_once(backends: Backends) -> None:
    command = [sys.executable, "-c", TAKER, backends.server.uri, backends.prefix]
    takers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(TAKERS)
    ]
    try:
        _expect(takers, "ready")
        jobs: list[str] = []
        taken: Counter[str] = Counter()
        began = time.monotonic()
        while len(jobs) < JOBS:
            jobs += backends.fill(min(PORTION, JOBS - len(jobs)))
            for taker in takers:
                assert taker.stdin is not None
                taker.stdin.write("go\n")
                taker.stdin.flush()
            taken.update(_expect(takers, "idle"))
        print(f"{JOBS} jobs by {TAKERS} daemons in {time.monotonic() - began:.1f} s")
    finally:
        for taker in takers:
            taker.communicate(timeout=30)
    assert [taker.returncode for taker in takers] == [0] * TAKERS
    assert taken == Counter(jobs)
    _check(backends, jobs)


def _expect(takers: list[subprocess.Popen[str]], word: str) -> list[str]:
    """What the takers say before `word`."""
    said = []
    for taker in takers:
        assert taker.stdout is not None
        while (line := taker.stdout.readline().strip()) != word:
            assert line, "a taker has ended"
            said.append(line)
    return said


def _check(backends: Backends, jobs: list[str]) -> None:
    wanted = {ObjectId(each) for each in jobs}
    assert backends[f"jobs/queued.{DEVICE}"].count_documents({}) == 0
    for place in (f"jobs/finished.{DEVICE}", f"results/{DEVICE}"):
        assert set(backends[place].distinct("_id")) == wanted
    assert backends[f"spooler/replaced.{DEVICE}"].count_documents({}) == 0
    ended = {"_id": {"$in": list(wanted)}, "phase": "ended", "attempt": 1}
    assert backends[f"jobs/spooler.{DEVICE}"].count_documents(ended) == len(jobs)
    workers = backends[f"results/{DEVICE}"].distinct("header.by")
    assert len(workers) > 1, "one did it all: nothing was raced for"
