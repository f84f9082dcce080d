"""Memory: what a daemon has resident when idle, and after ever more jobs."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.peers import SPOOLER
from benchmarks.place import Place, fresh
from benchmarks.running import PATIENCE, Memory, memory_of, serving, until
from benchmarks.sizes import Sizes


def measure(sizes: Sizes, work: Path, tell: Callable[[str], None]) -> dict[int, Memory]:
    """Memory by the number of jobs done; after one job it is called idle.

    The batches are alike, so that a longer queue is not taken for growth. Without fsync: it
    changes nothing here but the time that this takes.
    """
    found: dict[int, Memory] = {}
    with fresh(Place, work) as place, serving(SPOOLER, place) as process:
        time.sleep(sizes.calm)
        found[1] = memory_of(process.pid)
        for number in range(1, sizes.batches + 1):
            done = number * sizes.batch
            tell(f"{done} of {sizes.batches * sizes.batch} jobs")
            # The first job has been done before the first batch.
            waiting = place.submit(sizes.batch - (number == 1))
            until(partial(_gone, place, waiting), f"{done} jobs to be done", PATIENCE)
            time.sleep(sizes.calm)
            found[done] = memory_of(process.pid)
        place.demand_done(sizes.batches * sizes.batch, signed=True)
    return found


def _gone(place: Place, waiting: list[str]) -> bool:
    """Whether all is finished; takes what is from the list."""
    while waiting and place.is_finished(waiting[-1]):
        waiting.pop()
    return not waiting
