"""Documents of other people's making in a MongoDB storage: each command answers in a sentence."""

from __future__ import annotations

import itertools
import json
import uuid

import pytest
from bson import Decimal128, ObjectId

from tests.servers.mongodb import mongo_prefix, mongodb_server

__all__ = ["mongo_prefix", "mongodb_server"]

SETTINGS = """\
[storage]
type = "sqooler-mongodb"
uri = "{uri}"
prefix = "{prefix}"

[devices.echo]
handler = "echo"
isolation = "thread"
"""
#: What can stand where something else was meant.
STRANGE = [None, "text", 5, [], ["text"], {"a": 1}, Decimal128("1"), b"\xff"]
#: What a bug of ours ends with.
INTERNAL = 70


@pytest.fixture
def server(lab, mongodb_server, mongo_prefix):
    """The lab's settings name the server; a function that gives its collections."""
    (lab.folder / "spooler.toml").write_text(
        SETTINGS.format(uri=mongodb_server.uri, prefix=mongo_prefix)
    )

    def place(database, collection):
        return mongodb_server.client[mongo_prefix + database][collection]

    place("backends", "configs").insert_one({"display_name": "echo"})
    return place


def done(server, result, status=None):
    """A job that has ended, with these documents; its id."""
    number = ObjectId(uuid.uuid4().hex[:24])
    if status is None:
        status = {"job_id": str(number), "status": "DONE", "detail": "", "error_message": "None"}
    server("status", "echo").insert_one({**status, "_id": number})
    if result is not None:
        server("results", "echo").insert_one({**result, "_id": number})
    return str(number)


def demand_a_sentence(done):
    assert done.code != INTERNAL, done.err
    assert done.code == 0 or done.err.count("\n") == 1 or done.out, done


FIELDS = {
    "result": ("header", "results", "payload", "signature", "job_id", "status"),
    "experiment": ("header", "data", "shots", "success"),
    "status": ("status", "detail", "error_message", "job_id"),
    "card": (
        *("display_name", "version", "description", "simulator", "last_queue_check"),
        *("pending_jobs", "status_msg", "kid", "gates", "payload"),
    ),
}


@pytest.mark.timeout(300)
def test_results(server, said):
    whole = {"header": {}, "results": [], "job_id": "x", "status": "DONE"}
    experiment = {"header": {"name": "e"}, "shots": 1, "success": True, "data": {"memory": ["1"]}}
    documents = [{}, {"results": [experiment]}]
    documents += [
        {**whole, name: wrong} for name, wrong in itertools.product(FIELDS["result"], STRANGE)
    ]
    documents += [
        {**whole, "results": [{**experiment, name: wrong}]}
        for name, wrong in itertools.product(FIELDS["experiment"], STRANGE)
    ]
    documents += [{**whole, "results": [wrong]} for wrong in STRANGE]
    documents += [{**whole, "header": {"artifacts": wrong}} for wrong in STRANGE]
    documents += [{**whole, "header": {"artifacts": [wrong]}} for wrong in STRANGE]
    documents += [{**whole, "header": {"stored": wrong}} for wrong in STRANGE]
    documents += [
        {"header": header, "payload": payload, "signature": signature}
        for header, payload, signature in itertools.product(STRANGE, [{}, {"header": 5}], ["x", 5])
    ]
    for document in documents:
        job = done(server, document)
        for command in (["result"], ["result", "--json"], ["verify"]):
            demand_a_sentence(said(*command, job, "-d", "echo"))


def test_statuses(server, said):
    whole = {"job_id": "x", "status": "INITIALIZING", "detail": "d", "error_message": "None"}
    for name, wrong in itertools.product(FIELDS["status"], STRANGE):
        job = done(server, None, {**whole, name: wrong})
        for command in ("status", "result", "cancel"):
            demand_a_sentence(said(command, job, "-d", "echo"))
        demand_a_sentence(said("status", job, "-d", "echo", "--json"))


@pytest.mark.timeout(300)
def test_configurations(server, lab, said):
    configs, keys = server("backends", "configs"), server("backends", "public_keys")
    job = done(server, {"header": {"kid": "k"}, "payload": {}, "signature": "x"})
    (lab.folder / "job.json").write_text("{}")
    for name, wrong in itertools.product(FIELDS["card"], STRANGE):
        configs.delete_many({})
        configs.insert_many([{"_id": "text"}, {"display_name": "echo", "kid": "k", name: wrong}])
        keys.insert_one({"kid": "k", name: wrong})
        for command in (["devices"], ["devices", "--json"], ["verify", job, "-d", "echo"]):
            demand_a_sentence(said(*command))
        demand_a_sentence(said("submit", "echo", "job.json"))
        demand_a_sentence(said("check"))


def test_the_ledger(server, said):
    """It is ours; what somebody else has written there is no more than a wrong word."""
    fields = ("phase", "cancelled", "token", "until", "owner", "attempt", "history", "counted")
    first = {"status": "INITIALIZING", "detail": "d", "error_message": "None"}
    for name, wrong in itertools.product(fields, STRANGE):
        job = done(server, None, first)
        server("jobs", "queued.echo").insert_one({"_id": ObjectId(job)})
        server("jobs", "spooler.echo").insert_one({"_id": ObjectId(job), name: wrong})
        for command in ("status", "cancel"):
            demand_a_sentence(said(command, job, "-d", "echo"))
    assert json.loads(said("status", job, "-d", "echo", "--json").out)["state"] == "queued"
