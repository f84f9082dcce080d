"""Drain: how fast a queue that is already there is worked through.

All peers do the same jobs on identical folders, each in a process of its own, one after the
other; their order turns from round to round. Start-up does not count: time runs from the first
result document to the last (their modification times, the same moment within a job for all
peers), over one interval less than there are jobs. CPU is that of the whole process and its
children, less that of the same command on an empty queue.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import (
    ALL,
    PLAIN_DURABLE,
    SQLITE,
    SQLITE_DURABLE,
    SQOOLER,
    THREAD_DURABLE,
    Peer,
)
from benchmarks.place import fresh
from benchmarks.running import run_to_end
from benchmarks.sizes import Sizes

#: Not in the long drain: with fsync it takes minutes a round, and the other rows tell enough.
SHORT_ONLY = (THREAD_DURABLE, PLAIN_DURABLE, SQLITE, SQLITE_DURABLE)


@dataclass(frozen=True, slots=True)
class Case:
    """A peer before a queue: of `queued` jobs it does `done`."""

    name: str
    label: str
    peer: Peer
    queued: int
    done: int


@dataclass(frozen=True, slots=True)
class Run:
    """Jobs per second, and CPU seconds per job."""

    rate: float
    cpu: float


Rounds = list[dict[str, Run]]


def short_cases(sizes: Sizes, peers: Sequence[Peer] = ALL) -> list[Case]:
    """Every peer works through all of a short queue."""
    return [Case(peer.name, peer.label, peer, sizes.jobs, sizes.jobs) for peer in peers]


def long_cases(sizes: Sizes, peers: Sequence[Peer] = ALL) -> list[Case]:
    """Every peer works through all of a long queue, only sqooler takes samples.

    Its cost per job grows with the queue: what it does at half the length is its mean.
    """
    cases = []
    for peer in peers:
        if peer in SHORT_ONLY:
            continue
        if peer.program != "sqooler":
            cases.append(Case(peer.name, peer.label, peer, sizes.long_queue, sizes.long_queue))
            continue
        for name, queued in ((SQOOLER.name, sizes.long_queue), ("half", sizes.long_queue // 2)):
            label = f"{peer.label}, first {sizes.long_first} of {queued:,}"
            cases.append(Case(name, label, peer, queued, sizes.long_first))
    return cases


def measure(cases: Sequence[Case], rounds: int, work: Path, tell: Callable[[str], None]) -> Rounds:
    """Run each case once in each round."""
    found: Rounds = []
    for number in range(rounds):
        first = number % len(cases)
        folder = Path(tempfile.mkdtemp(prefix="round-", dir=work))
        this_round = {}
        for case in (*cases[first:], *cases[:first]):
            tell(f"round {number + 1} of {rounds}: {case.label}")
            this_round[case.name] = _run(case, folder)
        found.append(this_round)
        shutil.rmtree(folder)
    return found


def _run(case: Case, work: Path) -> Run:
    with fresh(case.peer.place, work) as empty:
        idle = run_to_end(case.peer.drain(empty, 1), empty)
    with fresh(case.peer.place, work) as place:
        place.fill(case.queued)
        cpu = run_to_end(case.peer.drain(place, case.done), place)
        place.demand_done(case.done, signed=case.peer.signed)
        rate = (case.done - 1) / place.seconds_between_results()
    return Run(rate, max(0.0, cpu - idle) / case.done)
