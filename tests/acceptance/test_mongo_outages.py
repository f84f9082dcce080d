"""What befalls a server while a job runs: the run ends, its result is kept, and then delivered."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bson.objectid import ObjectId
from pymongo.errors import PyMongoError

from tests.acceptance.lab import kept, until
from tests.acceptance.mongo_lab import MongoLab
from tests.servers.mongodb import MongoServer
from tests.servers.proxy import FaultProxy

pytestmark = pytest.mark.acceptance

TIMES = "\nconnect_timeout = 1.0\noperation_timeout = 1.0"


@pytest.fixture
def lab(tmp_path: Path, bare_mongodb: MongoServer) -> Iterator[MongoLab]:
    made = MongoLab(tmp_path, bare_mongodb)
    made.place += TIMES
    yield made
    made.close()


def put(lab: MongoLab, **body: Any) -> ObjectId:
    """A job with its first status."""
    number = ObjectId(os.urandom(12))
    first = {"status": "INITIALIZING", "detail": "Got your json.", "error_message": "None"}
    client = lab.server.client
    client["status"]["counter"].insert_one({"_id": number, "job_id": str(number), **first})
    client["jobs"]["queued.counter"].insert_one({"_id": number, **body})
    return number


def demand_done_once(lab: MongoLab, *jobs: ObjectId) -> None:
    """All of them ended well, each after one run; nothing is left anywhere."""
    status = lab.server.client["status"]["counter"]
    for job in jobs:
        until(
            lambda job=job: status.find_one({"_id": job, "payload.status": "DONE"}),  # type: ignore[misc]
            f"the end of job {job}",
        )
    assert sorted(line.split()[0] for line in lab.book()) == sorted(map(str, jobs))
    assert {each["_id"] for each in lab.server.client["results"]["counter"].find()} == set(jobs)
    until(lambda: not reports(lab), "an empty outbox")


def reports(lab: MongoLab) -> list[Path]:
    """The results that wait on the daemon's own disk."""
    return kept(lab.folder / "spooler-state")


@pytest.fixture
def journey(lab: MongoLab) -> Callable[[contextlib.AbstractContextManager[object]], str]:
    """A job during which `fault` begins and lasts until the report has had to be kept."""

    def journey(fault: contextlib.AbstractContextManager[object]) -> str:
        daemon = lab.run(lab.counting())
        first = put(lab)
        until(lab.book, "the first run")
        second = put(lab, seconds=1.0)
        until(lambda: len(lab.book()) == 2, "the second run")
        with fault:
            until(lambda: reports(lab), "the report on our own disk")
            told: str = daemon.wait_for("storage.unavailable")["error"]
        third = put(lab)
        demand_done_once(lab, first, second, third)
        assert daemon.events("storage.recovered")
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.text()
        return told

    return journey


def test_a_network_that_is_half_open(
    lab: MongoLab, journey: Callable[[contextlib.AbstractContextManager[object]], str]
) -> None:
    """The connections stand and nothing passes: each call is given up when its time is over."""
    with FaultProxy("127.0.0.1", lab.server.port) as proxy:
        lab.place = lab.place.replace(f":{lab.server.port}", f":{proxy.port}")
        told = journey(proxy.half_open())
        lab.close()
    assert "did not answer in time" in told or "cannot be reached" in told


def test_a_network_that_is_cut(
    lab: MongoLab, journey: Callable[[contextlib.AbstractContextManager[object]], str]
) -> None:
    with FaultProxy("127.0.0.1", lab.server.port) as proxy:
        lab.place = lab.place.replace(f":{lab.server.port}", f":{proxy.port}")
        told = journey(proxy.cut())
        lab.close()
    assert "cannot be reached" in told or "broken the connection" in told


def test_a_primary_that_steps_down(
    lab: MongoLab, journey: Callable[[contextlib.AbstractContextManager[object]], str]
) -> None:
    """A real step-down; nobody else stands for election, so there is no primary for a while."""
    if not lab.server.owned:
        pytest.skip("other daemons may need the primary of a server that is not ours")
    lab.place = lab.place.replace("directConnection=true", "replicaSet=secantus")

    @contextlib.contextmanager
    def stepped_down() -> Iterator[None]:
        admin = lab.server.client.admin
        admin.command("replSetStepDown", 5, force=True)
        yield
        until(lambda: admin.command("hello")["isWritablePrimary"], "a primary")

    told = journey(stepped_down())
    assert "primary" in told or "cannot be reached" in told


@pytest.mark.timeout(300)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk")
def test_a_full_disk_of_the_server(tmp_path: Path, mongodb_server: MongoServer) -> None:
    """It takes nothing any more, until it is given room and started again, as mongod has to be."""
    if not mongodb_server.owned:
        pytest.skip("needs a server of its own")
    with contextlib.ExitStack() as stack:
        server = MongoServer()
        stack.callback(server.close)
        mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "small", str(server.folder)]
        subprocess.run(mount, check=True)
        stack.callback(subprocess.run, ["umount", "-l", str(server.folder)], check=True)
        server.start()
        stack.callback(server.kill)
        lab = MongoLab(tmp_path, server)
        stack.callback(lab.close)
        lab.place += TIMES
        daemon = lab.run(lab.counting())
        first, second = put(lab), put(lab, seconds=2.0)
        until(lambda: len(lab.book()) == 2, "the second run")
        third = put(lab)
        _fill(server)
        until(lambda: reports(lab), "the report on our own disk")
        daemon.wait_for("storage.unavailable")
        assert daemon.process.poll() is None
        (server.folder / "filler").unlink()
        server.restart()
        demand_done_once(lab, first, second, third)
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.text()


def _fill(server: MongoServer) -> None:
    """Leave no room, and write until the server has noticed."""
    with contextlib.suppress(OSError), (server.folder / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 65536)
    with pytest.raises(PyMongoError):
        for _ in range(5000):
            server.client["other"]["things"].insert_one({"text": "y" * 100_000})
