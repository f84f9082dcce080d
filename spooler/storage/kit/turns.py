"""One thread at a time for each of many things."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Gives each name to one thread at a time, and remembers only the names in use."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken: set[str] = set()

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Wait until nobody else has `name`, and have it meanwhile."""
        with self._changed:
            while name in self._taken:
                self._changed.wait()
            self._taken.add(name)
        try:
            yield
        finally:
            with self._changed:
                self._taken.discard(name)
                self._changed.notify_all()
