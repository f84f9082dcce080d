"""How many more jobs may be claimed, by all devices together."""

from __future__ import annotations

import threading


class Tickets:
    """A bounded number of claims, or as many as there are jobs."""

    def __init__(self, count: int | None = None) -> None:
        self._left = count
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether one more job may be claimed."""
        with self._lock:
            if self._left is None:
                return True
            self._left -= 1
            return self._left >= 0

    def give_back(self) -> None:
        """The claim that a ticket was taken for has found no job."""
        with self._lock:
            if self._left is not None:
                self._left += 1
