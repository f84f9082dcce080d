"""Way: through how many files and functions of the package one job leads, on the worker's thread.

Exact, whatever else the machine does: a signed no-op job, the handler in a process as is the
default, in the middle of a queue, so that what is done once or now and then is behind it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.mongo_place import MongoPlace, opened_server
from benchmarks.peers import command
from benchmarks.place import BenchmarkError, Place, Workplace, fresh
from benchmarks.running import run_to_end
from benchmarks.sizes import Sizes
from benchmarks.sqlite_place import SqlitePlace

FOLDER, MONGODB, SQLITE, MEMORY = "folder", "MongoDB", "SQLite", "memory"
#: Files, calls and moves on c8f6742, before the daemon and the seam were written anew.
OLD = {FOLDER: (40, 295, 376), MONGODB: (43, 455, 314)}
MOST_FILES, MOST_MOVES = 25, 150
#: Turns that do what is done once: they are left out.
_WARM = 2


@dataclass(frozen=True, slots=True)
class Way:
    """Calls of functions of the package, and moves between its files; "file:function" each."""

    calls: Counter[str]
    moves: Counter[str]

    @property
    def files(self) -> Counter[str]:
        """Calls by file."""
        return _by_file(self.calls)

    @property
    def moves_by_file(self) -> Counter[str]:
        """Moves by the file of the function that was called or left."""
        return _by_file(self.moves)

    @property
    def figures(self) -> tuple[int, int, int]:
        """Files entered, calls, moves."""
        return len(self.files), self.calls.total(), self.moves.total()


def _by_file(functions: Counter[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for function, times in functions.items():
        found[function.partition(":")[0]] += times
    return found


def measure(sizes: Sizes, work: Path, tell: Callable[[str], None], found: dict[str, Way]) -> None:
    """Put what was found to `found`, storage by storage: what fails leaves the others there."""
    for storage, queue in _QUEUES.items():
        tell(f"{sizes.way_jobs} jobs: {storage}")
        with queue(work, sizes.way_jobs) as (place, file):
            out = place.folder / "way.json"
            inside = [str(sizes.way_jobs)] if storage == MEMORY else []
            words = ("-m", "benchmarks.run_way", str(file), str(out), *inside)
            run_to_end(command(place, *words, key=False), place)
            found[storage] = median(json.loads(out.read_text(encoding="utf-8")), place)


def median(turns: list[dict[str, dict[str, int]]], place: Workplace) -> Way:
    """The turn in the middle, by its moves."""
    ways = [Way(Counter(each["calls"]), Counter(each["moves"])) for each in turns[_WARM:]]
    if not ways:
        raise BenchmarkError(f"too few jobs were delivered by the worker's own thread; {place.log}")
    ways.sort(key=lambda way: (way.moves.total(), way.calls.total()))
    return ways[len(ways) // 2]


# --- a queue in each storage --------------------------------------------------------------------


@contextmanager
def _in_folder(work: Path, jobs: int) -> Iterator[tuple[Workplace, Path]]:
    with fresh(Place, work) as place:
        place.fill(jobs)
        yield place, place.settings(isolation="process", fsync=True, announce_interval=60.0)
        place.demand_done(jobs, signed=True)


@contextmanager
def _on_mongodb(work: Path, jobs: int) -> Iterator[tuple[Workplace, Path]]:
    with opened_server(work) as server:
        place = MongoPlace(work, server, server.uri)
        place.submit(jobs)
        yield place, place.settings()
        place.demand_done(jobs)


@contextmanager
def _on_sqlite(work: Path, jobs: int) -> Iterator[tuple[Workplace, Path]]:
    with fresh(SqlitePlace, work) as place:
        place.fill(jobs)
        yield place, place.settings(isolation="process", fsync=True, announce_interval=60.0)
        place.demand_done(jobs, signed=True)


@contextmanager
def _in_memory(work: Path, _: int) -> Iterator[tuple[Workplace, Path]]:
    """It lives in the daemon's process, which queues the jobs itself."""
    with fresh(Workplace, work) as place:
        yield place, place.write_settings('type = "memory"')


_QUEUES = {FOLDER: _in_folder, SQLITE: _on_sqlite, MEMORY: _in_memory, MONGODB: _on_mongodb}
