"""Somebody removes the state folder, or all that is in it, while a daemon uses it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.lab import Lab, kept, until

STATE_IN_USE = 75


def empty(state: Path) -> None:
    for each in state.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()


@pytest.mark.parametrize("remove", [empty, shutil.rmtree], ids=["emptied", "removed"])
def test_what_is_taken_away_under_a_daemon_is_noticed_and_made_anew(lab: Lab, remove) -> None:  # type: ignore[no-untyped-def]
    config = lab.counting()
    state = lab.folder / "spooler-state"
    daemon = lab.run(config)
    job = lab.submit({"seconds": 2.5})
    until(lambda: lab.book(f"run {job}"), "the run")
    remove(state)
    (removed,) = [daemon.wait_for("state.removed")]
    assert removed["level"] == "error"
    second = lab.run(config, ready=False)
    assert second.end() == STATE_IN_USE, "nobody else has the device"
    assert lab.ended("counter", job)["status"] == "DONE"
    after = lab.submit({})
    assert lab.ended("counter", after)["status"] == "DONE", "it goes on"
    assert len(lab.book("run")) == 2
    assert daemon.stop() == 0
    assert kept(state) == []
    trail = state / "audit" / "audit-000001.jsonl"
    told = [json.loads(line) for line in trail.read_text().splitlines()]
    assert (told[0]["what"], told[0]["removed"]) == ("audit.continued", told[0]["n"] - 1)
    verify = [sys.executable, "-m", "spooler", "audit", "verify", "--config", str(config)]
    said = subprocess.run(
        verify, check=False, capture_output=True, text=True, cwd=lab.folder, env=os.environ
    )
    assert said.returncode == 1
    assert "the trail restarts here" in said.stdout


def test_whom_another_daemon_has_replaced_ends(lab: Lab) -> None:
    """The folder was removed, and another daemon was faster to make it again."""
    config = lab.counting()
    state = lab.folder / "spooler-state"
    daemon = lab.run(config)
    beside = lab.folder / "beside"
    beside.mkdir()
    (beside / "lock").touch()
    with subprocess.Popen(["flock", beside / "lock", "cat"], stdin=subprocess.PIPE) as other:
        until(lambda: locked(beside / "lock"), "the other's lock")
        state.rename(lab.folder / "away")
        beside.rename(state)
        assert daemon.end() == 70
        assert other.stdin is not None
        other.stdin.close()
    assert "another spooler uses the state folder" in daemon.text()


def locked(place: Path) -> bool:
    return subprocess.run(["flock", "--nonblock", place, "true"], check=False).returncode == 1
