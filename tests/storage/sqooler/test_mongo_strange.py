"""Documents that nobody should have written: the jobs beside them are run all the same."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Decimal128
from bson.objectid import ObjectId

from spooler.storage.sqooler.mongodb.claims.queue import LISTED
from spooler.testing.bench import DEVICE, QUEUE, leased, new_lease, other_owner, signed_report
from tests.servers.mongodb import MongoServer
from tests.storage.mongo_bench import Backends
from tests.storage.sqooler.mongo_commands import COMMANDS, names

OWNER = other_owner()
STRANGE = [None, "text", 5, ["text"], {"a": Decimal128("1")}]
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
HELD = {
    "phase": "held",
    "until": LONG_AGO,
    "token": "t",
    "attempt": 1,
    "owner": {"host": "h", "pid": 1, "process": "p"},
    "started": False,
}
FIELDS = (*HELD, "history", "counted", "cancelled", "end", "jws", "state")


@pytest.fixture
def backends(mongodb_server: MongoServer, mongo_prefix: str) -> Iterator[Backends]:
    made = Backends(mongodb_server, mongo_prefix)
    yield made
    made.close()


def entries() -> Iterator[dict[str, Any]]:
    """Entries of a ledger in which one thing is missing or not what it should be."""
    for name, wrong in itertools.product(FIELDS, STRANGE):
        for whole in (HELD, {}, {**HELD, "phase": "committed"}, {"phase": "waiting"}):
            yield {**whole, name: wrong}
    for name, phase in itertools.product(HELD, ("held", "committed")):
        yield {key: said for key, said in {**HELD, "phase": phase}.items() if key != name}


@pytest.mark.timeout(300)
def test_a_ledger_with_wrong_fields_stops_nobody(backends: Backends) -> None:
    """The job of such an entry may wait for somebody to look at it; the next one is run."""
    backend = backends()
    ledger, queue = backends[f"jobs/spooler.{DEVICE}"], backends[f"jobs/queued.{DEVICE}"]
    for entry in entries():
        strange, sound = backends.fill(2)
        ledger.insert_one({**entry, "_id": ObjectId(strange)})
        backend._claiming.queues[DEVICE].forget()
        seen = []
        while (claim := backend.claim(QUEUE, new_lease(OWNER))) is not None:
            backend.ack(claim, signed_report(claim))
            seen.append(claim.job.id)
        while (claim := backend.reclaim(QUEUE, new_lease(OWNER), leased)) is not None:
            backend.ack(claim, signed_report(claim))
            seen.append(claim.job.id)
        assert len(seen) == len(set(seen)), entry
        assert set(seen) | {strange} == {strange, sound}, entry
        assert backend.depth(QUEUE) >= 0
        list(backend.peek(QUEUE))
        if strange not in seen:
            body = {each["_id"] for each in queue.find({}, {"_id": 1})}
            filed = {
                each["_id"] for each in backends[f"jobs/finished.{DEVICE}"].find({}, {"_id": 1})
            }
            assert ObjectId(strange) in body | filed, f"{entry}: the job is nowhere"
        queue.delete_many({})
        ledger.delete_many({})


@pytest.mark.parametrize("phase", ["held", "committed"])
def test_an_entry_that_is_not_ours_is_told_once(
    backends: Backends, caplog: pytest.LogCaptureFixture, phase: str
) -> None:
    (job_id,) = backends.fill(1)
    entry = {"_id": ObjectId(job_id), "phase": phase, "until": LONG_AGO}
    backends[f"jobs/spooler.{DEVICE}"].insert_one(entry)
    backend = backends()
    for _ in range(3):
        assert backend.claim(QUEUE, new_lease(OWNER)) is None
        assert backend.reclaim(QUEUE, new_lease(OWNER), leased) is None
    (told,) = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert job_id in told
    assert f"jobs/spooler.{DEVICE}" in told
    assert "remove it to have the job run" in told
    backends[f"jobs/spooler.{DEVICE}"].delete_one({"_id": ObjectId(job_id)})
    claim = backend.claim(QUEUE, new_lease(OWNER))
    assert claim is not None, "the way out that was told"
    assert claim.job.id == job_id


def test_a_past_that_cannot_be_read_is_no_past(backends: Backends) -> None:
    """What can be read of it counts; a job that is given back has its own attempt beside it."""
    (job_id,) = backends.fill(1)
    sound = {"number": 1, "owner": "o", "at": LONG_AGO, "ended": "power cut"}
    entry = {"counted": "many", "history": ["x", sound, {"number": "1", "at": 5}, {}]}
    ledger = backends[f"jobs/spooler.{DEVICE}"]
    ledger.insert_one({"_id": ObjectId(job_id), "phase": "waiting", **entry})
    backend = backends()
    claim = backend.claim(QUEUE, new_lease(OWNER))
    assert claim is not None
    assert claim.attempt == 1
    assert [each.ended for each in claim.history] == ["power cut"]
    ledger.update_one({"_id": ObjectId(job_id)}, {"$set": {"history": "x"}})
    backend.release(claim, "again", refund=False)
    claim = backend.claim(QUEUE, new_lease(OWNER))
    assert claim is not None
    assert (claim.attempt, [each.ended for each in claim.history]) == (2, ["again"])


# --- documents that are nobody's jobs ---------------------------------------------------------

#: The server of the tests is slow with more; how many there are is not looked at.
MANY = 2000


def test_many_foreign_documents_are_not_read(
    backends: Backends, caplog: pytest.LogCaptureFixture
) -> None:
    """They stay on the server: one command with a limit brings the one job, and not them."""
    queue = backends[f"jobs/queued.{DEVICE}"]
    queue.insert_many([{"_id": f"note-{number}", "text": "x" * 100} for number in range(MANY)])
    (job_id,) = backends.fill(1)
    backend = backends()
    with COMMANDS.counting() as found:
        claim = backend.claim(QUEUE, new_lease(OWNER))
    assert claim is not None
    assert claim.job.id == job_id
    assert sorted(names(found)) == ["aggregate", "createIndexes", "findAndModify"]
    (asked,) = [sent for name, sent in found if name == "aggregate"]
    assert asked["pipeline"][0] == {"$match": {"_id": {"$type": "objectId"}}}
    assert asked["pipeline"][-1] == {"$limit": LISTED}
    brought = list(queue.aggregate(asked["pipeline"], hint={"$natural": 1}))
    assert brought == [], "nothing but jobs comes over the wire"
    backend.ack(claim, signed_report(claim))
    assert backend.claim(QUEUE, new_lease(OWNER)) is None
    assert queue.count_documents({}) == MANY
    assert backend.depth(QUEUE) == 0
    backends.fill(2)
    assert backend.depth(QUEUE) == 2, "they are not counted either"
    (told,) = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert "1000 or more documents whose ids are no ObjectIds, such as 'note-0'" in told
    assert f"remove them from jobs/queued.{DEVICE}" in told


def test_a_queue_of_jobs_only_is_no_matter_for_a_warning(
    backends: Backends, caplog: pytest.LogCaptureFixture
) -> None:
    backends.fill(3)
    assert backends().depth(QUEUE) == 3
    assert not caplog.records


@pytest.mark.parametrize("number", [5, 1.5, "text", True, None, b"x", LONG_AGO, {"a": 1}])
def test_whatever_the_id_is_it_is_noticed(
    backends: Backends, caplog: pytest.LogCaptureFixture, number: object
) -> None:
    backends[f"jobs/queued.{DEVICE}"].insert_one({"_id": number})
    backend = backends()
    assert backend.claim(QUEUE, new_lease(OWNER)) is None
    assert backend.depth(QUEUE) == 0
    assert "1 documents whose ids are no ObjectIds" in caplog.text


def test_foreign_ids_are_found_by_the_index_of_the_ids(backends: Backends) -> None:
    """So that looking for them costs nothing where there are none."""
    backends.fill(20)
    with COMMANDS.counting() as found:
        backends().depth(QUEUE)
    asked = next(
        sent["pipeline"] for name, sent in found if name == "aggregate" and "$limit" in str(sent)
    )
    assert asked[0]["$match"].keys() == {"_id"}
    assert {"$limit": 1000} in asked
