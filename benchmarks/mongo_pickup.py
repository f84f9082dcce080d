"""Pickup on a MongoDB server: from sending a job until it is claimed, and until it is done.

By change stream, which is how spooler does it where the server has them; and by its poll alone:
then the server is made to look like one that is no replica set, which has no change streams.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bson.objectid import ObjectId

from benchmarks.mongo_peers import SPOOLER, SQOOLER, MongoPeer
from benchmarks.mongo_place import MongoPlace, Server, opened_server
from benchmarks.place import BenchmarkError
from benchmarks.running import serving
from benchmarks.sizes import Sizes
from benchmarks.wire import Exchange, Wire

_PATIENCE = 30.0
_SHORTEST = 0.05
_CHANGES = b"$changeStream\0"


@dataclass(frozen=True, slots=True)
class Way:
    """A peer, how it learns of a job, and how much the gaps between two samples differ (seconds).

    That spans a whole pause between two looks: what comes right after a job was done would
    always find the pause at its begin.
    """

    name: str
    peer: MongoPeer
    gap: float
    standalone: bool = False


WAYS = (
    Way("spooler, change stream", SPOOLER, 0.2),
    Way("spooler, poll every 1 s", SPOOLER, 1.0, standalone=True),
    Way("sqooler, T_WAIT_MAIN=0.2", SQOOLER, 0.4),
)


@dataclass(slots=True)
class Latencies:
    """Seconds from the sending of a job until it lies in the queue, is claimed, is done."""

    submitted: list[float] = field(default_factory=list)
    claimed: list[float] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)


def measure(sizes: Sizes, work: Path, tell: Callable[[str], None]) -> dict[str, Latencies]:
    """One job at a time after random gaps, on an idle daemon with its default settings."""
    found = {}
    with opened_server(work) as server:
        for way in WAYS:
            tell(f"{sizes.mongo_samples} jobs, one at a time: {way.name}")
            with server.wire(0.0, standalone=way.standalone) as wire:
                found[way.name] = _sample(way, server, wire, sizes, work)
    return found


def _sample(way: Way, server: Server, wire: Wire, sizes: Sizes, work: Path) -> Latencies:
    gaps = random.Random(1)
    found = Latencies()
    place = MongoPlace(work, server, server.over(wire))
    with serving(way.peer, place):
        for _ in range(sizes.mongo_samples):
            time.sleep(sizes.mongo_gaps * gaps.uniform(_SHORTEST, _SHORTEST + way.gap))
            _one(place, wire, way, found)
    place.demand_done(sizes.mongo_samples + 1)
    pushed = any(_CHANGES in each.request for each in wire.exchanges)
    if pushed is not (way.peer is SPOOLER and not way.standalone):
        raise BenchmarkError(f"{way.name}: it was the other way round; see {place.log}")
    return found


def _one(place: MongoPlace, wire: Wire, way: Way, found: Latencies) -> None:
    before = len(wire.exchanges)
    (job_id,) = place.prepare()
    began = time.perf_counter()
    place.queue([job_id])
    number = ObjectId(job_id).binary
    found.submitted.append(time.perf_counter() - began)

    def told(exchange: Exchange) -> bool:
        return exchange.names(number) and exchange.tells_the_end

    finished = wire.wait_for(told, before, _PATIENCE)
    claimed = wire.wait_for(lambda exchange: exchange.names(number), before, 0.0)
    if finished is None or claimed is None:
        raise BenchmarkError(f"{way.name}: waited {_PATIENCE:g} s for job {job_id}")
    found.claimed.append(claimed.answered - began)
    found.finished.append(finished.answered - began)
