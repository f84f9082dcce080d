"""How many more jobs may be claimed, by all devices together."""

from __future__ import annotations

import threading


class Tickets:
    """A bounded number of claims, or as many as there are jobs."""

    def __init__(self, count: int | None = None) -> None:
        self._left = count
        self._out = 0
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether one more job may be claimed."""
        with self._lock:
            if self._left is None:
                return True
            if self._left == 0:
                return False
            self._left -= 1
            self._out += 1
            return True

    def give_back(self) -> None:
        """The claim that a ticket was taken for has found no job."""
        with self._lock:
            if self._left is not None:
                self._left += 1
                self._out -= 1

    def use(self) -> None:
        """The claim that a ticket was taken for has found a job."""
        with self._lock:
            if self._left is not None:
                self._out -= 1

    @property
    def used_up(self) -> bool:
        """Whether no job may be claimed any more, whatever becomes of the tickets that are out."""
        with self._lock:
            return self._left == 0 and self._out == 0
