"""Pickup: from the rename that submits a job until it has left the queue, on an idle daemon."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.inotify import ARRIVED, LEFT, Watch
from benchmarks.peers import SPOOLER_DURABLE, SQOOLER, Peer
from benchmarks.place import BenchmarkError, Place, fresh
from benchmarks.running import serving
from benchmarks.sizes import Sizes

_PATIENCE = 30.0


@dataclass(slots=True)
class Latencies:
    """Seconds from submission until the job was claimed, and until it was finished."""

    claimed: list[float] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)


def measure(sizes: Sizes, work: Path, tell: Callable[[str], None]) -> dict[str, Latencies]:
    """spooler as it comes out of the box (fsync on), and sqooler with its default pause."""
    found: dict[str, Latencies] = {}
    for peer in (SPOOLER_DURABLE, SQOOLER):
        tell(f"{sizes.samples} jobs, one at a time: {peer.program}")
        with fresh(Place, work) as place:
            found[peer.program] = _sample(peer, place, sizes)
            place.demand_done(sizes.samples + 1, signed=True)
    return found


def _sample(peer: Peer, place: Place, sizes: Sizes) -> Latencies:
    gaps = random.Random(1)
    found = Latencies()
    with ExitStack() as stack:
        stack.enter_context(serving(peer, place))
        queue = stack.enter_context(Watch([place.inside("queue")], LEFT))
        finished = stack.enter_context(Watch([place.inside("finished")], ARRIVED))
        for _ in range(sizes.samples):
            time.sleep(gaps.uniform(*sizes.gap))
            job_id, beside, target = place.prepare()
            submitted = time.perf_counter()
            os.rename(beside, target)
            try:
                claimed = queue.wait_for(f"{job_id}.json", LEFT, _PATIENCE)
                ended = finished.wait_for(f"{job_id}.json", ARRIVED, _PATIENCE)
            except TimeoutError as error:
                raise BenchmarkError(f"{peer.label}: {error}") from error
            found.claimed.append(claimed - submitted)
            found.finished.append(ended - submitted)
    return found
