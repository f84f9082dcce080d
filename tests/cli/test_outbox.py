"""Reports that the storage does not have, as a person finds them in the state folder."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from spooler.app import parts
from spooler.app.state_lock import StateLock
from spooler.clock import SystemClock
from spooler.daemon.claims.records import Phase, Record, Records
from spooler.model.claim import Lease
from spooler.model.job import Queue, key_of
from spooler.model.records import report_to_json
from spooler.model.result import Report, Result
from spooler.model.state import State
from spooler.model.status import Status
from spooler.settings import load
from spooler.signing.keys import generate


@pytest.fixture
def kept(lab, said):
    """A report of a finished run whose daemon died: (settings, its folder, the record)."""
    lab.drain()
    (lab.folder / "job.json").write_text('{"value": 1}')
    job = said("submit", "echo", "job.json").out.strip()
    settings = load(lab.folder / "spooler.toml", {})
    signer = parts.load_signer(settings)
    backend = parts.open_storage(settings, settings.storage, SystemClock(), signer)
    owner = parts.this_process(settings.state)
    claim = backend.claim(Queue("echo", "echo"), Lease("ab" * 8, owner, 30.0))
    assert claim is not None
    assert claim.job.id == job
    now = datetime.now(UTC)
    status = Status(State.DONE, "", now, now)
    report = Report(job, "echo", "echo", "1.0.0", 1, "somebody", status, Result({"value": 42}))
    record = Record(claim, "echo", Phase.REPORT, parts.report_signer(signer)(report))
    records = Records(Path(owner.estate) / key_of(backend.address))
    records.open()
    records.keep(record)
    records.let_go()
    return settings, records, record


def test_nothing_is_undelivered(lab, said):
    assert "no undelivered reports" in said("outbox", "list").err
    assert json.loads(said("outbox", "list", "--json").out) == []


def test_what_waits_is_listed_while_a_daemon_runs(kept, said):
    settings, _, record = kept
    lock = StateLock(settings.state)
    try:
        (listed,) = json.loads(said("outbox", "list", "--json").out)
        refused = said("outbox", "retry")
    finally:
        lock.close()
    assert listed["job"] == record.claim.job.id
    assert (listed["parked"], listed["state"], listed["reason"]) == (False, "done", "")
    assert refused.code == 75
    assert "stop it" in refused.err
    assert "waiting" in said("outbox", "list").out


def test_show_prints_the_data(kept, said):
    _, _, record = kept
    (shown,) = json.loads(said("outbox", "show", record.claim.job.id).out)
    assert shown["report"]["result"]["data"] == {"value": 42}
    assert shown["jws"] == record.signed.jws
    missing = said("outbox", "show", "0" * 24)
    assert missing.code == 67
    assert "spooler outbox list" in missing.err


@pytest.mark.parametrize("parked", [False, True])
def test_retry_brings_it(kept, said, parked):
    _, records, record = kept
    if parked:
        records.open()
        records.park(record, "it was taken over")
        records.drop(record.token)
        records.let_go()
        assert "it was taken over" in said("outbox", "list").out
    done = said("outbox", "retry", record.claim.job.id)
    assert done.code == 0, done.err
    assert "delivered" in done.out
    assert "42" in said("result", record.claim.job.id).out
    assert "no undelivered reports" in said("outbox", "list").err


def test_a_late_report_overwrites_nothing_and_is_kept(kept, said):
    _, records, record = kept
    assert said("outbox", "retry").code == 0
    late = replace(record.claim, lease=replace(record.claim.lease, token="cd" * 8))
    records.open()
    records.keep(replace(record, claim=late))
    records.let_go()
    tried = said("outbox", "retry")
    assert tried.code == 1
    assert "parked again" in tried.out
    (listed,) = json.loads(said("outbox", "list", "--json").out)
    assert listed["parked"]
    assert "no longer held" in listed["reason"]


def test_a_damaged_file_is_shown_and_left_alone(kept, said):
    _, records, record = kept
    place = records.folder / f"{record.token}.json"
    place.write_bytes(place.read_bytes()[:100])
    assert "cannot be read" in said("outbox", "list").out
    assert "nothing to deliver" in said("outbox", "retry").err
    assert place.exists()


def test_a_report_that_nobody_has_signed_is_not_delivered(kept, said):
    """Somebody may have put it there: with a key, only what a key of ours has signed goes out."""
    _, records, record = kept
    place = records.folder / f"{record.token}.json"
    said_there = json.loads(place.read_bytes())
    forged = {**said_there, "jws": "", "report": "{}"}
    place.write_text(json.dumps(forged))
    assert said("outbox", "retry").code != 0 or place.exists()
    assert place.exists()
    assert said("result", record.claim.job.id).code == 75


def test_a_report_of_an_earlier_edition_is_delivered(kept, lab, said):
    """It lies in state/outbox, under the name of its job, and says no queue."""
    settings, records, record = kept
    (records.folder / f"{record.token}.json").unlink()
    old = json.loads(report_to_json(record.signed.report))
    for key in ("queue", "digest", "again"):
        del old[key]
    jws = parts.load_signer(settings).jws(json.dumps(old).encode())
    claim, owner = record.claim, record.claim.owner
    content = {
        "claim": {
            "job_id": claim.job.id,
            "device": "echo",
            "submitted_at": None,
            "host": owner.host,
            "pid": owner.pid,
            "process": owner.process,
            "attempt": claim.attempt,
            "token": claim.token,
            "handle": claim.handle,
            "started": claim.started,
        },
        "jws": jws,
    }
    outbox = settings.state / "outbox"
    (outbox / "parked").mkdir(parents=True)
    name = f"echo.{claim.job.id}.1.{claim.token}.json"
    (outbox / name).write_text(json.dumps(content))
    late = {**content, "claim": {**content["claim"], "token": "ef" * 8}}
    (outbox / "parked" / name).write_text(json.dumps(late))
    (outbox / "parked" / f"{name}.reason").write_text('{"reason": "it was taken over"}')
    lab.drain()
    assert "42" in said("result", claim.job.id).out
    (listed,) = json.loads(said("outbox", "list", "--json").out)
    assert (listed["parked"], listed["reason"]) == (True, "it was taken over")
    assert list(outbox.rglob("*.json*")) == []


def test_a_parked_report_under_an_unknown_key_stays_parked(kept, said):
    """The key was replaced by hand, and not rotated."""
    _, records, record = kept
    stranger = parts.report_signer(generate("before"))(record.signed.report)
    records.open()
    records.park(replace(record, signed=stranger), "it was taken over")
    records.drop(record.token)
    records.let_go()
    tried = said("outbox", "retry")
    assert tried.code == 1, tried.err
    assert "not signed by a key of this daemon" in tried.out
    (listed,) = json.loads(said("outbox", "list", "--json").out)
    assert listed["parked"]


def test_a_report_that_was_answered_otherwise_stays_parked(kept, said):
    """Its job has ended with that answer: brought again, the data would be taken for a repeat."""
    _, records, record = kept
    records.open()
    records.park(replace(record, answered=True), "it has a key that starts with $")
    records.drop(record.token)
    records.let_go()
    tried = said("outbox", "retry")
    assert tried.code == 1, tried.err
    assert "the submitter has been told" in tried.out
    (listed,) = json.loads(said("outbox", "list", "--json").out)
    assert listed["parked"]
    assert "42" in said("outbox", "show", record.claim.job.id).out


def test_a_report_for_a_storage_under_another_address_is_told_of(kept, lab, said):
    """The lab has moved its storage: nothing waits there in silence."""
    _, records, _ = kept
    records.folder.rename(records.folder.with_name("sqooler-local-elsewhere"))
    tried = said("outbox", "retry")
    assert tried.code == 1, tried.err
    assert "settings do not name" in tried.out
    assert "1 undelivered reports for a storage" in lab.drain()
    assert len(json.loads(said("outbox", "list", "--json").out)) == 1


def test_what_cannot_be_read_in_an_older_outbox_keeps_no_daemon_from_its_start(lab):
    outbox = load(lab.folder / "spooler.toml", {}).state / "outbox"
    (outbox / "folder.json").mkdir(parents=True)
    (outbox / "link.json").symlink_to("/nowhere")
    told = lab.drain()
    assert "folder.json" in told
    assert "link.json" in told
