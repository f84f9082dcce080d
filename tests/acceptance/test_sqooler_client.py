"""A lab's users keep the real sqooler client: it submits, reads and verifies."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest

from tests.acceptance.lab import RABI, Lab, until

pytestmark = [pytest.mark.interop, pytest.mark.acceptance]


@pytest.fixture
def client(lab: Lab) -> Any:
    """The public sqooler package, on the lab's folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sqooler.schemes import LocalLoginInformation
        from sqooler.storage_providers.local import LocalProviderExtended

    login = LocalLoginInformation(base_path=str(lab.storage))
    return LocalProviderExtended(login, "lab")


def submit(client: Any, job: dict[str, Any]) -> str:
    """As qlued does it: the job first, its first status second."""
    job_id: str = client.upload_job(job, "singlequdit", "alice")
    client.upload_status("singlequdit", "alice", job_id)
    return job_id


def test_submit_read_verify(lab: Lab, client: Any) -> None:
    daemon = lab.run(lab.configure())
    assert client.get_backends() == ["singlequdit"]
    assert client.get_backend_status("singlequdit").operational
    described = client.get_backend_dict("singlequdit")
    assert described.backend_name == "lab_singlequdit_simulator"
    assert {"rlx", "rlz", "rlz2"} <= set(described.basis_gates)
    job_id = submit(client, RABI)
    until(lambda: client.get_status("singlequdit", "alice", job_id).status == "DONE", "status DONE")
    result = client.get_result("singlequdit", "alice", job_id)
    assert (result.status, result.success, result.job_id) == ("DONE", True, job_id)
    (experiment,) = result.results
    assert experiment.shots == 50
    assert len(experiment.data.memory) == 50
    assert all(0 <= int(shot) <= 20 for shot in experiment.data.memory)
    assert client.verify_result("singlequdit", job_id)
    assert daemon.stop() == 0


def test_a_forged_result_is_seen(lab: Lab, client: Any) -> None:
    lab.run(lab.configure())
    job_id = submit(client, RABI)
    until(lambda: client.get_status("singlequdit", "alice", job_id).status == "DONE", "status DONE")
    place = lab.storage / "results" / "singlequdit" / f"{job_id}.json"
    document = json.loads(place.read_text())
    document["payload"]["results"][0]["data"]["memory"][0] = "21"
    place.write_text(json.dumps(document))
    assert not client.verify_result("singlequdit", job_id)


def test_a_failed_job_says_why(lab: Lab, client: Any) -> None:
    lab.run(lab.configure())
    broken = json.loads(json.dumps(RABI))
    broken["experiment_0"]["instructions"][1][0] = "teleport"
    job_id = submit(client, broken)
    until(
        lambda: client.get_status("singlequdit", "alice", job_id).status == "ERROR", "status ERROR"
    )
    status = client.get_status("singlequdit", "alice", job_id)
    assert "teleport" in status.error_message
    assert "rlx" in status.error_message, "the known gates are named"
    assert client.get_result("singlequdit", "alice", job_id).status == "ERROR"
    evidence = lab.storage / "jobs" / "deleted" / f"{job_id}.json"
    until(evidence.exists, "the evidence: it is moved after the status was written")


def test_the_first_status_is_the_client_s(lab: Lab, client: Any) -> None:
    """However fast the daemon is, the client's own upload of the first status must not fail."""
    lab.run(lab.configure(device="echo", handler="echo"))
    for _ in range(30):
        job_id = client.upload_job({"a": 1}, "echo", "alice")
        client.upload_status("echo", "alice", job_id)  # FileExistsError if we were there first
        assert lab.ended("echo", job_id)["status"] == "DONE"


def test_queued_while_the_daemon_was_away(lab: Lab, client: Any) -> None:
    config = lab.configure()
    lab.run(config).stop()
    ids = [submit(client, RABI) for _ in range(5)]
    process = lab.run(config, "--once", ready=False)
    assert process.end() == 0
    assert all(client.verify_result("singlequdit", job_id) for job_id in ids)


def test_sqooler_s_own_update_is_kept_apart(lab: Lab, client: Any) -> None:
    """Another key under the same device name is refused, naming both keys."""
    lab.run(lab.configure()).stop()
    from spooler.signing.keys import generate, write_file

    (lab.folder / "key.jwk").unlink()
    write_file(generate("other"), lab.folder / "key.jwk")
    process = lab.run(lab.configure(), ready=False)
    assert process.end() == 78
    assert "'lab'" in process.text()
    assert "'other'" in process.text()
    assert "Traceback" not in process.text()
