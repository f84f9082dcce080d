"""Submitters, daemons, crashes, expiries, cancels, clock jumps and outages in random order."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults.machine import FolderMachine, Machine
from tests.faults.mongo_machine import MongoMachine
from tests.servers.mongodb import MongoServer
from tests.storage.mongo_bench import SERVERS

#: `make fuzz` looks so many times as far, and elsewhere each time.
FUZZ = int(os.environ.get("SPOOLER_TEST_FUZZ", "1"))
BUDGET: dict[type[Machine], tuple[int, int]] = {Machine: (400, 40), FolderMachine: (200, 30)}


def explore(machine: type[Machine], examples: int, steps: int, **more: Any) -> None:
    if FUZZ > 1:
        more = {**more, "derandomize": False, "database": None}
    chosen = settings(
        max_examples=examples * FUZZ,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **more,
    )
    run_state_machine_as_test(machine, settings=chosen)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("machine", BUDGET, ids=lambda machine: machine.__name__)
def test_whatever_the_order(machine: type[Machine]) -> None:
    explore(machine, *BUDGET[machine])


@pytest.mark.parametrize("kind", SERVERS)
def test_whatever_the_order_on_mongodb(mongodb_server: MongoServer, kind: str) -> None:
    mongodb_server.revive()
    chosen = type("Chosen", (MongoMachine,), {"server": mongodb_server, "kind": kind})
    # A server is too slow for the shortest way to a failure to be looked for.
    explore(chosen, 40, 25, phases=(Phase.explicit, Phase.reuse, Phase.generate))
