"""One thing of a kind for each queue, made when it is first asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class PerQueue(Generic[Thing]):
    """What a backend keeps about each queue. Safe in any thread; the things see to themselves."""

    def __init__(self, make: Callable[[str], Thing]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._things: dict[str, Thing] = {}

    def __getitem__(self, queue: str) -> Thing:
        with self._lock:
            thing = self._things.get(queue)
            if thing is None:
                thing = self._things[queue] = self._make(queue)
            return thing

    def __iter__(self) -> Iterator[str]:
        """Give the queues that have been asked about."""
        with self._lock:
            known = list(self._things)
        return iter(known)
