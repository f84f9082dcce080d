"""Submitters, daemons, crashes, expiries, cancels, clock jumps and outages in random order."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults.machine import FolderMachine, Machine

BUDGET: dict[type[Machine], tuple[int, int]] = {Machine: (400, 40), FolderMachine: (200, 30)}


@pytest.mark.parametrize("machine", BUDGET, ids=lambda machine: machine.__name__)
def test_whatever_the_order(machine: type[Machine]) -> None:
    examples, steps = BUDGET[machine]
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)  # type: ignore[no-untyped-call]
