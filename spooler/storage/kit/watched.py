"""Leases that have not changed for their whole time, by our own monotonic clock.

What another clock says of a lease is wrong for as long as that clock was set back. This needs no
clock but the watcher's, and a watcher that has just come waits for one lease time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, NamedTuple, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Seen(NamedTuple, Generic[Key]):
    """One open lease: whose it is, a mark that each renewal changes, and its time in seconds."""

    key: Key
    mark: Hashable
    ttl: float


class Watched(Generic[Key]):
    """Remembers the open leases of each queue from one look to the next. Safe in any thread."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._since: dict[str, dict[tuple[Key, Hashable], float]] = {}

    def run_out(self, queue: str, open_leases: Iterable[Seen[Key]]) -> set[Key]:
        """Return which of all the open leases of a queue were the same for all of their time.

        Call it with every open lease each time: one that is left out is forgotten.
        """
        now = self._monotonic()
        with self._lock:
            before, since = self._since.get(queue, {}), {}
            over = set()
            for each in open_leases:
                first = before.get((each.key, each.mark), now)
                since[each.key, each.mark] = first
                if now - first >= each.ttl:
                    over.add(each.key)
            self._since[queue] = since
        return over
