"""Drain on a MongoDB server: jobs per second, and commands per job, at several round-trip times.

Each peer is a process of its own on emptied databases of one server, and reaches it over a wire
that is longer by the added time. Time runs from the command that brings the first result to the
one that brings the last, as they pass the wire; so do the commands that are counted.

SecantusDB is measured twice. On disk, where it syncs each single write: it can do without (and
be told by clients when to sync), but then it never syncs a bulkWrite. And in memory, where
nobody waits for a disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.mongo_peers import ALL, MongoPeer
from benchmarks.mongo_place import MongoPlace, Server, opened_server, own_server
from benchmarks.place import MEMORY
from benchmarks.running import run_to_end
from benchmarks.sizes import Sizes
from benchmarks.wire import Run, run_of

Rounds = list[dict[str, Run]]
Tell = Callable[[str], None]


@dataclass(slots=True)
class Drains:
    """Rounds by added round-trip time (seconds); what a ping takes, also without a wire."""

    server: str
    rounds: dict[float, Rounds] = field(default_factory=dict)
    pings: dict[float | None, float] = field(default_factory=dict)


def measure(sizes: Sizes, work: Path, tell: Tell, peers: Sequence[MongoPeer] = ALL) -> list[Drains]:
    """Each peer once in each round at each round-trip time; by where the server has its data."""
    found = []
    for folder in (MEMORY, work) if own_server() and MEMORY.is_dir() else (work,):
        with opened_server(folder) as server:
            tell(server.name)
            found.append(_measure(sizes, work, tell, peers, server))
    return found


def _measure(
    sizes: Sizes, work: Path, tell: Tell, peers: Sequence[MongoPeer], server: Server
) -> Drains:
    found = Drains(server.name)
    for added in (None, *sizes.round_trips):
        found.pings[added] = server.round_trip(None if added is None else added / 2)
    for number in range(sizes.mongo_rounds):
        first = number % len(peers)
        for added in sizes.round_trips:
            this_round = {}
            for peer in (*peers[first:], *peers[:first]):
                tell(f"round {number + 1}, {1000 * added:g} ms added: {peer.label}")
                this_round[peer.name] = drain(peer, sizes.mongo_jobs, server, added, work)
            found.rounds.setdefault(added, []).append(this_round)
    return found


def drain(peer: MongoPeer, jobs: int, server: Server, added: float, work: Path) -> Run:
    """Fill a queue, have it worked through, and look at what came out."""
    with server.wire(added / 2) as wire:
        place = MongoPlace(work, server, server.over(wire))
        place.submit(jobs)
        run_to_end(peer.drain(place, jobs), place)
        place.demand_done(jobs, moved=peer.moves)
        return run_of(wire, jobs)
