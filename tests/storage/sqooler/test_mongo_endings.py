"""How jobs in MongoDB end: what stands where, whatever stood there before."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import bson
import pytest
from bson.objectid import ObjectId

from spooler.errors import LeaseLost, Postponed, UnknownJob
from spooler.model.claim import Claim
from spooler.model.records import report_to_json
from spooler.model.result import SignedReport
from spooler.model.state import State
from spooler.signing.jws import KeySet, b64encode
from spooler.storage.sqooler.client.mongodb import MongodbProviderExtended
from spooler.storage.sqooler.mongodb.backend import MongoBackend
from spooler.storage.sqooler.mongodb.publishing import FIRST_STATUS_WITHIN
from spooler.storage.sqooler.mongodb.queue import decode
from spooler.storage.sqooler.mongodb.submitter import MongoSubmitter
from spooler.testing.bench import DEVICE, TTL, new_token, other_owner, signed_report, take
from spooler.testing.clock import ManualClock
from tests.servers.mongodb import MongoServer
from tests.storage.mongo_bench import KEY, WAYS, Backends, address


@pytest.fixture
def backends(mongodb_server: MongoServer, mongo_prefix: str) -> Iterator[Backends]:
    made = Backends(mongodb_server, mongo_prefix)
    yield made
    made.close()


@pytest.fixture
def submitter(backends: Backends) -> Iterator[MongoSubmitter]:
    provider = MongodbProviderExtended(address(backends.server, backends.prefix), "mongodb")
    made = MongoSubmitter(provider)
    yield made
    made.close()


def sealed(claim: Claim, state: State = State.DONE, **data: Any) -> SignedReport:
    report = signed_report(claim, state, data or None).report
    return SignedReport(report, KEY.jws(report_to_json(report)))


def end(backend: MongoBackend, **data: Any) -> Claim:
    claim = take(backend)
    backend.ack(claim, sealed(claim, **data))
    return claim


@pytest.mark.parametrize("way", WAYS)
def test_a_body_is_filed_byte_for_byte(backends: Backends, way: str) -> None:
    """Its bytes are those of the submitter, types that JSON does not have included."""
    number = ObjectId(uuid.uuid4().hex[:24])
    body = bson.encode(
        {"_id": number, "z": bson.Int64(1), "a": [1.0, 2, None], "nested": {"b": "c", "": 0}}
    )
    queue = backends[f"jobs/queued.{DEVICE}"]
    queue.insert_one(bson.raw_bson.RawBSONDocument(body))
    backends[f"status/{DEVICE}"].insert_one({"_id": number, "status": "INITIALIZING"})
    backend = backends(way)
    claim = end(backend)
    assert claim.job.payload == {"z": 1, "a": [1.0, 2, None], "nested": {"b": "c", "": 0}}
    backend.claim(DEVICE, other_owner(), TTL, new_token())
    raw = bson.codec_options.CodecOptions(document_class=bson.raw_bson.RawBSONDocument)
    filed = backends[f"jobs/finished.{DEVICE}"].with_options(codec_options=raw)
    assert filed.find_one({"_id": number}).raw == body
    assert queue.count_documents({}) == 0


@pytest.mark.parametrize("way", WAYS)
def test_the_first_status_is_the_client_s(backends: Backends, way: str) -> None:
    """The client that is between its two uploads is waited for, and its second one succeeds."""
    backend = backends(way)
    (job_id,) = backends.fill(1, statuses=False)
    claim = take(backend)
    report = sealed(claim)
    for _ in range(2):
        with pytest.raises(Postponed):
            backend.ack(claim, report)
    status = backends[f"status/{DEVICE}"]
    status.insert_one({"_id": ObjectId(job_id), "status": "INITIALIZING"})  # not a duplicate
    backend.ack(claim, report)
    assert status.find_one()["payload"]["status"] == "DONE"
    backend.close()
    assert backends[f"jobs/finished.{DEVICE}"].count_documents({}) == 1
    assert backends[f"results/{DEVICE}"].count_documents({}) == 1
    assert backends[f"jobs/spooler.{DEVICE}"].find_one()["phase"] == "ended"


@pytest.mark.parametrize("way", WAYS)
def test_a_first_status_that_never_comes_is_made(backends: Backends, way: str) -> None:
    backends.fill(1, statuses=False)
    clock = ManualClock()
    backend = backends(way, clock)
    claim = take(backend)
    clock.advance(FIRST_STATUS_WITHIN)
    backend.ack(claim, sealed(claim))
    assert backends[f"status/{DEVICE}"].find_one()["payload"]["status"] == "DONE"


@pytest.mark.parametrize("way", WAYS)
def test_what_stood_in_the_place_of_a_result_is_kept(backends: Backends, way: str) -> None:
    (job_id,) = backends.fill(1)
    standing = {"_id": ObjectId(job_id), "somebody": "else's"}
    backends[f"results/{DEVICE}"].insert_one(standing)
    backend = backends(way)
    claim = take(backend)
    report = sealed(claim, value=5)
    backend.ack(claim, report)
    backend.ack(claim, report)
    assert backends[f"results/{DEVICE}"].find_one()["payload"]["header"] == {"value": 5}
    (kept,) = backends[f"spooler/replaced.{DEVICE}"].find()
    assert kept["document"] == standing


@pytest.mark.parametrize("way", WAYS)
def test_the_ledger_keeps_the_signed_report(backends: Backends, way: str) -> None:
    backends.fill(1)
    backend = backends(way)
    claim = end(backend, value=0.1)
    backend.close()
    (entry,) = backends[f"jobs/spooler.{DEVICE}"].find()
    assert (entry["phase"], entry["state"], entry["token"]) == ("ended", "done", claim.token)
    said = json.loads(KeySet([KEY.public()]).verify_jws(entry["jws"]))
    assert said["result"]["data"] == {"value": 0.1}


# --- large results ---------------------------------------------------------------------------

MIB = 2**20


@pytest.mark.parametrize("way", ["together", "apart"])
def test_a_result_that_no_document_holds_lies_beside_it(
    backends: Backends, submitter: MongoSubmitter, way: str
) -> None:
    (job_id,) = backends.fill(1)
    backend = backends(way)
    text = "x" * (17 * MIB)
    claim = end(backend, picture=text, results=[])
    assert submitter.result(DEVICE, job_id).data == {"picture": text, "results": []}
    document = backends[f"results/{DEVICE}"].find_one()["payload"]
    assert "spooler result" in document["header"]["error"]
    assert document["results"] == []
    assert str(17 * MIB)[:3] in str(document["header"]["stored"]["size"])
    backend.close()
    entry = backends[f"jobs/spooler.{DEVICE}"].find_one()
    name = document["header"]["stored"]["file"]
    assert claim.token in name
    chunks = backends["spooler/large.chunks"].find({"files_id": name}).sort("n", 1)
    content = b"".join(each["data"] for each in chunks)
    header, _, signature = entry["jws"].split(".")
    KeySet([KEY.public()]).verify_jws(f"{header}.{b64encode(content)}.{signature}")


def test_a_large_result_that_was_changed_is_refused(
    backends: Backends, submitter: MongoSubmitter
) -> None:
    (job_id,) = backends.fill(1)
    end(backends(), picture="x" * (17 * MIB))
    chunks = backends["spooler/large.chunks"]
    first = chunks.find_one({"n": 0})
    changed = b"y" + first["data"][1:]
    chunks.update_one({"_id": first["_id"]}, {"$set": {"data": changed}})
    with pytest.raises(UnknownJob, match="not the one that was signed"):
        submitter.result(DEVICE, job_id)
    chunks.delete_many({})
    with pytest.raises(UnknownJob, match="missing or damaged"):
        submitter.result(DEVICE, job_id)


@pytest.mark.parametrize("way", ["at-once"])
def test_a_large_report_that_comes_too_late_leaves_nothing(backends: Backends, way: str) -> None:
    backends.fill(1)
    backend, other = backends(way), backends(way)
    late = backend.claim(DEVICE, other_owner(), 0.0, new_token())
    assert late is not None
    assert other.reclaim(DEVICE, other_owner(), TTL, new_token()) is not None
    with pytest.raises(LeaseLost):
        backend.ack(late, sealed(late, picture="x" * (17 * MIB)))
    assert backends["spooler/large.files"].count_documents({}) == 0
    assert backends["spooler/large.chunks"].count_documents({}) == 0
    assert backends[f"results/{DEVICE}"].count_documents({}) == 0


@pytest.mark.parametrize(
    "data",
    [{"big": 2**80}, {"a.b": 1}, {"$set": 1}, {"n\0l": 1}],
    ids=["integer", "dot", "dollar", "nul"],
)
def test_a_result_that_bson_cannot_hold_lies_beside_it_too(
    backends: Backends, submitter: MongoSubmitter, data: dict[str, Any]
) -> None:
    (job_id,) = backends.fill(1)
    backend = backends()
    claim = take(backend)
    backend.ack(claim, signed_report(claim, data=data))
    assert submitter.result(DEVICE, job_id).data == data
    assert submitter.status(DEVICE, job_id).state is State.DONE


def test_a_result_too_large_for_the_ledger_goes_in_a_transaction(
    backends: Backends, submitter: MongoSubmitter
) -> None:
    """Result and report fit a document each, and not the one of the ledger together."""
    (job_id,) = backends.fill(1)
    text = "x" * (9 * MIB)
    backend = backends("together", transactions="auto")
    end(backend, picture=text)
    assert backends["spooler/large.files"].count_documents({}) == 0
    assert submitter.result(DEVICE, job_id).data == {"picture": text}
    (entry,) = backends[f"jobs/spooler.{DEVICE}"].find()
    assert entry["phase"] == "ended"


# --- jobs of any kind ------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["together", "apart"])
def test_a_job_of_almost_16_mb_is_refused_or_works(backends: Backends, way: str) -> None:
    (small,) = backends.fill(1, text="x" * (15_900_000))
    backend = backends(way)
    claim = take(backend)
    assert claim.job.id == small
    assert "bytes and at most" in claim.job.defect
    backend.ack(claim, signed_report(claim, State.ERROR, reason=claim.job.defect))
    (large,) = backends.fill(1, text="x" * (15_900_000))
    backend = backends(way, max_payload=16 * MIB)
    claim = take(backend)
    assert claim.job.id == large
    assert claim.job.payload is not None
    backend.ack(claim, sealed(claim))
    backend.close()
    assert backends["jobs/deleted"].count_documents({}) <= 1
    assert backends[f"jobs/finished.{DEVICE}"].count_documents({}) == 1


BAD = {
    "nan": ({"a": float("nan")}, "NaN"),
    "infinity": ({"a": [{"b": float("-inf")}]}, "NaN or Infinity"),
    "number": ({"a": bson.Decimal128("1")}, "Decimal128"),
    "bytes": ({"a": b"\xff"}, "bytes"),
    "reference": ({"a": ObjectId()}, "ObjectId"),
    "code": ({"a": bson.Code("x")}, ""),
}


@pytest.mark.parametrize("name", BAD)
def test_a_job_that_is_no_json_says_so(backends: Backends, name: str) -> None:
    body, reason = BAD[name]
    backends.fill(1, **body)
    claim = take(backends())
    assert reason in claim.job.defect or not reason
    assert (claim.job.payload is None) == bool(claim.job.defect)


def test_text_that_is_no_utf_8() -> None:
    """MongoDB takes it from a driver that does not look; the server of the tests does not."""
    body = bson.encode({"_id": ObjectId(), "text": "????"}).replace(b"????", b"\xff\xfe\xff\xfe")
    decoded = decode(body)
    assert "UTF-8" in decoded.defect
    assert decoded.payload is None


def test_dotted_keys_and_missing_fields_are_the_handler_s_business(backends: Backends) -> None:
    number = ObjectId(uuid.uuid4().hex[:24])
    body = bson.encode({"_id": number, "a.b": {"$gt": ""}, "": None, "phase": "held"})
    backends[f"jobs/queued.{DEVICE}"].insert_one(bson.raw_bson.RawBSONDocument(body))
    claim = take(backends())
    assert claim.job.payload == {"a.b": {"$gt": ""}, "": None, "phase": "held"}


def test_documents_with_other_ids_are_left_alone(backends: Backends) -> None:
    queue = backends[f"jobs/queued.{DEVICE}"]
    queue.insert_many([{"_id": f"not-a-job-{number}"} for number in range(200)])
    queue.insert_one({"_id": 5})
    (job_id,) = backends.fill(1)
    backend = backends()
    assert take(backend).job.id == job_id
    assert backend.claim(DEVICE, other_owner(), TTL, new_token()) is None
    assert queue.count_documents({}) == 202


def test_a_job_that_was_removed_while_it_waited_says_so(backends: Backends) -> None:
    (job_id,) = backends.fill(1, text="x" * 200_000)
    backend = backends()
    claiming = backend._claiming
    real = claiming.body
    with pytest.MonkeyPatch.context() as patch:
        queue = backends[f"jobs/queued.{DEVICE}"]
        patch.setattr(claiming, "body", lambda *asked: (queue.delete_many({}), real(*asked))[1])
        claim = take(backend)
    assert claim.job.id == job_id
    assert "removed" in claim.job.defect
    backend.ack(claim, signed_report(claim, State.ERROR, reason=claim.job.defect))
