"""When a daemon's work is over: never, when the queues are empty, or after so many jobs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from spooler.protocols import Clock

#: Seconds to look on at jobs that wait and cannot be had, and between two looks: more than a
#: storage takes to see that a job file is broken. An upload that pauses for longer is left.
_PATIENCE, _LOOK = 3.0, 0.25
#: Seconds to wait for a storage, or a queue, that does not answer.
_OUTAGE = 30.0


class Policy(Protocol):
    """Says to a worker that found no job whether, and when, to look again."""

    @property
    def left(self) -> int:
        """Return how many jobs wait that could not be had when the work was over."""

    @property
    def unanswered(self) -> bool:
        """Return whether the work was over before it could be asked what waits."""

    def worked(self) -> None:
        """A job was had."""

    def look_again(self, depth: Callable[[], int | None]) -> float | None:
        """Seconds until the next look at most; None when the work is over.

        `depth` says how many jobs wait, or None where that cannot be asked now.
        """

    def cannot_work(self, depth: Callable[[], int | None]) -> bool:
        """The device cannot be opened now: whether to try again."""


class Serve:
    """Work until stopped, and look again `interval()` seconds later at the latest."""

    left, unanswered = 0, False

    def __init__(self, interval: Callable[[], float]) -> None:
        self._interval = interval

    def worked(self) -> None:
        return

    def look_again(self, depth: Callable[[], int | None]) -> float | None:
        del depth
        return self._interval()

    def cannot_work(self, depth: Callable[[], int | None]) -> bool:
        del depth
        return True


class Drain:
    """Work until nothing can be had.

    Jobs that wait in vain are looked on at for a moment, a storage that does not answer is waited
    for a little longer.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: Since when it is the same that keeps us: jobs in vain (True), or no answer (False).
        self._since: tuple[bool, float] | None = None
        self.left, self.unanswered = 0, False

    def worked(self) -> None:
        self._since = None

    def look_again(self, depth: Callable[[], int | None]) -> float | None:
        waiting = depth()
        if waiting == 0:
            return None
        answered, now = waiting is not None, self._clock.monotonic()
        if self._since is None or self._since[0] != answered:
            self._since = answered, now
        if now - self._since[1] < (_PATIENCE if answered else _OUTAGE):
            return _LOOK
        self._leave(waiting)
        return None

    def cannot_work(self, depth: Callable[[], int | None]) -> bool:
        self._leave(depth())
        return False

    def _leave(self, waiting: int | None) -> None:
        self.left, self.unanswered = waiting or 0, waiting is None


class Tickets:
    """How many more jobs may be claimed, by all devices together. Safe in any thread."""

    def __init__(self, count: int | None = None) -> None:
        self._left = count
        self._out = 0
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Return whether one more job may be claimed."""
        with self._lock:
            if self._left is None:
                return True
            if self._left == 0:
                return False
            self._left -= 1
            self._out += 1
            return True

    def settle(self, *, used: bool) -> None:
        """The claim that a ticket was taken for has found a job, or has not."""
        with self._lock:
            if self._left is not None:
                self._out -= 1
                self._left += not used

    @property
    def used_up(self) -> bool:
        """Whether no job may be claimed any more, whatever becomes of the tickets that are out."""
        with self._lock:
            return self._left == 0 and self._out == 0
