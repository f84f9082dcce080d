"""The way to a fault server, and which points are tried."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.journeys import Journey
from tests.faults.points import BEFORE, Point

ROOT = Path(__file__).parents[2]
#: Changes of files that have no point, and why that is right: an empty file that is only
#: locked, the throw-away folder of runs, and the book that the test's own handler keeps.
KNOWN_OTHERS = re.compile(r"^open /host-1/state-[ab]/(records/.*/)?lock$|/scratch$|^open /book$")
#: What a daemon may leave behind when it dies: files that nobody reads and a restart replaces,
#: the note that says who it was, and what is kept on purpose.
STALE = re.compile(r"\.tmp$|/spooler/owners/|/audit/|/audit\.head$|/records/parked/")
#: Announcing, and saying who we are: the same in every journey, so tried in those that are fresh.
OPENING = re.compile(r"/backends/|/owners/|^announce$")
#: Every so manieth point is also tried with SIGKILL from outside.
FROM_OUTSIDE = 9


@dataclass
class Tried:
    """What came of the points of one journey."""

    points: int = 0
    others: set[str] = field(default_factory=set)
    unreached: list[Point] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    leftovers: set[str] = field(default_factory=set)


class Remote:
    """One fault server."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert "trouble" not in said, said["trouble"]
        return said

    def collect(self, journey: Journey) -> tuple[list[Point], set[str]]:
        """The points that two runs have in common, in order, and what has no point."""
        runs = [self.ask(do="collect", journey=asdict(journey)) for _ in range(2)]
        both = {tuple(point) for point in runs[1]["points"]}
        found = [Point(*point) for point in runs[0]["points"] if tuple(point) in both]
        return found, {other for run in runs for other in run["others"]}

    def kill(self, journey: Journey, point: Point, by: str) -> dict[str, Any]:
        """Try one point. Threads may take turns so that it is not reached: thrice then."""
        request = {"journey": asdict(journey), "by": by}
        request["point"] = [point.label, point.nth, point.when]
        for _ in range(3):
            said = self.ask(do="kill", **request)
            if said["reached"] or said["problems"]:
                break
        return said

    def go_through(self, journey: Journey, *, sample: int = 0) -> Tried:
        """Have the journey's daemon die at each of its points, or at so many of them.

        What is there before a step is what was there after the step before; so the points before a
        step are left out, but for the first one, and so is the opening where it is the usual one.
        A sample is the same in each run: spread over the kinds of steps, another part of them
        for each journey.
        """
        points, others = self.collect(journey)
        chosen = [each for each in points if each.when != BEFORE] + points[:1]
        if not journey.fresh:
            chosen = [each for each in chosen if not OPENING.search(each.label)]
        tried = Tried(len(chosen), others)
        if sample:
            chosen = spread(sorted(chosen), sample, len(journey.name))
        for number, point in enumerate(chosen):
            ways = ["exit", "kill"] if not sample and number % FROM_OUTSIDE == 0 else ["exit"]
            for by in ways:
                said = self.kill(journey, point, by)
                if not said["reached"]:
                    tried.unreached.append(point)
                tried.problems += [f"{by} {point}: {each}" for each in said["problems"]]
                tried.leftovers |= set(said["leftovers"])
        return tried


def spread(points: list[Point], count: int, offset: int) -> list[Point]:
    """So many of the points, evenly spread, from a beginning that `offset` chooses."""
    if count >= len(points):
        return points
    stride = len(points) / count
    first = offset % max(1, int(stride))
    return [points[first + int(number * stride)] for number in range(count)]


@contextmanager
def remote(uri: str = "") -> Iterator[Remote]:
    """A fault server for as long as it is needed; `uri` is of its MongoDB server."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SPOOLER")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.server", *([uri] if uri else [])],
        cwd=ROOT,
        env=environ | {"OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield Remote(process)
        assert process.stdin is not None
        process.stdin.close()
