"""How jobs in MongoDB end: what stands where, whatever stood there before."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import bson
import pytest
from bson.objectid import ObjectId

from spooler.errors import BackendUnavailable, LeaseLost, ReportRefused, Scope, UnknownJob
from spooler.model.claim import Claim
from spooler.model.job import Queue
from spooler.model.records import report_to_json
from spooler.model.result import SignedReport
from spooler.model.state import State
from spooler.model.storage import Standing
from spooler.signing.jws import KeySet, b64encode
from spooler.storage.sqooler.client.mongodb import MongodbProviderExtended
from spooler.storage.sqooler.mongodb.backend import MongoBackend
from spooler.storage.sqooler.mongodb.claims import large
from spooler.storage.sqooler.mongodb.claims.ending import FIRST_STATUS_WITHIN
from spooler.storage.sqooler.mongodb.claims.queue import decode
from spooler.storage.sqooler.mongodb.submitter import MongoSubmitter
from spooler.testing.bench import DEVICE, QUEUE, dead, new_lease, signed_report, take
from spooler.testing.clock import ManualClock
from tests.servers.mongodb import MongoServer
from tests.storage.mongo_bench import KEY, SERVERS, Backends, address


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


@pytest.mark.parametrize("kind", SERVERS)
def test_a_body_is_filed_byte_for_byte(backends: Backends, kind: str) -> None:
    """Its bytes are those of the submitter, types that JSON cannot represent included."""
    number = ObjectId(uuid.uuid4().hex[:24])
    body = bson.encode(
        {"_id": number, "z": bson.Int64(1), "a": [1.0, 2, None], "nested": {"b": "c", "": 0}}
    )
    queue = backends[f"jobs/queued.{DEVICE}"]
    queue.insert_one(bson.raw_bson.RawBSONDocument(body))
    backends[f"status/{DEVICE}"].insert_one({"_id": number, "status": "INITIALIZING"})
    backend = backends(kind)
    claim = end(backend)
    assert claim.job.payload == {"z": 1, "a": [1.0, 2, None], "nested": {"b": "c", "": 0}}
    backend.claim(QUEUE, new_lease())
    raw = bson.codec_options.CodecOptions(document_class=bson.raw_bson.RawBSONDocument)
    filed = backends[f"jobs/finished.{DEVICE}"].with_options(codec_options=raw)
    assert filed.find_one({"_id": number}).raw == body
    assert queue.count_documents({}) == 0


@pytest.mark.parametrize("kind", SERVERS)
def test_the_first_status_is_the_client_s(backends: Backends, kind: str) -> None:
    """The client that is between its two uploads is waited for, and its second one succeeds."""
    backend = backends(kind)
    (job_id,) = backends.fill(1, statuses=False)
    claim = take(backend)
    report = sealed(claim)
    for _ in range(2):
        with pytest.raises(BackendUnavailable) as caught:
            backend.ack(claim, report)
        assert caught.value.scope is Scope.JOB
        assert 0 < (caught.value.retry_after or 0) <= FIRST_STATUS_WITHIN
    status = backends[f"status/{DEVICE}"]
    status.insert_one({"_id": ObjectId(job_id), "status": "INITIALIZING"})  # not a duplicate
    backend.ack(claim, report)
    assert status.find_one()["payload"]["status"] == "DONE"
    backend.close()
    assert backends[f"jobs/finished.{DEVICE}"].count_documents({}) == 1
    assert backends[f"results/{DEVICE}"].count_documents({}) == 1
    assert backends[f"jobs/spooler.{DEVICE}"].find_one()["phase"] == "ended"


@pytest.mark.parametrize("kind", SERVERS)
def test_a_first_status_that_never_comes_is_made(backends: Backends, kind: str) -> None:
    backends.fill(1, statuses=False)
    clock = ManualClock()
    backend = backends(kind, clock)
    claim = take(backend)
    clock.advance(FIRST_STATUS_WITHIN)
    backend.ack(claim, sealed(claim))
    assert backends[f"status/{DEVICE}"].find_one()["payload"]["status"] == "DONE"


@pytest.mark.parametrize("kind", SERVERS)
def test_what_stood_in_the_place_of_a_result_is_kept(backends: Backends, kind: str) -> None:
    (job_id,) = backends.fill(1)
    standing = {"_id": ObjectId(job_id), "somebody": "else's"}
    backends[f"results/{DEVICE}"].insert_one(standing)
    backend = backends(kind)
    claim = take(backend)
    report = sealed(claim, value=5)
    backend.ack(claim, report)
    backend.ack(claim, report)
    assert backends[f"results/{DEVICE}"].find_one()["payload"]["header"] == {"value": 5}
    (kept,) = backends[f"spooler/replaced.{DEVICE}"].find()
    assert kept["document"] == standing


@pytest.mark.parametrize("kind", SERVERS)
def test_the_ledger_keeps_the_signed_report(backends: Backends, kind: str) -> None:
    backends.fill(1)
    backend = backends(kind)
    claim = end(backend, value=0.1)
    backend.close()
    (entry,) = backends[f"jobs/spooler.{DEVICE}"].find()
    assert (entry["phase"], entry["state"], entry["token"]) == ("ended", "done", claim.token)
    said = json.loads(KeySet([KEY.public()]).verify_jws(entry["jws"]))
    assert said["result"]["data"] == {"value": 0.1}


# --- large results ---------------------------------------------------------------------------

MIB = 2**20


@pytest.mark.parametrize("kind", SERVERS)
def test_a_result_that_no_document_holds_lies_beside_it(
    backends: Backends, submitter: MongoSubmitter, kind: str
) -> None:
    (job_id,) = backends.fill(1)
    backend = backends(kind)
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
    backends: Backends, submitter: MongoSubmitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job_id,) = backends.fill(1)
    end(backends(), picture="x" * (17 * MIB))
    with monkeypatch.context() as patch:
        patch.setattr(large, "LARGEST", 10 * MIB)
        with pytest.raises(UnknownJob, match="more than 10485760 bytes; it is not read"):
            submitter.result(DEVICE, job_id)
    chunks = backends["spooler/large.chunks"]
    first = chunks.find_one({"n": 0})
    changed = b"y" + first["data"][1:]
    chunks.update_one({"_id": first["_id"]}, {"$set": {"data": changed}})
    with pytest.raises(UnknownJob, match="does not match its signature"):
        submitter.result(DEVICE, job_id)
    chunks.delete_many({})
    with pytest.raises(UnknownJob, match="missing or damaged"):
        submitter.result(DEVICE, job_id)


@pytest.mark.parametrize("kind", SERVERS)
def test_a_large_report_that_comes_too_late_leaves_nothing(backends: Backends, kind: str) -> None:
    backends.fill(1)
    backend, other = backends(kind), backends(kind)
    late = backend.claim(QUEUE, new_lease())
    assert late is not None
    assert other.reclaim(QUEUE, new_lease(), dead) is not None
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


@pytest.mark.parametrize("kind", SERVERS)
def test_a_result_that_fits_a_document_stays_whole(
    backends: Backends, submitter: MongoSubmitter, kind: str
) -> None:
    """Result and report together do not fit the ledger: the report lies beside it."""
    (job_id,) = backends.fill(1)
    text = "x" * (9 * MIB)
    backend = backends(kind)
    claim = end(backend, picture=text)
    assert submitter.result(DEVICE, job_id).data == {"picture": text}
    document = backends[f"results/{DEVICE}"].find_one()["payload"]
    assert document["header"] == {"picture": text}, "sqooler's own client sees it"
    (file,) = backends["spooler/large.files"].find()
    assert claim.token in file["_id"]
    backend.close()
    (entry,) = backends[f"jobs/spooler.{DEVICE}"].find()
    assert entry["phase"] == "ended"
    chunks = backends["spooler/large.chunks"].find({"files_id": file["_id"]}).sort("n", 1)
    content = b"".join(each["data"] for each in chunks)
    header, _, signature = entry["jws"].split(".")
    KeySet([KEY.public()]).verify_jws(f"{header}.{b64encode(content)}.{signature}")


# --- reports that are not taken ----------------------------------------------------------------


@pytest.mark.parametrize("state", [State.ERROR, State.CANCELLED])
def test_a_reason_that_no_document_holds_is_refused_for_good(
    backends: Backends, submitter: MongoSubmitter, state: State
) -> None:
    (job_id,) = backends.fill(1)
    backend = backends()
    claim = take(backend)
    with pytest.raises(ReportRefused, match=r"MiB"):
        backend.ack(claim, signed_report(claim, state, reason="x" * (9 * MIB)))
    assert backends["spooler/large.files"].count_documents({}) == 0
    backend.ack(claim, signed_report(claim, state, reason="too long to be told"))
    assert submitter.status(DEVICE, job_id).reason == "too long to be told"


@pytest.mark.parametrize("place", ["jobs/spooler.", "results/", "status/", "jobs/finished."])
@pytest.mark.parametrize("kind", SERVERS)
def test_a_report_that_a_server_does_not_take_waits_alone(
    backends: Backends, kind: str, place: str
) -> None:
    """A rule of a collection, say, is in its way: that is no outage, and other jobs go on."""
    first, second = backends.fill(2)
    backend, other = backends(kind), backends(kind)
    claim = take(backend)
    where = backends[f"{place}{DEVICE}"]
    if where.name not in where.database.list_collection_names():
        where.database.create_collection(where.name)
    rule = {"$nor": [{"_id": ObjectId(first), "phase": {"$ne": "held"}}]}
    where.database.command("collMod", where.name, validator=rule)
    for _ in range(2):
        try:
            backend.ack(claim, sealed(claim))
        except BackendUnavailable as error:
            assert error.scope is Scope.JOB, str(error)
        else:
            assert (kind, place) == ("old", "jobs/finished."), "it is filed later there"
            break
    following = take(other)
    assert following.job.id == second
    other.ack(following, sealed(following))
    assert other.reclaim(QUEUE, new_lease(), lambda _: Standing.LEASED) is None
    where.database.command("collMod", where.name, validator={})
    backend.ack(claim, sealed(claim))
    backend.close()
    other.reclaim(QUEUE, new_lease(), dead)
    other.close()
    assert backends[f"jobs/finished.{DEVICE}"].count_documents({}) == 2
    assert backends[f"results/{DEVICE}"].count_documents({}) == 2
    assert backends[f"jobs/queued.{DEVICE}"].count_documents({}) == 0
    assert {each["phase"] for each in backends[f"jobs/spooler.{DEVICE}"].find()} == {"ended"}


def test_an_end_that_cannot_be_completed_stops_nobody(
    backends: Backends, caplog: pytest.LogCaptureFixture
) -> None:
    """Decided by a process that died, and its result is refused: the others are taken over."""
    first, second = backends.fill(2)
    holder, other = backends(), backends()
    claims = [take(holder), take(holder)]
    results = backends[f"results/{DEVICE}"]
    results.database.create_collection(results.name)
    results.database.command("collMod", results.name, validator={"_id": {"$ne": ObjectId(first)}})
    with pytest.raises(BackendUnavailable):
        holder.ack(claims[0], sealed(claims[0]))
    for _ in range(2):
        new = other.reclaim(QUEUE, new_lease(), dead)
        assert new is not None
        assert new.job.id == second
    assert len([each for each in caplog.records if first in each.getMessage()]) == 1


def test_progress_never_replaces_a_final_status_of_any_form(
    backends: Backends,
) -> None:
    """The end is another backend's, so nothing but the write's own condition can tell."""
    (job_id,) = backends.fill(1)
    backend = backends()
    claim = take(backend)
    status = backends[f"status/{DEVICE}"]
    backend.show(claim, "half way")
    assert "half way" in status.find_one()["payload"]["detail"]
    backends().ack(claim, sealed(claim))  # as another process with our claim would
    backend.show(claim, "still at it")
    assert status.find_one()["payload"]["status"] == "DONE"
    for final in ("DONE", "ERROR"):
        status.replace_one({}, {"_id": ObjectId(job_id), "status": final})  # unsigned
        backend.show(claim, "still at it")
        assert status.find_one()["status"] == final


def test_a_preview_is_what_is_written(backends: Backends) -> None:
    (job_id,) = backends.fill(1)
    backend = backends()
    claim = take(backend)
    report = sealed(claim, value={"a": [1, {"b": 0.5}]})
    shown = {each.place: each.content for each in backend.preview(claim, report)}
    assert json.loads(json.dumps(shown)) == shown, "it is plain JSON"
    backend.ack(claim, report)
    for kind in ("results", "status"):
        written = backends[f"{kind}/{DEVICE}"].find_one()
        del written["_id"]
        assert shown[f"{kind}/{DEVICE}/{job_id}"] == written
    assert shown[f"jobs/spooler/{DEVICE}/{job_id}"]["jws"] == report.jws


def test_a_queue_may_be_called_other_than_its_device(backends: Backends) -> None:
    (job_id,) = backends.fill(1)
    backend, queue = backends(), Queue(DEVICE, "cryo_fridge")
    claim = backend.claim(queue, new_lease())
    assert claim is not None
    report = replace(sealed(claim).report, device="cryo_fridge")
    backend.ack(claim, SignedReport(report, KEY.jws(report_to_json(report))))
    document = backends[f"results/{DEVICE}"].find_one({"_id": ObjectId(job_id)})["payload"]
    assert document["display_name"] == DEVICE


# --- jobs of any kind ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SERVERS)
def test_a_job_of_almost_16_mb_is_refused_or_works(backends: Backends, kind: str) -> None:
    (small,) = backends.fill(1, text="x" * (15_900_000))
    backend = backends(kind)
    claim = take(backend)
    assert claim.job.id == small
    assert "bytes and at most" in claim.job.defect
    backend.ack(claim, signed_report(claim, State.ERROR, reason=claim.job.defect))
    (large,) = backends.fill(1, text="x" * (15_900_000))
    backend = backends(kind, max_payload=16 * MIB)
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
    assert backend.claim(QUEUE, new_lease()) is None
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
