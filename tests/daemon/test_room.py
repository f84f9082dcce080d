"""No job is begun that this machine's disk could not keep the report of."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spooler import durable
from spooler.daemon import room
from spooler.daemon.room import LEAST
from spooler.model.state import State
from spooler.observe.board import Board
from spooler.observe.events import EventName
from tests.daemon.parts import Parts


class Disk:
    """`os` as durable.py sees it; writes can be refused, and there is as much room as is said."""

    def __init__(self) -> None:
        self.refuses = False
        self.blocks, self.files = 10 * LEAST, 10

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, handle: int, content: bytes) -> int:
        if self.refuses:
            raise OSError(errno.EDQUOT, "Quota exceeded")
        return os.write(handle, content)

    def statvfs(self, _: object) -> SimpleNamespace:
        return SimpleNamespace(f_files=10, f_favail=self.files, f_bavail=self.blocks, f_frsize=1)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk()
    monkeypatch.setattr(durable, "os", made)
    monkeypatch.setattr(room, "os", made)
    return made


def test_less_than_a_little_is_none(parts: Parts, disk: Disk) -> None:
    assert parts.room.there()
    disk.blocks = LEAST - 1
    assert not parts.room.there()
    disk.blocks, disk.files = LEAST, 0
    assert not parts.room.there(), "no more files can be made"
    disk.files = 1
    assert parts.room.there()
    assert parts.events() == [EventName.DISK_FULL, EventName.DISK_RECOVERED], "told once"


def test_what_has_refused_a_report_is_tried_before_the_next_run(parts: Parts, disk: Disk) -> None:
    """A quota does not show in what is free."""
    job_id = parts.submit()
    held = parts.hold()
    disk.refuses = True
    parts.finish(held.claim)
    assert parts.state_of(job_id) is State.DONE
    assert not parts.room.there()
    told = [each for each in parts.seen if each.name is EventName.DISK_FULL]
    assert len(told) == 1
    assert told[0].fields["job"] == job_id
    assert "quota" in told[0].fields["error"]
    disk.refuses = False
    assert parts.room.there()
    assert not list(parts.state.glob(".room*")), "nothing is left of the look"


def test_health_says_so(parts: Parts, disk: Disk) -> None:
    board = Board()
    disk.blocks = 0
    parts.room.there()
    for each in parts.seen:
        board(each)
    assert not board.snapshot().healthy
    assert "own disk full" in board.snapshot().line()
    disk.blocks = LEAST
    parts.room.there()
    board(parts.seen[-1])
    assert board.snapshot().healthy


def test_a_state_folder_that_was_removed_is_made_again_for_us_alone(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    shutil.rmtree(parts.state)
    assert parts.room.there()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
