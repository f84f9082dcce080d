"""What a queue on a MongoDB server can hold that is no job: a reason for each, and on it goes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.objectid import ObjectId

from tests.acceptance.lab import RABI, until
from tests.acceptance.mongo_lab import MongoLab
from tests.servers.mongodb import MongoServer
from tests.servers.proxy import FaultProxy

pytestmark = pytest.mark.acceptance

DEVICE = "singlequdit"
#: What the server holds, and what our daemon reads in its place: text that is no UTF-8. The
#: server of the tests refuses such text; MongoDB takes it from drivers that do not look.
SOUND, BROKEN = b"notutf8!", b"\xff\xfe\xf0\x9f\xff\xfe\xf0\x9f"


@pytest.fixture
def lab(tmp_path: Path, bare_mongodb: MongoServer) -> Iterator[MongoLab]:
    made = MongoLab(tmp_path, bare_mongodb)
    yield made
    made.close()


class Swapping(FaultProxy):
    """A proxy through which some bytes look different on its two sides."""

    def passing(self, _: object, piece: bytes, *, reply: bool) -> bytes:
        return piece.replace(SOUND, BROKEN) if reply else piece.replace(BROKEN, SOUND)


def put(lab: MongoLab, body: dict[str, Any], number: object = None) -> ObjectId:
    """A job as it comes, byte for byte, with its first status."""
    number = ObjectId(uuid.uuid4().hex[:24]) if number is None else number
    assert isinstance(number, ObjectId)
    client = lab.server.client
    first = {"status": "INITIALIZING", "detail": "Got your json.", "error_message": "None"}
    client["status"][DEVICE].insert_one({"_id": number, "job_id": str(number), **first})
    data = bson.encode({"_id": number, **body})
    client["jobs"][f"queued.{DEVICE}"].insert_one(bson.raw_bson.RawBSONDocument(data))
    return number


def status_of(lab: MongoLab, number: ObjectId) -> dict[str, Any]:
    """Its last status."""

    def look() -> dict[str, Any] | None:
        found = lab.server.client["status"][DEVICE].find_one({"_id": number}) or {}
        said: dict[str, Any] = found.get("payload", found)
        return said if said.get("status") in {"DONE", "ERROR"} else None

    found: dict[str, Any] = until(look, f"the end of job {number}")
    return found


def without(name: str) -> dict[str, Any]:
    """A job without one of its fields."""
    experiment = {key: said for key, said in RABI["experiment_0"].items() if key != name}
    return {"experiment_0": experiment}


def with_other(name: str, said: object) -> dict[str, Any]:
    return {"experiment_0": {**RABI["experiment_0"], name: said}}


#: A job, and a word of its reason.
JOBS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "experiment"),
    "no-instructions": (without("instructions"), "instructions"),
    "no-shots": (without("shots"), "shots"),
    "text-for-a-number": (with_other("shots", "many"), "shots"),
    "a-number-for-a-list": (with_other("instructions", 5), "instructions"),
    "a-list-for-an-object": ({"experiment_0": [1]}, "experiment_0"),
    "another-name": ({"experiment_x": RABI["experiment_0"]}, "experiment_x"),
    "dotted": ({"a.b": RABI["experiment_0"]}, "a.b"),
    "dollar": ({"$set": {"phase": "ended"}}, "$set"),
    "nan": (with_other("seed", float("nan")), "NaN"),
    "no-json": (with_other("seed", bson.Decimal128("1")), "Decimal128"),
    "bytes": (with_other("seed", b"\xff"), "bytes"),
    "deep": ({"experiment_0": json.loads("[" * 90 + "]" * 90)}, "experiment_0"),
    "large": ({"experiment_0": {"text": "x" * 15_900_000}}, "15900"),
}


def test_each_broken_job_ends_with_a_reason_and_is_kept(lab: MongoLab) -> None:
    daemon = lab.run(lab.configure())
    jobs = {name: put(lab, body) for name, (body, _) in JOBS.items()}
    sound = put(lab, RABI)
    assert status_of(lab, sound)["status"] == "DONE", "the loop has not gone on"
    deleted = lab.server.client["jobs"]["deleted"]
    for name, number in jobs.items():
        said = status_of(lab, number)
        assert said["status"] == "ERROR", name
        reason = said["error_message"]
        assert JOBS[name][1] in reason, f"{name}: {reason}"
        assert "Traceback" not in reason
        assert "\n" not in reason
        assert deleted.count_documents({"_id": number}) == 1, f"{name} is nowhere"
    assert deleted.find_one({"_id": jobs["dotted"]}).keys() == {"_id", "a.b"}, "as it was sent"
    assert lab.server.client["jobs"][f"queued.{DEVICE}"].count_documents({}) == 0
    assert lab.server.client["results"][DEVICE].count_documents({}) == 1
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.text()


def test_text_that_is_no_utf_8(lab: MongoLab) -> None:
    """In a job, in the status of another, and in a configuration that stood there before."""
    client = lab.server.client
    word = SOUND.decode()
    client["backends"]["configs"].insert_one({"display_name": DEVICE, "description": word})
    with Swapping("127.0.0.1", lab.server.port) as proxy:
        lab.place = lab.place.replace(f":{lab.server.port}", f":{proxy.port}")
        daemon = lab.run(lab.configure())
        number = put(lab, {"experiment_0": {"text": word}})
        strange = put(lab, RABI)
        client["status"][DEVICE].update_one({"_id": strange}, {"$set": {"detail": word}})
        assert "UTF-8" in status_of(lab, number)["error_message"]
        assert status_of(lab, strange)["status"] == "DONE"
        assert status_of(lab, put(lab, RABI))["status"] == "DONE"
        assert client["jobs"]["deleted"].find_one()["experiment_0"] == {"text": word}, "as it was"
        assert daemon.stop() == 0
    assert "Traceback" not in daemon.text()


def test_documents_that_are_no_jobs_are_left_alone_and_told_of(lab: MongoLab) -> None:
    queue = lab.server.client["jobs"][f"queued.{DEVICE}"]
    queue.insert_many([{"_id": "a" * 24, **RABI}, {"_id": 5}, {"_id": "by hand"}])
    daemon = lab.run(lab.configure())
    assert status_of(lab, put(lab, RABI))["status"] == "DONE"

    def told() -> list[dict[str, Any]]:
        return [line for line in daemon.events("log") if "no ObjectIds" in line["message"]]

    (line,) = until(told, "a warning")
    assert line["level"] == "warning"
    assert "3 documents" in line["message"]
    assert daemon.stop() == 0
    assert {each["_id"] for each in queue.find()} == {"a" * 24, 5, "by hand"}


def test_several_configurations_of_one_name(lab: MongoLab) -> None:
    """Of those that nobody has signed one is left, and it is this daemon's."""
    configs = lab.server.client["backends"]["configs"]
    configs.insert_many([{"display_name": DEVICE, "version": f"0.0.{n}"} for n in range(3)])
    configs.insert_one({"display_name": "another", "version": "0.0.1"})
    daemon = lab.run(lab.configure())
    assert status_of(lab, put(lab, RABI))["status"] == "DONE"
    assert daemon.stop() == 0
    (ours,) = configs.find({"payload.display_name": DEVICE})
    assert ours["header"]["kid"] == "lab"
    assert configs.count_documents({"display_name": DEVICE}) == 0
    assert configs.count_documents({"display_name": "another"}) == 1, "not ours to remove"


@pytest.mark.parametrize("entry", [{"phase": "held"}, {"phase": "committed"}, {"counted": "many"}])
def test_a_ledger_of_somebody_else_s_making(lab: MongoLab, entry: dict[str, Any]) -> None:
    from datetime import UTC, datetime

    number = put(lab, RABI)
    entry = {"_id": number, "until": datetime(2026, 1, 1, tzinfo=UTC), **entry}
    lab.server.client["jobs"][f"spooler.{DEVICE}"].insert_one(entry)
    daemon = lab.run(lab.configure(daemon="poll_interval = 0.2\nrecovery_interval = 0.2"))
    assert status_of(lab, put(lab, RABI))["status"] == "DONE"
    if "phase" in entry:
        until(lambda: str(number) in daemon.text(), "a word about the job that stays")
        lab.server.client["jobs"][f"spooler.{DEVICE}"].delete_one({"_id": number})
    assert status_of(lab, number)["status"] == "DONE"
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.text()
