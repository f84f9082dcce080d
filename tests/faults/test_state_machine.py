"""Submitters, daemons, crashes, expiries, cancels, clock jumps and outages in random order."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults.everything import STORAGES
from tests.faults.machine import machine_on
from tests.faults.on_mongodb import MONGODB
from tests.faults.storages import Storage

#: `make fuzz` looks so many times as far, and elsewhere each time; else always the same is tried.
FUZZ = int(os.environ.get("SPOOLER_TEST_FUZZ", "1"))
EXAMPLES, STEPS = 60, 30
#: On a server.
FEWER = 15


def explore(*storages: Storage) -> None:
    chosen = settings(
        max_examples=(FEWER if MONGODB in storages else EXAMPLES) * FUZZ,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=FUZZ == 1,
        database=None,
        # What comes out of real files is too slow for the shortest way to a failure.
        phases=(Phase.generate,) if FUZZ == 1 else (Phase.generate, Phase.shrink),
    )
    run_state_machine_as_test(machine_on(*storages), settings=chosen)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("storage", STORAGES, ids=lambda each: each.name, indirect=True)
def test_whatever_the_order(storage: Storage) -> None:
    explore(storage)


def test_whatever_the_order_on_two_storages() -> None:
    explore(*STORAGES[:2])
