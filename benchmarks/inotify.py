"""Just enough of Linux's inotify to see a file go at the moment it goes.

By ctypes, without a library's threads and buffers between the event and the clock.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

WRITTEN = 0x00000008
LEFT = 0x00000040
ARRIVED = 0x00000080
CREATED = 0x00000100
DELETED = 0x00000200

_OVERFLOW = 0x00004000
_HEAD = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to which file, and when we knew of it (time.perf_counter)."""

    at: float
    mask: int
    folder: str
    name: str


class Watch:
    """Watches folders, not what is below them, until it is closed."""

    def __init__(self, folders: Iterable[Path], mask: int) -> None:
        self._handle = self._checked(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        self._folders = {}
        self._poll = select.poll()
        self._poll.register(self._handle, select.POLLIN)
        for folder in folders:
            number = _libc.inotify_add_watch(self._handle, os.fsencode(folder), mask)
            self._folders[self._checked(number)] = str(folder)

    @staticmethod
    def _checked(result: int) -> int:
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result

    def read(self, seconds: float) -> list[Event]:
        """What has happened, at the latest after `seconds`; empty when nothing has."""
        if not self._poll.poll(seconds * 1000):
            return []
        at = time.perf_counter()
        data = os.read(self._handle, 1 << 16)
        events, offset = [], 0
        while offset < len(data):
            number, mask, _, length = _HEAD.unpack_from(data, offset)
            offset += _HEAD.size
            name = data[offset : offset + length].rstrip(b"\0").decode()
            offset += length
            if mask & _OVERFLOW:
                raise OSError("inotify has lost events")
            events.append(Event(at, mask, self._folders.get(number, ""), name))
        return events

    def wait_for(self, name: str, mask: int, patience: float) -> float:
        """When `mask` happened to the file `name`; TimeoutError after `patience` seconds."""
        deadline = time.perf_counter() + patience
        while (left := deadline - time.perf_counter()) > 0:
            for event in self.read(left):
                if event.mask & mask and event.name == name:
                    return event.at
        raise TimeoutError(f"nothing happened to {name} for {patience:g} s")

    def close(self) -> None:
        """Watch no more."""
        os.close(self._handle)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
