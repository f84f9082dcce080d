"""Eight daemons share one queue out: few commands, each job once, roughly by age."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from spooler.storage.sqooler.mongodb.backend import MongoBackend
from spooler.testing.bench import QUEUE, at_once, new_lease, other_owner, signed_report
from spooler.testing.clock import ManualClock
from tests.servers.mongodb import MongoServer
from tests.storage.mongo_bench import Backends
from tests.storage.sqooler.mongo_commands import COMMANDS, names

JOBS = 200
MOST = 5.0


@pytest.fixture
def backends(mongodb_server: MongoServer, mongo_prefix: str) -> Iterator[Backends]:
    made = Backends(mongodb_server, mongo_prefix)
    yield made
    made.close()


def drained(backends: Backends, daemons: int) -> tuple[list[str], list[tuple[str, Any]], float]:
    """The jobs in the order in which they were claimed, the commands, and the seconds it took."""
    taken: list[str] = []
    lock = threading.Lock()
    opened = [backends() for _ in range(daemons)]
    for each in opened:
        assert each.claim(type(QUEUE)("another", "another"), new_lease()) is None  # connects

    def daemon(number: int) -> None:
        backend, owner = opened[number], other_owner()
        while (claim := backend.claim(QUEUE, new_lease(owner))) is not None:
            with lock:
                taken.append(claim.job.id)
            backend.ack(backend.start(claim, 60.0), signed_report(claim))

    with COMMANDS.counting() as found:
        began = time.monotonic()
        at_once(*[lambda number=number: daemon(number) for number in range(daemons)])  # type: ignore[misc]
        took = time.monotonic() - began
    return taken, found, took


@pytest.mark.timeout(300)
@pytest.mark.parametrize("daemons", [1, 4, 8])
def test_commands_per_job(backends: Backends, daemons: int) -> None:
    ids = backends.fill(JOBS)
    taken, found, took = drained(backends, daemons)
    per_job = len(found) / JOBS
    told = f"{daemons} daemons: {per_job:.2f} commands per job, {JOBS / took:.1f} jobs/s, "
    told += str(dict(Counter(names(found))))
    print(told)
    assert Counter(taken) == Counter(ids)
    assert per_job <= MOST, told
    if daemons == 1:
        assert taken == ids


def test_who_has_been_alone_for_a_while_goes_by_age_again(backends: Backends) -> None:
    ids, clock, owner = backends.fill(30), ManualClock(), other_owner()
    one, other = backends(clock=clock), backends(clock=clock)

    def claimed(backend: MongoBackend) -> str:
        claim = backend.claim(QUEUE, new_lease(owner if backend is one else None))
        assert claim is not None
        return claim.job.id

    taken = [claimed(one), claimed(other), claimed(one), claimed(other)]
    assert taken[:2] == ids[:2]
    clock.advance(11.0)
    left = [each for each in ids if each not in taken]
    assert [claimed(one) for _ in left] == left
