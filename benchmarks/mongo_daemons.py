"""Several daemons on one queue of a MongoDB server: jobs per second, and that each ran once."""

from __future__ import annotations

import socket
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.mongo_drain import Rounds
from benchmarks.mongo_peers import daemon
from benchmarks.mongo_place import MongoPlace, Server, opened_server
from benchmarks.place import BenchmarkError
from benchmarks.running import READY_WITHIN, alive, started, until
from benchmarks.sizes import Sizes
from benchmarks.wire import Run, Wire, run_of

_PATIENCE = 300.0


def measure(sizes: Sizes, work: Path, tell: Callable[[str], None]) -> dict[float, Rounds]:
    """By added round-trip time: rounds of runs by the number of daemons."""
    found: dict[float, Rounds] = {}
    with opened_server(work) as server:
        for number in range(sizes.daemon_rounds):
            first = number % len(sizes.daemons)
            for added in sizes.daemon_round_trips:
                this_round = {}
                for count in (*sizes.daemons[first:], *sizes.daemons[:first]):
                    tell(f"round {number + 1}, {1000 * added:g} ms added: {count} daemons")
                    with server.wire(added / 2) as wire:
                        run = work_together(count, sizes.mongo_jobs, server, wire, work)
                    this_round[str(count)] = run
                found.setdefault(added, []).append(this_round)
    return found


def work_together(count: int, jobs: int, server: Server, wire: Wire, work: Path) -> Run:
    """Daemons that wait get all jobs at once."""
    place = MongoPlace(work, server, server.over(wire))
    book = place.folder / "book"
    with ExitStack() as stack:
        ready = stack.enter_context(_service_manager())
        processes = []
        for number in range(count):
            command = daemon(place, f"daemon{number}", book)
            heard = replace(command, environ={**command.environ, "NOTIFY_SOCKET": ready.address})
            processes.append(stack.enter_context(started(heard, place)))
        ready.wait_for(count)
        ids = place.submit(jobs)
        until(
            lambda: all([alive(each, place) for each in processes]) and len(wire.results) >= jobs,
            f"{jobs} results",
            _PATIENCE,
        )
        for each in processes:
            each.terminate()  # all at once; the end of the block waits for them
    place.demand_done(jobs)
    demand_once(book, ids)
    return run_of(wire, jobs)


def demand_once(book: Path, ids: list[str]) -> None:
    """Raise BenchmarkError unless the book names each job once."""
    ran = Counter(book.read_text(encoding="utf-8").split())
    wrong = {each: ran[each] for each in {*ran, *ids} if (each in ids, ran[each]) != (True, 1)}
    if wrong:
        raise BenchmarkError(f"jobs were run, by their numbers of runs: {wrong}; see {book}")


class _ServiceManager:
    """The end of a socket at which daemons say that they are ready, as systemd has it."""

    def __init__(self, way: socket.socket, name: str) -> None:
        self._way = way
        self.address = f"@{name}"

    def wait_for(self, count: int) -> None:
        """Return when so many daemons are ready."""
        while count:
            try:
                count -= b"READY=1" in self._way.recv(4096)
            except TimeoutError:
                raise BenchmarkError(f"waited {READY_WITHIN:g} s for {count} daemons") from None


@contextmanager
def _service_manager() -> Iterator[_ServiceManager]:
    name = f"spooler-bench-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
        way.settimeout(READY_WITHIN)
        way.bind(f"\0{name}")
        yield _ServiceManager(way, name)
