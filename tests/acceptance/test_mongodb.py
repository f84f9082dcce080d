"""Real daemons and the real sqooler client, on a MongoDB server."""

from __future__ import annotations

import copy
import hashlib
import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson.objectid import ObjectId
from pymongo import MongoClient

from tests.acceptance.lab import RABI, kept, until
from tests.acceptance.mongo_lab import MongoLab, ended, submit
from tests.servers.mongodb import MongoServer
from tests.storage.sqooler import upstream

pytestmark = [pytest.mark.interop, pytest.mark.acceptance]


@pytest.fixture
def lab(tmp_path: Path, bare_mongodb: MongoServer) -> Iterator[MongoLab]:
    made = MongoLab(tmp_path, bare_mongodb)
    yield made
    made.close()


@pytest.fixture
def client(lab: MongoLab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """sqooler's client as its users have it, but for the address: that is hard-wired to srv."""
    clients: list[MongoClient[Any]] = []

    def ours(uri: str) -> MongoClient[Any]:
        assert uri.startswith("mongodb+srv://")
        clients.append(MongoClient(f"{lab.server.uri}&retryWrites=true&w=majority"))
        return clients[-1]

    monkeypatch.setattr(upstream.mongodb, "MongoClient", ours)
    login = {"mongodb_username": "u", "mongodb_password": "p", "mongodb_database_url": "h"}
    yield upstream.MongodbProviderExtended(upstream.schemes.MongodbLoginInformation(**login), "lab")
    for each in clients:
        each.close()


def test_submit_read_verify(lab: MongoLab, client: Any) -> None:
    daemon = lab.run(lab.configure())
    assert client.get_backends() == ["singlequdit"]
    assert client.get_backend_status("singlequdit").operational
    assert client.get_backend_dict("singlequdit").backend_name == "lab_singlequdit_simulator"
    job_id = submit(client, "singlequdit", RABI)
    assert ended(client, "singlequdit", job_id).status == "DONE"
    result = client.get_result("singlequdit", "alice", job_id)
    assert (result.status, result.success, result.job_id) == ("DONE", True, job_id)
    (experiment,) = result.results
    assert len(experiment.data.memory) == 50
    assert client.verify_result("singlequdit", job_id)
    assert client.get_job("jobs/finished/singlequdit", job_id) == RABI
    assert client.get_file_queue("jobs/queued/singlequdit") == []
    assert daemon.stop() == 0


def test_a_failed_job_says_why(lab: MongoLab, client: Any) -> None:
    lab.run(lab.configure())
    broken = copy.deepcopy(RABI)
    broken["experiment_0"]["instructions"][1][0] = "teleport"  # type: ignore[index]
    job_id = submit(client, "singlequdit", broken)
    status = ended(client, "singlequdit", job_id)
    assert status.status == "ERROR"
    assert "teleport" in status.error_message
    assert client.get_result("singlequdit", "alice", job_id).status == "ERROR"
    assert client.get_job("jobs/deleted", job_id) == broken


def test_the_first_status_is_the_client_s(lab: MongoLab, client: Any) -> None:
    """However fast the daemon is, the client's own upload of the first status must not fail."""
    lab.run(lab.configure(device="echo", handler="echo"))
    for _ in range(20):
        job_id = submit(client, "echo", {"a": 1})
        assert ended(client, "echo", job_id).status == "DONE"


def test_another_key_is_refused(lab: MongoLab, client: Any) -> None:
    lab.run(lab.configure()).stop()
    from spooler.signing.keys import generate, write_file

    (lab.folder / "key.jwk").unlink()
    write_file(generate("other"), lab.folder / "key.jwk")
    process = lab.run(lab.configure(), ready=False)
    assert process.end() == 78
    assert "'lab'" in process.text()
    assert "'other'" in process.text()
    assert "Traceback" not in process.text()
    assert client.get_config("singlequdit").kid == "lab"


def test_two_daemons_run_each_job_once(lab: MongoLab, client: Any) -> None:
    daemons = [lab.run(lab.counting(name=f"daemon{number}")) for number in range(2)]
    jobs = [submit(client, "counter", {"value": number}) for number in range(60)]
    for job_id in jobs:
        assert ended(client, "counter", job_id).status == "DONE"
    assert Counter(line.split()[0] for line in lab.book()) == Counter(jobs)
    assert all(client.verify_result("counter", job_id) for job_id in jobs)
    assert [each.stop() for each in daemons] == [0, 0]


@pytest.mark.parametrize(
    ("rerun", "status", "runs"), [("always", "DONE", 2), ("never", "ERROR", 1)]
)
def test_sigkill_while_a_job_runs(
    lab: MongoLab, client: Any, rerun: str, status: str, runs: int
) -> None:
    config = lab.counting(
        extra=f'rerun = "{rerun}"', daemon="poll_interval = 0.2\nrecovery_interval = 0.5"
    )
    killed = lab.run(config)
    job_id = submit(client, "counter", {"seconds": 3.0})
    until(lab.book, "the first run")
    killed.signal(signal.SIGKILL)
    killed.end()
    lab.run(config)
    assert ended(client, "counter", job_id).status == status
    assert len(lab.book()) == runs


def test_the_server_goes_away_while_a_job_runs(lab: MongoLab, client: Any) -> None:
    """The result is kept, and delivered when the server is back."""
    daemon = lab.run(lab.counting())
    job_id = submit(client, "counter", {"seconds": 1.5, "value": 7})
    until(lab.book, "the run")
    lab.server.kill()
    until(lambda: kept(lab.folder / "spooler-state"), "the report")
    lab.server.start()
    assert ended(client, "counter", job_id).status == "DONE"
    result = lab.server.client["results"]["counter"].find_one({"_id": ObjectId(job_id)})
    assert result["payload"]["header"]["value"] == 7
    assert len(lab.book()) == 1
    again = submit(client, "counter", {})
    assert ended(client, "counter", again).status == "DONE"
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.text()


def test_nothing_secret_is_told(lab: MongoLab) -> None:
    config = lab.configure()
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("mongodb://", "mongodb://alice:hunter2@"), encoding="utf-8")
    process = lab.run(config, ready=False)
    until(
        lambda: process.events("storage.unavailable") or process.process.poll() is not None,
        "a refusal",
    )
    process.signal(signal.SIGTERM)
    process.end()
    assert "hunter2" not in process.text()
    assert "Traceback" not in process.text()


