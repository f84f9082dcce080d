"""The whole submitter side of the command line on MongoDB: real commands, a real daemon."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from types import SimpleNamespace

import pytest

from tests.servers.mongodb import mongo_prefix, mongodb_server

__all__ = ["mongo_prefix", "mongodb_server"]

pytestmark = pytest.mark.acceptance

SETTINGS = """\
[daemon]
poll_interval = "100ms"
grace = "2s"

[storage]
type = "sqooler-mongodb"
uri = "{uri}"
prefix = "{prefix}"

[signing]
key = "backend.jwk"

[devices.singlequdit]
handler = "singlequdit"
isolation = "thread"

[devices.slow]
handler = "echo"
isolation = "thread"
options = {{ delay = 60 }}

[devices.broken]
handler = "echo"
isolation = "thread"
options = {{ fail = "the laser is off" }}
"""
RABI = {
    "experiment_0": {
        "instructions": [["load", [0], [20]], ["rlx", [0], [1.57]], ["measure", [0], []]],
        "num_wires": 1,
        "shots": 50,
        "wire_order": "interleaved",
        "seed": 7,
    }
}


@pytest.fixture
def spooler(lab, process, mongodb_server, mongo_prefix):
    """Run a command as a process of its own, in the lab's folder: exit code, stdout, stderr."""
    text = SETTINGS.format(uri=mongodb_server.uri, prefix=mongo_prefix)
    (lab.folder / "spooler.toml").write_text(text)
    (lab.folder / "job.json").write_text(json.dumps(RABI))

    def spooler(*arguments, stdin=""):
        child = process(*arguments, cwd=lab.folder, stdin=subprocess.PIPE)
        out, err = child.communicate(stdin, timeout=60)
        assert "Traceback" not in out + err
        return SimpleNamespace(code=child.returncode, out=out, err=err)

    return spooler


@pytest.fixture
def daemon(lab, spooler, process):
    """`spooler run`, announced."""
    child = process("run", cwd=lab.folder, stderr=subprocess.PIPE)
    for line in child.stderr:
        if json.loads(line)["event"] == "daemon.started":
            break
    child.stderr.close()
    return child


def state(spooler, job):
    return json.loads(spooler("status", job, "--json").out)["state"]


def reaches(spooler, job, wanted):
    deadline = time.monotonic() + 60
    while (found := state(spooler, job)) != wanted:
        assert time.monotonic() < deadline, found


def test_before_there_is_anything(spooler):
    assert spooler("check").code == 0
    devices = spooler("devices")
    assert (devices.code, devices.out) == (0, "")
    assert "spooler run" in devices.err
    assert spooler("submit", "singlequdit", "job.json").code == 67


@pytest.mark.timeout(300)
def test_from_submit_to_verify(spooler, daemon, mongodb_server, mongo_prefix):
    devices = spooler("devices")
    assert devices.out.count("s ago") == 3
    names = {card["name"] for card in json.loads(spooler("devices", "--json").out)}
    assert names == {"singlequdit", "slow", "broken"}
    waited = spooler("submit", "singlequdit", "-", "--wait", stdin=json.dumps(RABI))
    assert waited.code == 0, waited.err
    job = waited.out.strip()
    assert "state    done" in spooler("status", job).out
    histogram = spooler("result", job)
    assert histogram.code == 0
    assert "experiment_0 (50 shots, mean " in histogram.out
    assert "█" in histogram.out
    data = json.loads(spooler("result", job, "--json").out)["data"]
    assert len(data["results"][0]["data"]["memory"]) == 50
    verified = spooler("verify", job)
    assert (verified.code, verified.out.startswith("verified:")) == (0, True)
    assert json.loads(spooler("verify", job, "--json").out)["kid"]
    check = json.loads(spooler("check", "--json").out)
    assert check["ok"], check
    assert daemon.poll() is None
    # A stranger may add a configuration of the same name: without the signature it counts nothing.
    configs = mongodb_server.client[mongo_prefix + "backends"]["configs"]
    planted = {"display_name": "singlequdit", "description": "planted", "kid": "stranger"}
    configs.insert_one(planted)
    assert spooler("verify", job).out.startswith("verified:")
    shown = json.loads(spooler("devices", "--json").out)
    assert "planted" not in [card["description"] for card in shown]
    configs.delete_one({"_id": planted["_id"]})


def test_a_job_that_fails_says_why(spooler, daemon):
    failed = spooler("submit", "broken", "job.json", "--wait")
    assert failed.code == 1
    job = failed.out.strip()
    assert "the laser is off" in spooler("status", job).out
    result = spooler("result", job)
    assert result.code == 1
    assert "the laser is off" in result.err
    assert spooler("verify", job).code == 1, "there is no result to verify"
    assert daemon.poll() is None


def test_a_result_that_somebody_has_changed(spooler, daemon, mongodb_server, mongo_prefix):
    job = spooler("submit", "singlequdit", "job.json", "--wait").out.strip()
    results = mongodb_server.client[f"{mongo_prefix}results"]["singlequdit"]
    results.update_one({}, {"$set": {"payload.results.0.data.memory.0": "999"}})
    refused = spooler("verify", job)
    assert refused.code == 1
    assert refused.out.startswith("NOT verified:")
    assert daemon.poll() is None


@pytest.mark.timeout(300)
def test_cancel_while_it_runs_and_while_it_waits(spooler, daemon):
    runs, waits = (spooler("submit", "slow", "job.json").out.strip() for _ in range(2))
    reaches(spooler, runs, "running")
    assert state(spooler, waits) == "queued"
    assert "is withdrawn" in spooler("cancel", waits).out
    asked = spooler("cancel", runs)
    assert asked.code == 0
    assert "already running; stop requested" in asked.out
    for job in (runs, waits):
        done = spooler("status", job, "--watch", "--json")
        assert done.code == 1
        assert json.loads(done.out)["state"] == "cancelled", "a program wants to know too"
        assert spooler("cancel", job).code == 1
    assert spooler("result", runs).code == 1
    assert daemon.poll() is None
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
