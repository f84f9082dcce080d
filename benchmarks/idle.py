"""Idle: what a daemon without work costs: CPU, memory, and files written."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.inotify import ARRIVED, CREATED, DELETED, LEFT, WRITTEN, Watch
from benchmarks.peers import SPOOLER_DURABLE, SQOOLER, Peer
from benchmarks.place import BenchmarkError, Place, fresh
from benchmarks.running import Memory, cpu_of, memory_of, serving
from benchmarks.sizes import Sizes

_EVENTS = WRITTEN | ARRIVED | LEFT | CREATED | DELETED


@dataclass(frozen=True, slots=True)
class Idle:
    """One daemon over `seconds`; `written` are the files whose content was written."""

    seconds: float
    cpu: float
    memory: Memory
    written: tuple[str, ...]
    announcements: int

    @property
    def percent(self) -> float:
        """CPU in per cent of one core."""
        return 100 * self.cpu / self.seconds


def measure(sizes: Sizes, work: Path, tell: Callable[[str], None]) -> dict[str, Idle]:
    """spooler and sqooler as they come out of the box."""
    found: dict[str, Idle] = {}
    for peer, seconds in ((SPOOLER_DURABLE, sizes.idle), (SQOOLER, sizes.idle_sqooler)):
        tell(f"watching {peer.program} do nothing for {seconds:g} s")
        with fresh(Place, work) as place:
            found[peer.program] = _watch(peer, place, seconds, sizes)
    return found


def _watch(peer: Peer, place: Place, seconds: float, sizes: Sizes) -> Idle:
    written: list[str] = []
    with serving(peer, place, sizes.announce_interval) as process:
        time.sleep(sizes.calm)
        roots = [each for each in (place.storage, place.state) if each.exists()]
        folders = [Path(folder) for root in roots for folder, _, _ in os.walk(root)]
        with Watch(folders, _EVENTS) as watch:
            cpu, since = cpu_of(process.pid), time.monotonic()
            while (left := since + seconds - time.monotonic()) > 0:
                events = watch.read(left)
                written += [event.name for event in events if event.mask & WRITTEN]
            took = time.monotonic() - since
            cpu, memory = cpu_of(process.pid) - cpu, memory_of(process.pid)
        if process.poll() is not None:
            raise BenchmarkError(f"{peer.label} ended while it was watched")
    return Idle(took, cpu, memory, tuple(written), math.ceil(took / sizes.announce_interval))
