"""Peers as processes: run to their end, or kept running; what they cost."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import psutil

from benchmarks.peers import ROOT, Command
from benchmarks.place import BenchmarkError, Workplace

#: Seconds after which a peer is given up; fsyncs of a busy disk are slow.
PATIENCE = 3600.0
READY_WITHIN = 60.0
_LOOK_EVERY = 0.01


class Serving(Protocol):
    """A peer that can be kept running."""

    @property
    def label(self) -> str:
        """For people."""

    def serve(self, place: Any, announce_interval: float) -> Command:
        """Work until stopped."""


def run_to_end(command: Command, place: Workplace, *, tracer: tuple[str, ...] = ()) -> float:
    """CPU seconds, user and system, of a peer and of all that it started and waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = _start(command, place, tracer)
    try:
        code = process.wait(PATIENCE)
    except BaseException:
        process.kill()
        process.wait()
        raise
    if code:
        raise BenchmarkError(f"{command.words[2]} ended with {code}: {_last_line(place)}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


@contextmanager
def serving(
    peer: Serving, place: Any, announce_interval: float = 60.0
) -> Iterator[subprocess.Popen[bytes]]:
    """A peer that works until the end of the block; it has done one job already."""
    with started(peer.serve(place, announce_interval), place) as process:
        (first,) = place.submit()
        until(lambda: alive(process, place) and place.is_finished(first), f"{peer.label} to start")
        yield process


@contextmanager
def started(command: Command, place: Workplace) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is asked to end at the end of the block."""
    process = _start(command, place)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(READY_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _start(
    command: Command, place: Workplace, tracer: tuple[str, ...] = ()
) -> subprocess.Popen[bytes]:
    with place.log.open("ab") as log:
        return subprocess.Popen(
            [*tracer, *command.words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env=command.environ,
        )


def alive(process: subprocess.Popen[bytes], place: Workplace) -> bool:
    """True; BenchmarkError when the process has ended."""
    if process.poll() is not None:
        raise BenchmarkError(f"the peer ended with {process.returncode}: {_last_line(place)}")
    return True


def _last_line(place: Workplace) -> str:
    lines = place.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def until(found: Callable[[], object], what: str, patience: float = READY_WITHIN) -> None:
    """Look again and again; BenchmarkError when `patience` seconds are over."""
    deadline = time.monotonic() + patience
    while not found():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"waited {patience:g} s for {what}")
        time.sleep(_LOOK_EVERY)


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in bytes: of the process, and of its children together."""

    own: int
    children: int


def memory_of(pid: int) -> Memory:
    """What a process and its children have resident now."""
    process = psutil.Process(pid)
    children = process.children(recursive=True)
    return Memory(process.memory_info().rss, sum(child.memory_info().rss for child in children))


def cpu_of(pid: int) -> float:
    """CPU seconds that a process and its living children have used, in steps of 10 ms."""
    process = psutil.Process(pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))
