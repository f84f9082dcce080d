"""What is verified is what was asked for: this job, of this device, that was measured."""

from __future__ import annotations

import json
import shutil

import pytest

from spooler.signing.keys import generate
from spooler.signing.sqooler_form import sign_document

USAGE, NO_SUCH = 2, 67


@pytest.fixture
def two(lab, said):
    """A lab with the devices echo and broken announced, and one finished job of echo."""
    lab.drain()
    (lab.folder / "job.json").write_text('{"a": 1}')
    job = said("submit", "echo", "job.json").out.strip()
    lab.drain()
    assert said("verify", job).out.startswith("verified:")
    lab.job, lab.storage = job, lab.folder / "storage"
    return lab


def test_an_id_that_two_devices_know_is_nobodys_until_one_is_named(two, said):
    """Anybody who may write the storage may announce a device, with a key of theirs."""
    for kind in ("results", "status"):
        (two.storage / kind / "broken").mkdir(exist_ok=True)
        shutil.copy(two.storage / kind / "echo" / f"{two.job}.json", two.storage / kind / "broken")
    for command in ("verify", "result", "status", "cancel"):
        done = said(command, two.job)
        assert done.code == USAGE, command
        assert "broken, echo" in done.err
        assert "--device" in done.err
        assert done.out == ""
    assert said("verify", two.job, "--device", "echo").out.startswith("verified:")


@pytest.mark.parametrize("kinds", [("results",), ("results", "status", "spooler/reports")])
def test_a_result_that_was_moved_is_no_result_of_its_new_place(two, said, kinds):
    for kind in ("status", *kinds):
        (two.storage / kind / "broken").mkdir(parents=True, exist_ok=True)
        shutil.copy(two.storage / kind / "echo" / f"{two.job}.json", two.storage / kind / "broken")
    verified = said("verify", two.job, "--device", "broken")
    assert verified.code == 1
    assert f"belongs to job '{two.job}' of device 'echo'" in verified.out
    shown = said("result", two.job, "--device", "broken")
    assert shown.code == NO_SUCH
    assert shown.out == ""
    other = "f" * 24
    for kind in ("results", "status"):
        where = two.storage / kind / "echo"
        shutil.copy(where / f"{two.job}.json", where / f"{other}.json")
    assert said("verify", other, "--device", "echo").code == 1
    assert said("result", other, "--device", "echo").code == NO_SUCH


def test_what_a_dry_run_prints_verifies_nowhere(two, said, process):
    job = said("submit", "echo", "job.json").out.strip()
    withdrawn = said("submit", "echo", "job.json").out.strip()
    assert said("cancel", withdrawn).code == 0
    child = process("run", "--dry-run", cwd=two.folder)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    lines = {line["job"]: line for line in map(json.loads, out.splitlines())}
    assert lines[withdrawn]["state"] == "cancelled"
    assert lines[job]["state"] == "done"
    for place, content in lines[job]["would_write"].items():
        file = two.storage / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    refused = said("verify", job, "--device", "echo")
    assert refused.code == 1
    assert "dry-run-not-a-result" in refused.out


def test_a_stranger_with_a_key_of_their_own_verifies_as_nobody(two, said):
    """The document says the right device and job; the key is not the device's."""
    file = two.storage / "results" / "echo" / f"{two.job}.json"
    payload = json.loads(file.read_text())["payload"]
    file.write_text(json.dumps(sign_document(payload, generate("stranger"))))
    assert said("verify", two.job).code == 1
