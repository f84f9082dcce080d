"""One fault at each step of a job's way, one after the other, with one daemon and with two.

The state machine finds what needs several things at once; this goes through every single one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from spooler.errors import BackendUnavailable
from spooler.model.device import Rerun
from spooler.model.state import State
from spooler.testing.bench import DEVICE, TTL
from tests.faults.machine import FolderMachine, Machine

KINDS = ("refuse", "lose", "kill")
#: More steps than any way here has.
MOST = 400


def meanwhile(what: str) -> Callable[[Machine], None]:
    """A run during which something happens."""

    def act(machine: Machine) -> None:
        node = machine.nodes[0]
        node.during = lambda: machine._meanwhile(node, 1, what)
        node.turn()

    return act


def plain(machine: Machine) -> None:
    machine.nodes[0].turn()


def drain(machine: Machine) -> None:
    """What the thread of a worker does, without its waits."""
    worker, going_on = machine.nodes[0].worker, True
    while going_on:
        with suppress(BackendUnavailable):
            going_on = worker._turn()


def recovering(*, started: bool) -> Callable[[Machine], None]:
    """Another daemon has died with the job; this one finds it, and runs it where it may."""

    def act(machine: Machine) -> None:
        node = machine.nodes[0]
        node.housekeep()
        machine.clock.advance(TTL + 1)
        node.housekeep()
        machine.clock.advance(TTL + 1)
        node.turn()

    def prepared(machine: Machine) -> None:
        dead = machine._node(machine.folder / "state-dead")
        claim = dead.worker._claim()
        assert claim is not None
        if started:
            machine._ran(claim.job.id, "unknown")
            dead.backend.renew(claim, TTL, started=True)

    act.prepared = prepared  # type: ignore[attr-defined]
    return act


WAYS: dict[str, Callable[[Machine], None]] = {
    "a run": plain,
    "expired": meanwhile("expire"),
    "cancelled": meanwhile("cancel"),
    "stolen": meanwhile("steal"),
    "taken over": meanwhile("stall"),
    "outage": meanwhile("outage"),
    "recovery of a claimed job": recovering(started=False),
    "recovery of a started job": recovering(started=True),
}


def tries(
    kind: type[Machine], way: Callable[[Machine], None], rerun: Rerun, fault: str, nodes: int
) -> Iterator[tuple[int, Machine]]:
    """A machine after one fault, for each step at which it can come."""
    for number in range(MOST):
        machine = kind()
        machine.journey = MOST
        machine.begin(rerun, nodes)
        machine.submit()
        getattr(way, "prepared", lambda _: None)(machine)
        node = machine.nodes[0]
        machine._do(node, lambda machine=machine: way(machine), (fault, number))  # type: ignore[misc]
        came = not machine.chaos.armed
        try:
            yield number, machine
        finally:
            machine.close()
        if not came:
            return
    raise AssertionError("a way has no end")


@pytest.mark.parametrize("machine", [Machine, FolderMachine])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", KINDS)
@pytest.mark.parametrize("nodes", [1, 2])
def test_one_fault_at_each_step(machine: type[Machine], way: str, fault: str, nodes: int) -> None:
    for rerun in (Rerun.IF_NOT_STARTED, Rerun.ALWAYS):
        for number, tried in tries(machine, WAYS[way], rerun, fault, nodes):
            try:
                tried.teardown()
            except AssertionError as error:
                raise AssertionError(f"{fault} at step {number}, {rerun}: {error}") from error


@pytest.mark.parametrize("machine", [Machine, FolderMachine])
@pytest.mark.parametrize("fault", ["refuse", "lose"])
def test_a_fault_does_not_end_a_run_that_is_to_drain_the_queue(
    machine: type[Machine], fault: str
) -> None:
    """`--once` goes on for as long as there are jobs."""
    for number, tried in tries(machine, drain, Rerun.NEVER, fault, 1):
        left = {tried.submitter.status(DEVICE, job).state for job in tried.jobs}
        waiting = len(tried.nodes[0].outbox)
        assert left == {State.DONE} or waiting, f"{fault} at step {number}: {left}"
