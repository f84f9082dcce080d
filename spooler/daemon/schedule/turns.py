"""Queues of one device take turns: by priority, then the one served least recently."""

from __future__ import annotations

from collections.abc import Sequence

from spooler.daemon.feeds.feed import Feed
from spooler.daemon.schedule.wake import Ear
from spooler.model.job import Queue


class Source:
    """One queue of a device, and the feed it comes from. `priority`: larger goes first."""

    def __init__(self, feed: Feed, queue: Queue, ear: Ear, priority: int = 0) -> None:
        self.feed = feed
        self.queue = queue
        self.ear = ear
        self.priority = priority
        #: The token of a claim whose answer was lost: a repeat finds its own.
        self.token = ""
        #: Seconds on the monotonic clock before which it is not asked again: it had trouble.
        self.rests_until = float("-inf")


class Turns:
    """The order in which the queues of one device are asked. Used by one thread."""

    def __init__(self, sources: Sequence[Source]) -> None:
        # A stable sort keeps the order of the settings among equals.
        self._sources = sorted(sources, key=lambda each: -each.priority)

    def order(self) -> list[Source]:
        """Return all queues, the next one to be asked first."""
        return list(self._sources)

    def served(self, source: Source) -> None:
        """A job of this queue was taken: its equals go first the next time."""
        self._sources.remove(source)
        last = max(
            (at for at, each in enumerate(self._sources) if each.priority >= source.priority),
            default=-1,
        )
        self._sources.insert(last + 1, source)
