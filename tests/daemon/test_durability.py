"""What promises durability of ours does not depend on a setting of the storage."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spooler.app import Daemon, RunOptions
from spooler.observe.board import Board
from spooler.observe.events import Observer
from spooler.observe.notify import ServiceManager
from spooler.settings import Settings
from tests.acceptance.lab import Lab


def test_without_fsync_of_the_storage_records_and_audit_trail_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(tmp_path)
    job = lab.submit({}, "echo")
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    settings = Settings.model_validate(
        {
            "state": tmp_path / "state",
            "storage": {"type": "sqooler-local", "path": lab.storage, "fsync": False},
            "devices": {"echo": {"handler": "echo", "isolation": "thread"}},
        }
    )
    board = Board()
    daemon = Daemon(settings, RunOptions(once=True), Observer(board), board)
    assert daemon.serve(ServiceManager(), lambda: None) == 0
    assert lab.ended("echo", job)["status"] == "DONE"
    records, audit = f"{tmp_path}/state/records/", f"{tmp_path}/state/audit"
    assert any(each.startswith(records) for each in synced), "the report was on no disk"
    assert any(each.startswith(audit) for each in synced)
    assert not any(each.startswith(str(lab.storage)) for each in synced)
