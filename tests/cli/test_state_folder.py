"""The state folder: closed to others, and on a disk that can lock."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from spooler.app import state_lock
from spooler.app.state_lock import StateLock, demand_locks
from spooler.errors import ConfigError, StateInUse


def test_a_folder_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o755)
    folder.chmod(0o2775)
    lock = StateLock(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    lock.close()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """It is no other daemon, and `check` sees it too."""

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(state_lock.fcntl, "flock", refuse)
    for look in (lambda: StateLock(tmp_path), lambda: demand_locks(tmp_path, tmp_path / "state")):
        with pytest.raises(ConfigError, match=r"does not support file locks .* local disk"):
            look()


def test_another_daemon_is_told_as_that(tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(StateInUse):
        StateLock(tmp_path)
    os.close(handle)
