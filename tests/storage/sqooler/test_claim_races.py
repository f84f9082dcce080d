"""Several processes on one folder: every job is taken exactly once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from spooler.durable import Disk
from spooler.storage.sqooler.client.documents import BackendConfigSchemaIn, LocalLoginInformation
from spooler.storage.sqooler.client.local import LocalProviderExtended

TAKER = """
import sys
from spooler.durable import Disk
from spooler.storage.sqooler.client.documents import LocalLoginInformation
from spooler.storage.sqooler.client.local import LocalProviderExtended
provider = LocalProviderExtended(
    LocalLoginInformation(base_path=sys.argv[1]), "lab", disk=Disk(sync=False)
)
print("ready", flush=True)
sys.stdin.readline()
while (job := provider.get_next_job_in_queue("dev")).job_id != "None":
    assert provider.get_job(job.job_json_path, job.job_id)["n"] >= 0
    print(job.job_id, flush=True)
"""


def _config(name: str) -> BackendConfigSchemaIn:
    return BackendConfigSchemaIn(
        description="d",
        version="0.1.0",
        display_name=name,
        cold_atom_type="spin",
        gates=[],
        max_experiments=1,
        max_shots=1,
        simulator=True,
        supported_instructions=[],
        num_wires=1,
        wire_order="interleaved",
        num_species=1,
    )


@pytest.mark.parametrize("takers", [2])
def test_each_job_is_taken_exactly_once(tmp_path: Path, takers: int) -> None:
    provider = LocalProviderExtended(
        LocalLoginInformation(base_path=str(tmp_path)), "lab", disk=Disk(sync=False)
    )
    provider.upload_config(_config("dev"), "dev")
    jobs = {provider.upload_job({"n": n}, "dev", "u") for n in range(200)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TAKER, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(takers)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    taken = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * takers
    counts = Counter(job for each in taken for job in each)
    assert counts == dict.fromkeys(jobs, 1)
    assert set(provider.ids("jobs/running")) == jobs
    assert provider.ids("jobs/queued/dev") == []
    config = json.loads((tmp_path / "backends" / "configs" / "dev.json").read_text())
    assert config["last_queue_check"]
