"""One thing of a kind for each queue, made when it is first asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

Thing = TypeVar("Thing")


class PerQueue(dict[str, Thing]):
    """What a backend keeps about each queue. Safe in any thread; the things see to themselves."""

    def __init__(self, make: Callable[[str], Thing]) -> None:
        super().__init__()
        self._make = make
        self._lock = threading.Lock()

    def __missing__(self, queue: str) -> Thing:
        with self._lock:
            if queue not in self:
                self[queue] = self._make(queue)
            return self[queue]

    def __iter__(self) -> Iterator[str]:
        """Give the queues that have been asked about."""
        with self._lock:
            known = list(self.keys())
        return iter(known)