def test_a_result_over_16_mb(
    lab: MongoLab, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """sqooler's client reads why there is nothing in it and verifies that; ours reads the data."""
    from spooler.cli import main

    config = str(lab.counting(extra="max_output = 33554432"))
    lab.run(Path(config))
    job_id = submit(client, "counter", {"megabytes": 17})
    status = ended(client, "counter", job_id)
    assert status.status == "DONE", status
    result = client.get_result("counter", "alice", job_id)
    assert (result.status, result.results) == ("DONE", [])
    told = result.header["error"]
    assert "more than one document can hold" in told
    assert f"spooler result counter {job_id}" not in told, "that is no command of ours"
    assert f"spooler result {job_id} --device counter" in told
    assert client.verify_result("counter", job_id)
    stored = result.header["stored"]
    chunks = lab.server.client["spooler"]["large.chunks"].find({"files_id": stored["file"]})
    content = b"".join(each["data"] for each in sorted(chunks, key=lambda one: one["n"]))
    assert hashlib.sha256(content).hexdigest() == stored["sha256"]
    assert len(content) == stored["size"]
    capsys.readouterr()
    assert main(["result", job_id, "--device", "counter", "--json", "--config", config]) == 0
    assert json.loads(capsys.readouterr().out)["data"] == {"picture": "x" * (17 * 2**20)}
