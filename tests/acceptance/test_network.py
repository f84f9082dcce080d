"""Real daemons whose way to the MongoDB server breaks, goes silent, or loses an answer."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from bson.objectid import ObjectId

from tests.acceptance.lab import Lab, Process, kept, parked, until
from tests.faults.passage import command
from tests.servers.mongodb import MongoServer
from tests.servers.proxy import FaultProxy

pytestmark = pytest.mark.acceptance

DEVICE = "counter"
#: A daemon that gives up soon and says often that it is there.
HASTY = "poll_interval = 0.2\nannounce_interval = 1.0\nrecovery_interval = 1.0\nlease = 30.0"
LEDGER = f"spooler.{DEVICE}"


class FarLab(Lab):
    """A lab whose server is behind a fault proxy."""

    def __init__(self, folder: Path, server: MongoServer, proxy: FaultProxy) -> None:
        super().__init__(folder)
        self.server = server
        self.proxy = proxy

    def configure(self, *asked: Any, **more: Any) -> Path:
        config = super().configure(*asked, **more)
        local = 'type = "sqooler-local"\npath = "storage"\nupload_pause = "2s"\n'
        text = config.read_text(encoding="utf-8")
        assert local in text
        netloc = urlsplit(self.server.uri).netloc
        uri = self.server.uri.replace(netloc, f"127.0.0.1:{self.proxy.port}")
        place = f'type = "sqooler-mongodb"\nuri = {json.dumps(uri)}\n'
        place += "connect_timeout = 1.0\noperation_timeout = 1.0\n"
        config.write_text(text.replace(local, place), encoding="utf-8")
        return config

    def place(self, database: str, collection: str = DEVICE) -> Any:
        """A collection as it is at the server, whatever the network does."""
        return self.server.client[database][collection]

    def submit(self, job: dict[str, Any], device: str = DEVICE, job_id: str | None = None) -> str:
        number = ObjectId(job_id or uuid.uuid4().hex[:24])
        first = {"status": "INITIALIZING", "detail": "", "error_message": "None"}
        self.place("status").insert_one({"_id": number, "job_id": str(number), **first})
        self.place("jobs", f"queued.{device}").insert_one({"_id": number, **job})
        return str(number)

    def status_document(self, device: str, job_id: str) -> dict[str, Any] | None:
        found = self.place("status", device).find_one({"_id": ObjectId(job_id)})
        return None if found is None else found.get("payload", found)

    def outbox(self) -> list[Path]:
        return kept(self.folder / "spooler-state")

    def seen(self) -> Any:
        """When the daemon has last said that its device is there."""
        (found,) = self.place("backends", "configs").find()
        return found.get("payload", found)["last_queue_check"]

    def ended_once(self, daemon: Process, *jobs: str, value: int) -> None:
        """Each job has run once and has one result, and the daemon lives on as before."""
        for job in jobs:
            assert self.ended(DEVICE, job)["status"] == "DONE"
            (result,) = self.place("results").find({"_id": ObjectId(job)})
            assert result["payload"]["header"]["value"] == value
        before = self.seen()
        until(lambda: self.seen() != before, "a fresh sign of life")
        again = self.submit({})
        assert self.ended(DEVICE, again)["status"] == "DONE", self.ended(DEVICE, again)
        assert [line.split()[0] for line in self.book()] == [*jobs, again]
        assert self.place("spooler", f"replaced.{DEVICE}").count_documents({}) == 0
        until(lambda: not self.outbox(), "an empty outbox")
        assert daemon.process.poll() is None

    def one_outage(self, daemon: Process) -> None:
        """One line at its begin, and one at its end."""
        until(lambda: daemon.events("storage.recovered"), "the end of the outage")
        assert daemon.stop() == 0
        assert len(daemon.events("storage.unavailable")) == 1, daemon.text()
        assert len(daemon.events("storage.recovered")) == 1
        assert "Traceback" not in daemon.text()


@pytest.fixture
def lab(tmp_path: Path, bare_mongodb: MongoServer) -> Iterator[FarLab]:
    place = urlsplit(bare_mongodb.uri)
    assert place.hostname is not None
    with FaultProxy(place.hostname, place.port or 27017) as proxy:
        made = FarLab(tmp_path, bare_mongodb, proxy)
        yield made
        made.close()


def test_the_network_goes_silent_while_a_job_runs(lab: FarLab) -> None:
    daemon = lab.run(lab.counting(daemon=HASTY))
    job = lab.submit({"seconds": 0.5, "value": 7})
    until(lab.book, "the run")
    with lab.proxy.half_open():
        until(lab.outbox, "the report that waits")
        daemon.wait_for("storage.unavailable")
        before = lab.proxy.connections
        until(lambda: lab.proxy.connections >= before + 5, "the daemon to try again")
    lab.ended_once(daemon, job, value=7)
    lab.one_outage(daemon)


def test_the_answer_to_a_claim_is_lost(lab: FarLab) -> None:
    daemon = lab.run(lab.counting(daemon=HASTY))
    lost = lab.proxy.lose_reply(command("findAndModify", LEDGER), silently=True)
    job = lab.submit({"value": 8})
    until(lost.happened.is_set, "the claim whose answer is lost")
    lab.ended_once(daemon, job, value=8)
    (entry,) = lab.place("jobs", LEDGER).find({"_id": ObjectId(job)})
    assert entry["attempt"] == 1, f"{entry} {daemon.text()}"
    lab.one_outage(daemon)


def test_the_answer_to_an_end_is_lost(lab: FarLab) -> None:
    daemon = lab.run(lab.counting(daemon=HASTY))
    job = lab.submit({"seconds": 0.5, "value": 9})
    until(lab.book, "the run")
    lost = lab.proxy.lose_reply(command("bulkWrite"), silently=True)
    until(lost.happened.is_set, "the end whose answer is lost")
    assert lab.ended(DEVICE, job)["status"] == "DONE", "the server has not acted"
    assert lab.outbox(), "the report is thrown away before the storage has said that it has it"
    lab.ended_once(daemon, job, value=9)
    assert not parked(lab.folder / "spooler-state")
    lab.one_outage(daemon)
