"""Whether the threads that do the work get on; while they do, the service manager is told so.

Each of them says when it will be heard of again at the latest. One that is not is stuck: in a
system call on a file server that is gone, or in a fault of ours, and a restart may help. A run
may take as long as it takes: its handler is watched by its runner, and no run is cut for another
thread's sake.
"""

from __future__ import annotations

import math
import threading
from typing import NamedTuple

from spooler.protocols import Clock

#: Seconds that a look at a queue, or what a worker does between two of them, may take.
LOOK = 25.0
#: Seconds that bringing a report to its storage may take: it is safe on our own disk by then.
DELIVERY = 120.0


class _Word(NamedTuple):
    """What a thread has said: when it is due, and whether it sees a run through."""

    due: float
    running: bool


class Pulse:
    """The threads of one daemon. Safe in any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._words: dict[str, _Word] = {}

    def beat(self, seconds: float = LOOK) -> None:
        """Say for the calling thread that it is heard of again within `seconds`."""
        due = self._clock.monotonic() + seconds
        self._words[threading.current_thread().name] = _Word(due, running=False)

    def run(self) -> None:
        """The calling thread sees a run through, until its next `beat`."""
        self._words[threading.current_thread().name] = _Word(math.inf, running=True)

    def wait(self) -> None:
        """The calling thread waits for something that has a time limit of its own."""
        self.beat(math.inf)

    def end(self) -> None:
        """The calling thread has no more to do."""
        self._words.pop(threading.current_thread().name, None)

    def stuck(self) -> list[str]:
        """Return the names of the threads that are overdue."""
        now = self._clock.monotonic()
        return sorted(name for name, word in self._words.copy().items() if word.due < now)

    def asks_for_a_restart(self) -> bool:
        """Return whether a thread is stuck, and no run would be cut by a new start."""
        return bool(self.stuck()) and not any(word.running for word in self._words.copy().values())
