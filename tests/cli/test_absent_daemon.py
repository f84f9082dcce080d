"""What a submitter is told while nobody serves the device, and what a monitor asks."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from spooler import app
from spooler.errors import BackendUnavailable
from spooler.model.state import State
from spooler.model.status import Status
from spooler.signing.keys import load_file
from spooler.signing.sqooler_form import sign_document


@pytest.fixture
def old(lab):
    """Devices whose daemon was there, ten minutes ago."""
    lab.drain()
    for name in ("echo", "broken"):
        seen_at(lab, name, datetime.now(UTC) - timedelta(minutes=10))
    return lab


def seen_at(lab, name, at):
    """As if the daemon had announced a device then."""
    file = lab.folder / "storage" / "backends" / "configs" / f"{name}.json"
    card = json.loads(file.read_text())["payload"] | {"last_queue_check": at.isoformat()}
    key = load_file(lab.folder / "backend.jwk")
    file.write_text(json.dumps(sign_document(card, key)))


def test_a_job_for_nobody_is_queued_and_that_is_said(old, said):
    done = said("submit", "echo", '{"x": 1}')
    assert done.code == 0
    assert "no daemon is serving echo now (last seen 10 min ago); the job waits" in done.err
    job = done.out.strip()
    asked = said("status", job)
    assert "no daemon is serving echo now" in asked.err
    withdrawn = said("cancel", job)
    assert withdrawn.out.strip() == f"{job} is withdrawn"
    assert (
        "no daemon is serving echo now (last seen 10 min ago): the next one confirms"
        in withdrawn.err
    )
    assert said("submit", "broken", '{"x": 1}').err.startswith("no daemon is serving broken now (")
    old.drain()
    assert "no daemon" not in said("status", job).err
    assert "cancelled" in said("status", job).out


def test_waiting_ends_with_the_result(lab, said, process):
    lab.drain()
    daemon = process("run", cwd=lab.folder)
    try:
        done = said("submit", "echo", '{"x": [1, 2]}', "--wait", "--timeout", "60s")
    finally:
        daemon.terminate()
        daemon.communicate()
    assert done.code == 0, done.err
    job = done.out.strip()
    assert re.fullmatch(r"[0-9a-f]{24}", job), "stdout has the id alone, for scripts"
    assert '"x": [' in done.err
    lines = done.err.splitlines()
    assert not [line for line in lines if "done Done" in line or "done: Done" in line]
    assert any(line.startswith(f"{job}: Done") for line in lines)


@pytest.mark.parametrize("text", ['{"x": 1', "{x: 1}"])
def test_json_that_is_none_is_not_taken_for_a_file(lab, said, text):
    lab.drain()
    done = said("submit", "echo", text)
    assert (done.code, done.err.startswith("spooler: the payload is not JSON")) == (65, True), done


def test_what_waits_is_counted_now(old, said):
    for _ in range(2):
        said("submit", "echo", '{"x": 1}')
    (echo,) = [each for each in json.loads(said("devices", "--json").out) if each["name"] == "echo"]
    assert echo["pending"] == 2


def test_a_monitor_is_told_what_is_wrong(old, said):
    seen_at(old, "echo", datetime.now(UTC))
    done = said("devices", "--check", "--json")
    assert done.code == 1
    problems = {each["name"]: each["problem"] for each in json.loads(done.out)}
    assert problems == {"echo": "", "broken": "offline"}
    assert said("devices", "echo", "--check").code == 0
    assert said("devices", "--check", "--max-age", "1h").code == 0
    seen_at(old, "echo", datetime.now(UTC) + timedelta(days=1))
    assert said("devices", "echo", "--check").code == 1, "no daemon has written that"
    seen_at(old, "echo", datetime.now(UTC))
    said("submit", "echo", '{"x": 1}')
    full = said("devices", "echo", "--check", "--max-waiting", "0")
    assert (full.code, "too many waiting" in full.out) == (1, True)
    assert said("devices", "echo", "--check", "--max-waiting", "1").code == 0
    assert said("devices").code == 0, "asked without --check it only shows"


def test_a_monitor_that_asks_for_the_wrong_thing(old, said):
    unknown = said("devices", "toaster", "--check")
    assert (unknown.code, "announced devices: broken, echo" in unknown.err) == (67, True)
    assert said("devices", "--check", "--max-age", "soon").code == 2


def test_no_device_is_not_well(lab, said):
    assert said("devices", "--check").code == 1
    assert said("devices").code == 0


class Failing:
    """A storage that withdraws a job, and then cannot say which devices there are."""

    def status(self, device, job):
        return Status(State.QUEUED)

    def cancel(self, device, job):
        return True

    def devices(self):
        raise BackendUnavailable("the storage has gone away")

    def close(self):
        pass


def test_what_was_done_is_said_whatever_comes_of_the_question_who_serves(lab, said, monkeypatch):
    monkeypatch.setattr(app, "open_submitter", lambda *_: Failing())
    done = said("cancel", "abc", "--device", "echo")
    assert (done.code, done.out) == (0, "abc is withdrawn\n")
