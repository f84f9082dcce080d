"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Callable


def spread(seconds: float, roll: Callable[[], float] = random.random) -> float:
    """`seconds` with jitter, 0.5 to 1.5 times: many daemons must not come back in step."""
    return seconds * (0.5 + roll())


class Backoff:
    """Waits that double from `first` to `last` seconds, with jitter, until `reset`."""

    def __init__(self, first: float = 0.1, last: float = 30.0) -> None:
        self._first, self._last = first, last
        self._next = first

    def wait(self) -> float:
        """Seconds to wait now."""
        now, self._next = self._next, min(self._next * 2, self._last)
        return spread(now)

    def reset(self) -> None:
        """Begin again with the shortest wait."""
        self._next = self._first
