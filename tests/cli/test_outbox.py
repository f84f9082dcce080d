"""Reports that the storage does not have, as a person finds them in the state folder."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from spooler.app import parts
from spooler.clock import SystemClock
from spooler.daemon.reports.outbox import Entry, Outbox
from spooler.model.result import Report, Result
from spooler.model.state import State
from spooler.model.status import Status
from spooler.settings import load
from spooler.storage.liveness import this_process


@pytest.fixture
def kept(lab, said):
    """A report of a finished run that its daemon could not bring: (settings, outbox, entry)."""
    lab.drain()
    (lab.folder / "job.json").write_text('{"value": 1}')
    job = said("submit", "echo", "job.json").out.strip()
    settings = load(lab.folder / "spooler.toml", {})
    signer = parts.load_signer(settings)
    backend = parts.open_storage(settings, SystemClock(), signer)
    claim = backend.claim("echo", this_process(), 30.0, "ab" * 8)
    assert claim is not None
    assert claim.job.id == job
    now = datetime.now(UTC)
    status = Status(State.DONE, "", now, now)
    report = Report(job, "echo", "1.0.0", 1, "somebody", status, Result({"value": 42}))
    entry = Entry(claim, parts.report_signer(signer)(report))
    outbox = Outbox(settings.state / "outbox")
    outbox.keep(entry)
    return settings, outbox, entry


def test_an_empty_outbox(lab, said):
    assert "empty" in said("outbox", "list").err
    assert json.loads(said("outbox", "list", "--json").out) == []


def test_what_waits_is_listed_while_a_daemon_runs(kept, said):
    settings, _, entry = kept
    lock = parts.lock_state(settings.state)
    try:
        (listed,) = json.loads(said("outbox", "list", "--json").out)
        refused = said("outbox", "retry")
    finally:
        os.close(lock)
    assert listed["job"] == entry.claim.job.id
    assert (listed["parked"], listed["state"], listed["reason"]) == (False, "done", "")
    assert refused.code == 75
    assert "stop it" in refused.err
    assert "waiting" in said("outbox", "list").out


def test_show_prints_the_data(kept, said):
    _, _, entry = kept
    (shown,) = json.loads(said("outbox", "show", entry.claim.job.id).out)
    assert shown["report"]["result"]["data"] == {"value": 42}
    assert shown["jws"] == entry.signed.jws
    missing = said("outbox", "show", "0" * 24)
    assert missing.code == 67
    assert "spooler outbox list" in missing.err


@pytest.mark.parametrize("parked", [False, True])
def test_retry_brings_it(kept, said, parked):
    _, outbox, entry = kept
    if parked:
        outbox.park(entry, "it was taken over")
        assert "it was taken over" in said("outbox", "list").out
    done = said("outbox", "retry", entry.claim.job.id)
    assert done.code == 0, done.err
    assert "the storage has it" in done.out
    assert "42" in said("result", entry.claim.job.id).out
    assert "empty" in said("outbox", "list").err


def test_a_late_report_overwrites_nothing_and_is_kept(kept, said):
    _, outbox, entry = kept
    assert said("outbox", "retry").code == 0
    outbox.keep(Entry(replace(entry.claim, token="cd" * 8), entry.signed))
    tried = said("outbox", "retry")
    assert tried.code == 1
    assert "parked again" in tried.out
    (listed,) = json.loads(said("outbox", "list", "--json").out)
    assert listed["parked"]
    assert "taken over" in listed["reason"]


def test_a_damaged_file_is_shown_and_left_alone(kept, said):
    settings, _, entry = kept
    place = settings.state / "outbox" / entry.name
    place.write_bytes(place.read_bytes()[:100])
    assert "cannot be read" in said("outbox", "list").out
    assert "nothing to bring" in said("outbox", "retry").err
    assert place.exists()
