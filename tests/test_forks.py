"""What a fork of this process keeps, and where it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from spooler import forks
from spooler.app.state_lock import StateLock
from spooler.errors import StateInUse


def test_a_fork_that_lives_on_does_not_hold_the_state_folder(tmp_path: Path) -> None:
    """A handler in a thread may make one; it must not keep the next daemon from starting."""
    reading, writing = os.pipe()
    hearing, saying = os.pipe()
    lock = StateLock(tmp_path / "state")
    with pytest.raises(StateInUse):
        StateLock(tmp_path / "state")
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.write(saying, b"!")
        os.read(reading, 1)  # until the test has seen it
        os._exit(0)
    try:
        os.read(hearing, 1)
        lock.close()  # as the death of this process would
        StateLock(tmp_path / "state").close()
    finally:
        for each in (writing, reading, hearing, saying):
            os.close(each)
        assert os.waitpid(child, 0)[1] == 0


def test_a_closed_descriptor_is_nobodys_to_close(tmp_path: Path) -> None:
    """Its number may be another file's by then, in a fork too."""
    handle = os.open(tmp_path / "one", os.O_CREAT | os.O_RDWR)
    forks.keep_to_ourselves(handle)
    forks.close(handle)
    other = os.open(tmp_path / "two", os.O_CREAT | os.O_RDWR)
    assert other == handle, "the system gives the lowest number"
    child = os.fork()
    if child == 0:
        os._exit(0 if fcntl.fcntl(other, fcntl.F_GETFD) >= 0 else 1)
    assert os.waitpid(child, 0)[1] == 0
    os.close(other)
