"""The state folder is one daemon's, for as long as it runs, whatever somebody takes away of it.

Two locks say so: one of the folder itself, which outlives the removal of everything in it, and one
of the file `lock`, which also works where a folder cannot be locked.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from spooler import forks
from spooler.daemon.room import STATE_MODE
from spooler.durable import Disk, unavailable
from spooler.errors import ConfigError, StateInUse


def no_locks(folder: Path, error: OSError) -> ConfigError:
    """Return what to say where a file system cannot lock files: without locks two could be one."""
    return ConfigError(
        f"the file system of the state folder {folder} does not support file locks "
        f"({error.strerror}); set 'state' to a folder on a local disk"
    )


def demand_locks(place: Path, folder: Path) -> None:
    """Raise ConfigError where nothing can be locked in `place`, which is or will hold `folder`."""
    try:
        with tempfile.TemporaryFile(dir=place) as trial:
            fcntl.flock(trial, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise no_locks(folder, error) from error


class StateLock:
    """The locks of one state folder. Used by one thread."""

    def __init__(self, folder: Path) -> None:
        """Take the folder. Raises ConfigError, and StateInUse where another daemon has it."""
        self._folder = folder
        self._held: dict[Path, int] = {}
        try:
            self.take()
        except OSError as error:
            self.close()
            raise ConfigError(
                f"the state folder cannot be used ({unavailable(error, folder)}); set 'state'"
            ) from error
        except (StateInUse, ConfigError):
            self.close()
            raise

    def take(self) -> None:
        """Make and lock what is not there, or not the one that we hold. Raises OSError too."""
        Disk().make_folder(self._folder, mode=STATE_MODE)
        for place, flags in (
            (self._folder, os.O_RDONLY | os.O_DIRECTORY),
            (self._folder / "lock", os.O_RDWR | os.O_CREAT),
        ):
            if self._holds(place):
                continue
            handle = os.open(place, flags | os.O_CLOEXEC, 0o600)
            try:
                self._lock(handle, sure=place != self._folder)
            except (StateInUse, ConfigError):
                os.close(handle)
                raise
            forks.keep_to_ourselves(handle)
            old, self._held[place] = self._held.get(place), handle
            if old is not None:
                forks.close(old)
        self._shut()

    def _lock(self, handle: int, *, sure: bool) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateInUse(
                f"another spooler uses the state folder {self._folder}; "
                "give each daemon its own 'state'"
            ) from None
        except OSError as error:
            if sure:  # NFS has no such locks for a folder that is open to be read
                raise no_locks(self._folder, error) from error

    def _shut(self) -> None:
        """Close the folder to others where an earlier version, or systemd, has made it."""
        handle = self._held[self._folder]
        facts = os.fstat(handle)
        if facts.st_mode & 0o077 and facts.st_uid == os.geteuid():
            with suppress(OSError):  # a file system without permissions
                os.fchmod(handle, STATE_MODE)

    def restore(self) -> bool:
        """Make and lock anew what somebody has removed; whether there was anything to do.

        Raises OSError, and StateInUse when another daemon has begun in our place.
        """
        if all(map(self._holds, self._held)):
            return False
        self.take()
        return True

    def _holds(self, place: Path) -> bool:
        handle = self._held.get(place)
        try:
            return handle is not None and os.path.samestat(os.fstat(handle), place.lstat())
        except OSError:
            return False

    def close(self) -> None:
        """Let go; harmless to repeat."""
        while self._held:
            forks.close(self._held.popitem()[1])
