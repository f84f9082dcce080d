"""Eight real daemons on one MongoDB server: each job exactly once."""

from __future__ import annotations

import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from bson.objectid import ObjectId

from tests.acceptance.lab import until
from tests.acceptance.mongo_lab import MongoLab
from tests.servers.mongodb import MongoServer

pytestmark = pytest.mark.acceptance

#: About a minute and a half on two cores; a machine that has no time for it sets fewer.
JOBS = int(os.environ.get("SPOOLER_TEST_DAEMON_JOBS", "2000"))
DAEMONS = 8
#: The server of the tests goes through the whole queue for each question (1.1 of the design
#: text on components), so the queue is filled up as it drains.
WAITING = 80
#: Seconds within which the next portion must have gone.
PATIENCE = 120.0


@pytest.fixture
def lab(tmp_path: Path, bare_mongodb: MongoServer) -> Iterator[MongoLab]:
    made = MongoLab(tmp_path, bare_mongodb)
    yield made
    made.close()


@pytest.mark.timeout(900)
def test_eight_daemons_run_each_job_exactly_once(lab: MongoLab) -> None:
    daemons = [
        lab.run(
            lab.counting(name=f"daemon{number}", extra='isolation = "thread"'), ready=number == 0
        )
        for number in range(DAEMONS)
    ]
    for each in daemons:
        each.wait_for("daemon.started")
    jobs: list[str] = []
    began = time.monotonic()
    while len(jobs) < JOBS:
        jobs += feed(lab, min(WAITING // 2, JOBS - len(jobs)))
        few = len(jobs) - WAITING // 2
        until(lambda few=few: len(lab.book()) >= few, f"{few} runs", PATIENCE)  # type: ignore[misc]
    queue = lab.server.client["jobs"]["queued.counter"]
    until(lambda: queue.count_documents({}) == 0, "an empty queue", PATIENCE)
    took = time.monotonic() - began
    assert [each.stop() for each in daemons] == [0] * DAEMONS
    print(f"{JOBS} jobs by {DAEMONS} daemons: {JOBS / took:.1f} jobs/s")
    demand_each_once(lab, jobs)


def feed(lab: MongoLab, count: int) -> list[str]:
    """More jobs, as sqooler's client writes them, with their first statuses."""
    ids = [ObjectId(uuid.uuid4().hex[:24]) for _ in range(count)]
    first = {"status": "INITIALIZING", "detail": "Got your json.", "error_message": "None"}
    lab.server.client["status"]["counter"].insert_many(
        [{"_id": each, "job_id": str(each), **first} for each in ids]
    )
    lab.server.client["jobs"]["queued.counter"].insert_many([{"_id": each} for each in ids])
    return [str(each) for each in ids]


def demand_each_once(lab: MongoLab, jobs: list[str]) -> None:
    """Run once, by the handlers' own book; ended once, by what stands on the server."""
    client = lab.server.client
    assert Counter(line.split()[0] for line in lab.book()) == Counter(jobs)
    wanted = {ObjectId(each) for each in jobs}
    for database, place in (("jobs", "finished.counter"), ("results", "counter")):
        assert {each["_id"] for each in client[database][place].find({}, {"_id": 1})} == wanted
    said = Counter(
        each["payload"]["status"] for each in client["status"]["counter"].find({}, {"payload": 1})
    )
    assert said == {"DONE": len(jobs)}
    entries = list(client["jobs"]["spooler.counter"].find({}, {"phase": 1, "attempt": 1}))
    assert {(each["phase"], each["attempt"]) for each in entries} == {("ended", 1)}
    assert {each["_id"] for each in entries} == wanted
    assert client["spooler"]["replaced.counter"].count_documents({}) == 0
    shares = [len(each.events("job.finished")) for each in lab.processes]
    assert sum(shares) == len(jobs)
    assert min(shares) > 0, "a daemon had nothing to do: nothing was raced for"
