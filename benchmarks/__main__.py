"""`python -m benchmarks [--quick] [--only NAME]... [--write FILE] [--folder FOLDER]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import (
    counts,
    drain,
    idle,
    memory,
    mongo_daemons,
    mongo_drain,
    mongo_pickup,
    pickup,
    way,
)
from benchmarks.conditions import machine, watched
from benchmarks.found import Found
from benchmarks.peers import ALL, Peer
from benchmarks.place import BenchmarkError, work_folder
from benchmarks.report import report
from benchmarks.sizes import FULL, QUICK, Sizes

INTERRUPTED = 130


def main(
    arguments: Sequence[str] | None = None,
    *,
    sizes: Sizes | None = None,
    peers: Sequence[Peer] = ALL,
) -> int:
    """Measure, print the report, write it where that was asked for.

    1 when something could not be measured, 130 when interrupted; never for a missed aim.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    chosen = _parse(words)
    sizes = sizes or (QUICK if chosen.quick else FULL)
    found = Found()
    interrupted = False
    try:
        for name in _wanted(chosen.only):
            _measure(name, found, sizes, chosen.folder, peers)
    except KeyboardInterrupt:
        interrupted = True
        found.failed["the rest"] = "interrupted"
    text = report(found, sizes, machine(chosen.folder), words)
    print(text)
    if chosen.write is not None and not interrupted:
        chosen.write.write_text(text, encoding="utf-8")
    return INTERRUPTED if interrupted else 1 if found.failed else 0


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer jobs and rounds: a look only")
    parser.add_argument(
        "--only",
        action="append",
        choices=(*MEASURES, MONGODB),
        help=f"measure this; may be repeated; {MONGODB} is all that begin with it",
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the report there, too")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="where to work: a folder on the disk that is to be measured (default: %(default)s)",
    )
    return parser.parse_args(words)


def _wanted(only: Sequence[str] | None) -> list[str]:
    """The measures in their order."""
    wanted = set(only or MEASURES)
    if MONGODB in wanted:
        wanted |= {name for name in MEASURES if name.startswith(f"{MONGODB}-")}
    return [name for name in MEASURES if name in wanted]


def _measure(name: str, found: Found, sizes: Sizes, work: Path, peers: Sequence[Peer]) -> None:
    def tell(text: str) -> None:
        print(f"{name}: {text}", file=sys.stderr, flush=True)

    try:
        with work_folder(work) as folder:
            measure = partial(MEASURES[name], found, sizes, folder, peers, tell)
            found.phases[name] = watched(work, measure)
    except BenchmarkError as error:
        found.failed[name] = str(error)
        tell(f"not measured: {error}")


Tell = Callable[[str], None]
Measure = Callable[[Found, Sizes, Path, Sequence[Peer], Tell], None]


def _short(found: Found, sizes: Sizes, work: Path, peers: Sequence[Peer], tell: Tell) -> None:
    found.short = drain.measure(drain.short_cases(sizes, peers), sizes.rounds, work, tell)


def _long(found: Found, sizes: Sizes, work: Path, peers: Sequence[Peer], tell: Tell) -> None:
    found.long = drain.measure(drain.long_cases(sizes, peers), sizes.long_rounds, work, tell)


def _pickup(found: Found, sizes: Sizes, work: Path, _: Sequence[Peer], tell: Tell) -> None:
    found.pickup = pickup.measure(sizes, work, tell)


def _idle(found: Found, sizes: Sizes, work: Path, _: Sequence[Peer], tell: Tell) -> None:
    found.idle = idle.measure(sizes, work, tell)


def _memory(found: Found, sizes: Sizes, work: Path, _: Sequence[Peer], tell: Tell) -> None:
    found.memory = memory.measure(sizes, work, tell)


def _counts(found: Found, sizes: Sizes, work: Path, peers: Sequence[Peer], tell: Tell) -> None:
    if not counts.available():
        raise BenchmarkError("strace is not installed")
    chosen = [peer for peer in counts.PEERS if peer in peers]
    found.counts = counts.measure(sizes, work, tell, chosen)


def _way(found: Found, sizes: Sizes, work: Path, _: Sequence[Peer], tell: Tell) -> None:
    found.way = {}
    way.measure(sizes, work, tell, found.way)


def _mongo_drain(found: Found, sizes: Sizes, work: Path, _: Sequence[Peer], tell: Tell) -> None:
    found.mongo = mongo_drain.measure(sizes, work, tell)


def _mongo_daemons(found: Found, sizes: Sizes, work: Path, _: Sequence[Peer], tell: Tell) -> None:
    found.mongo_daemons = mongo_daemons.measure(sizes, work, tell)


def _mongo_pickup(found: Found, sizes: Sizes, work: Path, _: Sequence[Peer], tell: Tell) -> None:
    found.mongo_pickup = mongo_pickup.measure(sizes, work, tell)


MONGODB = "mongodb"
#: In the order in which they are measured.
MEASURES: dict[str, Measure] = {
    "short": _short,
    "long": _long,
    "pickup": _pickup,
    "idle": _idle,
    "memory": _memory,
    "counts": _counts,
    "way": _way,
    "mongodb-drain": _mongo_drain,
    "mongodb-daemons": _mongo_daemons,
    "mongodb-pickup": _mongo_pickup,
}

if __name__ == "__main__":
    sys.exit(main())
