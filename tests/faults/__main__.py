"""`python -m tests.faults`: every kill point of every journey, in both ways (make killpoints)."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from dataclasses import replace

from tests.faults.journeys import JOURNEYS, Journey
from tests.faults.remote import KNOWN_OTHERS, Tried, remote
from tests.servers.mongodb import MongoServer


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Go through all journeys with one server per processor; the number of broken promises."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    todo = deque(replace(each, looks=True) for each in JOURNEYS if wanted in each.name)
    results: list[tuple[Journey, Tried, float]] = []

    def work() -> None:
        database = MongoServer()
        with contextlib.closing(database), remote(_started(database)) as server:
            while todo:
                journey, began = todo.popleft(), time.monotonic()
                tried = server.go_through(journey, everything=True)
                results.append((journey, tried, time.monotonic() - began))
                show(*results[-1])

    threads = [threading.Thread(target=work) for _ in range(os.cpu_count() or 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    broken = sum(len(tried.problems) for _, tried, _ in results)
    say(f"{sum(tried.points for _, tried, _ in results)} points, {broken} broken promises")
    return 1 if broken or any(tried.others - KNOWN_OTHERS for _, tried, _ in results) else 0


def _started(database: MongoServer) -> str:
    database.start()
    return database.uri


def show(journey: Journey, tried: Tried, seconds: float) -> None:
    say(
        f"{journey.name:<36} {tried.points:>4} points {len(tried.unreached):>3} not reached "
        f"{len(tried.problems):>3} problems {seconds:>6.0f} s"
    )
    for problem in tried.problems:
        say(f"    {problem}")


if __name__ == "__main__":
    sys.exit(main())
