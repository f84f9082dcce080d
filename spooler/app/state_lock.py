"""The state folder is one daemon's, for as long as it runs, whatever somebody takes away of it.

Two locks say so: one of the folder itself, which outlives the removal of everything in it, and one
of the file `lock`, which also works where a folder cannot be locked.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from spooler.daemon.room import STATE_MODE
from spooler.durable import Disk, unavailable
from spooler.errors import ConfigError, StateInUse


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
        except StateInUse:
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
            except StateInUse:
                os.close(handle)
                raise
            old, self._held[place] = self._held.get(place), handle
            if old is not None:
                os.close(old)

    def _lock(self, handle: int, *, sure: bool) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        except OSError:  # no such locks here; NFS has none for a folder that is open to be read
            if not sure:
                return
        else:
            return
        raise StateInUse(
            f"another spooler uses the state folder {self._folder}; "
            "give each daemon its own 'state'"
        )

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
            os.close(self._held.popitem()[1])
