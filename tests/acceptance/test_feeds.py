"""One real daemon, one device, two collaborations: a folder and a MongoDB server at once."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from bson.objectid import ObjectId

from spooler.app import open_submitter
from spooler.settings import load
from tests.acceptance.lab import Lab, Process, kept, until
from tests.servers.mongodb import MongoServer
from tests.servers.proxy import FaultProxy

pytestmark = pytest.mark.acceptance

#: The device's own name is none that sqooler could carry.
DEVICE = "cryo-fridge_2"
FOLDER, SERVER = "fridge", "champss"
DAEMON = "poll_interval = 0.1\nannounce_interval = 2.0\nrecovery_interval = 0.3\nlease = 2.0"


class TwoLabs(Lab):
    """A lab whose device serves a queue in the folder and one on the server behind the proxy."""

    def __init__(self, folder: Path, server: MongoServer, proxy: FaultProxy) -> None:
        super().__init__(folder)
        self.server = server
        self.proxy = proxy

    def both(self, *, name: str = "spooler", more: str = "", **options: object) -> Path:
        """Settings of a device that serves both, in turn."""
        config = self.counting(name=name, daemon=DAEMON, **options)
        netloc = urlsplit(self.server.uri).netloc
        uri = self.server.uri.replace(netloc, f"127.0.0.1:{self.proxy.port}")
        text = config.read_text(encoding="utf-8")
        text = text.replace("[storage]", "[storages.lab]")
        text = text.replace(
            "[signing]",
            f'[storages.frb]\ntype = "sqooler-mongodb"\nuri = {json.dumps(uri)}\n'
            "connect_timeout = 0.5\noperation_timeout = 0.5\n[signing]",
        )
        queues = f'queues = ["lab:{FOLDER}", "frb:{SERVER}"]\nrerun = "always"\n{more}'
        text = text.replace("[devices.counter]", f"[devices.{DEVICE}]\n{queues}")
        config.write_text(text, encoding="utf-8")
        return config

    def far(self, payload: dict[str, Any]) -> str:
        """Queue a job on the server, which it reaches by another way than the daemon."""
        number = ObjectId(uuid.uuid4().hex[:24])
        first = {"status": "INITIALIZING", "detail": "", "error_message": "None"}
        place = self.server.client["status"][SERVER]
        place.insert_one({"_id": number, "job_id": str(number), **first})
        self.server.client["jobs"][f"queued.{SERVER}"].insert_one({"_id": number, **payload})
        return str(number)

    def far_ended(self, job: str) -> dict[str, Any]:
        """The last status of a job on the server."""

        def look() -> dict[str, Any] | None:
            said = self.server.client["status"][SERVER].find_one({"_id": ObjectId(job)}) or {}
            said = said.get("payload", said)
            return said if said.get("status") in {"DONE", "ERROR"} else None

        found: dict[str, Any] = until(look, f"the end of job {job} on the server")
        return found


@pytest.fixture
def lab(tmp_path: Path, bare_mongodb: MongoServer) -> Iterator[TwoLabs]:
    place = urlsplit(bare_mongodb.uri)
    with FaultProxy(place.hostname or "", place.port or 0) as proxy:
        made = TwoLabs(tmp_path, bare_mongodb, proxy)
        yield made
        made.close()


def ran(lab: TwoLabs) -> list[str]:
    return [line.split()[0] for line in lab.book("run")]


def test_both_queues_take_turns_and_each_is_answered_in_its_own_form(lab: TwoLabs) -> None:
    config = lab.both()
    near = [lab.submit({"value": each}, FOLDER) for each in range(4)]
    far = [lab.far({"value": each}) for each in range(4)]
    daemon = lab.run(config)
    for job in near:
        assert lab.ended(FOLDER, job)["status"] == "DONE"
    for job in far:
        assert lab.far_ended(job)["status"] == "DONE"
    order = ["near" if job in near else "far" for job in ran(lab)]
    assert sorted(ran(lab)) == sorted(near + far), "each job runs once"
    assert order == ["near", "far"] * 4, "they take turns"
    submitter = open_submitter(load(config, {}))
    try:
        for job in near:
            assert submitter.verify(f"lab:{FOLDER}", job).ok
        for job in far:
            assert submitter.verify(f"frb:{SERVER}", job).ok
        assert {card.name for card in submitter.devices()} == {FOLDER, SERVER}
    finally:
        submitter.close()
    assert daemon.stop() == 0


def test_one_away_the_other_never_waits(lab: TwoLabs) -> None:
    daemon = lab.run(lab.both())
    assert lab.far_ended(lab.far({}))["status"] == "DONE"
    with lab.proxy.half_open():  # the worst kind: nothing is refused, nothing comes back
        late = lab.far({})
        told = daemon.wait_for("storage.unavailable")
        assert told["storage"] == "frb"
        for _ in range(20):
            assert lab.ended(FOLDER, lab.submit({}, FOLDER))["status"] == "DONE"
        assert len(daemon.events("storage.unavailable")) == 1, "one line per outage"
        assert not daemon.events("storage.recovered")
    assert lab.far_ended(late)["status"] == "DONE"
    assert [each["storage"] for each in daemon.events("storage.recovered")] == ["frb"]
    assert sorted(ran(lab)) == sorted(set(ran(lab))), "each job runs once"
    assert daemon.stop() == 0


def test_away_when_a_run_ends_its_report_waits_and_the_other_queue_goes_on(lab: TwoLabs) -> None:
    daemon = lab.run(lab.both(seconds=1.0))
    job = lab.far({})
    until(lambda: job in ran(lab), "the run of the job on the server")
    with lab.proxy.cut():
        until(lambda: kept(lab.folder / "spooler-state"), "the report on the daemon's disk")
        for _ in range(3):
            assert lab.ended(FOLDER, lab.submit({}, FOLDER))["status"] == "DONE"
        state = lab.folder / "spooler-state"
        until(lambda: len(kept(state)) == 1, "the end of all records but one: they outlive the ack")
    assert lab.far_ended(job)["status"] == "DONE"
    assert ran(lab).count(job) == 1
    until(lambda: not kept(lab.folder / "spooler-state"), "its delivery")
    assert daemon.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small disk")
def test_a_full_disk_of_one_storage_is_no_trouble_of_the_other(lab: TwoLabs) -> None:
    lab.storage.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k,nr_inodes=4000", "small", str(lab.storage)]
    subprocess.run(mount, check=True)
    try:
        daemon = lab.run(lab.both(seconds=0.5))
        job = lab.submit({}, FOLDER)
        until(lambda: job in ran(lab), "the run of the job in the folder")
        filler = lab.storage / "filler"
        with pytest.raises(OSError, match="No space"):  # noqa: SIM117 - write or close may fail
            with filler.open("wb") as stream:
                while True:
                    stream.write(b"x" * 4096)
        told = daemon.wait_for("storage.unavailable")
        assert (told["storage"], "full" in told["error"]) == ("lab", True)
        for _ in range(5):
            assert lab.far_ended(lab.far({}))["status"] == "DONE"
        filler.unlink()
        assert lab.ended(FOLDER, job)["status"] == "DONE"
        assert ran(lab).count(job) == 1
        assert daemon.stop() == 0
    finally:
        lab.close()
        subprocess.run(["umount", "-l", str(lab.storage)], check=True)


def test_a_report_that_cannot_be_placed_waits_alone(lab: TwoLabs) -> None:
    """A file stands where the results of one queue should be; all else of that storage goes on."""
    other = '\n[devices.other]\nhandler = "lab_counting:Counting"\nqueues = ["lab:other"]\n'
    other += 'rerun = "always"\n'
    book = json.dumps(str(lab.folder / "book"))
    first = lab.both(name="first")
    first.write_text(
        first.read_text() + other + f"options = {{book = {book}, seconds = 60}}\n", encoding="utf-8"
    )
    dying = lab.run(first)
    orphan = lab.submit({}, "other")
    until(lambda: orphan in ran(lab), "the run that its daemon does not survive")
    dying.process.kill()
    dying.end()

    (lab.storage / "results" / FOLDER).rmdir()
    (lab.storage / "results" / FOLDER).write_text("somebody's file")
    second = lab.both(name="second")
    second.write_text(second.read_text() + other + f"options = {{book = {book}}}\n")
    daemon = lab.run(second)
    stuck = lab.submit({}, FOLDER)
    told = daemon.wait_for("report.delayed")
    assert (told["device"], told["job"]) == (DEVICE, stuck)
    assert lab.ended("other", orphan)["status"] == "DONE", "a dead daemon's job is taken over"
    assert lab.ended("other", lab.submit({}, "other"))["status"] == "DONE"
    assert lab.far_ended(lab.far({}))["status"] == "DONE"
    assert _settled(daemon)
    state = lab.folder / "second-state"
    until(lambda: len(kept(state)) == 1, "the end of all records but one: they outlive the ack")
    (waiting,) = kept(state)
    assert "results" in json.loads(waiting.read_text())["reason"]
    (lab.storage / "results" / FOLDER).unlink()
    assert lab.ended(FOLDER, stuck)["status"] == "DONE"
    assert ran(lab).count(stuck) == 1
    assert daemon.stop() == 0


def _settled(daemon: Process) -> bool:
    """Whether the trouble was told of once, and neither storage nor queue was called away."""
    delayed = daemon.events("report.delayed")
    words = ("storage.unavailable", "queue.unavailable", "storage.recovered", "queue.recovered")
    return len(delayed) == 1 and not any(daemon.events(word) for word in words)
