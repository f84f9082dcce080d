"""`python -m tests.faults [PART OF A NAME]`: every kill point of each journey (make killpoints)."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque

from tests.faults.journeys import JOURNEYS, Journey
from tests.faults.remote import KNOWN_OTHERS, STALE, Tried, remote
from tests.servers.mongodb import MongoServer


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Go through all journeys, with a server for each processor; 1 when a promise is broken."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    todo = deque(each for each in JOURNEYS if wanted in f"{each.storage}, {each.name}")
    results: list[Tried] = []

    def work() -> None:
        database = MongoServer()
        with contextlib.closing(database), remote(_started(database)) as server:
            while todo:
                journey, began = todo.popleft(), time.monotonic()
                results.append(server.go_through(journey))
                show(journey, results[-1], time.monotonic() - began)

    threads = [threading.Thread(target=work) for _ in range(os.cpu_count() or 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    broken = sum(len(_wrong(tried)) for tried in results)
    say(f"{sum(tried.points for tried in results)} points, {broken} broken promises")
    return 1 if broken else 0


def _started(database: MongoServer) -> str:
    database.start()
    return database.uri


def _wrong(tried: Tried) -> list[str]:
    others = [each for each in tried.others if not KNOWN_OTHERS.search(each)]
    left = [each for each in tried.leftovers if not STALE.search(each)]
    return [
        *tried.problems,
        *(f"a file is changed past spooler.durable: {each}" for each in others),
        *(f"left behind: {each}" for each in left),
    ]


def show(journey: Journey, tried: Tried, seconds: float) -> None:
    wrong = _wrong(tried)
    say(
        f"{journey.storage + ', ' + journey.name:<44} {tried.points:>4} points "
        f"{len(tried.unreached):>3} not reached {len(wrong):>3} problems {seconds:>6.0f} s"
    )
    for problem in wrong:
        say(f"    {problem}")


if __name__ == "__main__":
    sys.exit(main())
