"""One fault at each step of a job's way, one after the other, with one daemon and with two.

The state machine finds what needs several things at once; this goes through every single one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from spooler.errors import BackendUnavailable
from spooler.model.claim import Lease
from spooler.model.device import Rerun
from spooler.model.state import State
from spooler.testing.bench import DEVICE, QUEUE, TTL, new_token
from tests.faults.everything import STORAGES
from tests.faults.machine import Machine, machine_on
from tests.faults.nodes import Fault
from tests.faults.on_mongodb import MONGODB
from tests.faults.storages import MEMORY, Storage

KINDS = ("refuse", "lose", "kill", "stand")
#: More steps than any way here has.
MOST = 600
#: In a test run every so manieth step is tried, another one for each way; `make fuzz` tries all.
EVERY = 1 if "SPOOLER_TEST_FUZZ" in os.environ else 29


def meanwhile(what: str) -> Callable[[Machine], None]:
    """A run during which something happens."""

    def act(machine: Machine) -> None:
        node = machine.nodes[0]
        node.during = lambda: machine.meanwhile(node, 1, what)
        node.turn()

    return act


def plain(machine: Machine) -> None:
    machine.nodes[0].turn()


def drain(machine: Machine) -> None:
    """What the thread of a worker does, without its waits."""
    going_on = True
    while going_on:
        with suppress(BackendUnavailable):
            going_on = machine.nodes[0].turn()
        machine.nodes[0].housekeep()
        machine.clock.advance(6)


def recovering(*, started: bool, host: int) -> Callable[[Machine], None]:
    """Another daemon has died with the job; this one finds it, and runs it where it may."""

    def act(machine: Machine) -> None:
        node = machine.nodes[0]
        for _ in range(3):
            node.housekeep()
            machine.clock.advance(TTL + 1)
        node.turn()

    def prepared(machine: Machine) -> None:
        dead = machine.node(9, host)
        dead.begin()
        machine.nodes.append(dead)
        backend = dead.views["s0"].backend
        claim = backend.claim(QUEUE, Lease(new_token(), dead.owner, TTL))
        if started:
            machine.runs[claim.job.id].append("unknown")
            backend.start(claim, 600.0)
        machine.nodes.remove(dead)
        machine.dead[dead.owner.process] = dead.host
        dead.die()

    act.prepared = prepared  # type: ignore[attr-defined]
    return act


def inheriting(host: int) -> Callable[[Machine], None]:
    """Another daemon has died with a report that it could not bring; this one meets the claim."""

    def act(machine: Machine) -> None:
        for _ in range(3):
            machine.nodes[0].housekeep()
            machine.clock.advance(TTL + 1)

    def prepared(machine: Machine) -> None:
        heir, dead = machine.nodes[0], machine.node(9, host)
        dead.begin()
        machine.nodes.append(dead)
        dead.during = lambda: setattr(dead.views["s0"], "away", True)
        dead.turn()
        machine.measured.update(dict.fromkeys(dead.finished, dead.folder))
        assert len(dead.kept()) == 1
        machine.nodes[:] = [heir, *(each for each in machine.nodes[1:] if each is not dead)]
        machine.dead[dead.owner.process] = dead.host
        dead.die()

    act.prepared = prepared  # type: ignore[attr-defined]
    return act


def asked_again(machine: Machine) -> None:
    """What was asked and not answered is asked again, and cared for meanwhile."""
    with suppress(BackendUnavailable):
        machine.nodes[0].turn()
    for _ in range(2):
        machine.nodes[0].housekeep()
        machine.clock.advance(6)


def refused(what: str) -> Callable[[Machine], None]:
    """A run whose report will never be taken, and during which something happens."""
    act = meanwhile(what)

    def prepared(machine: Machine) -> None:
        machine.refused[machine.jobs[0][1]] = "for good"

    act.prepared = prepared  # type: ignore[attr-defined]
    return act


WAYS: dict[str, Callable[[Machine], None]] = {
    "a run": plain,
    "expired": meanwhile("expire"),
    "cancelled": meanwhile("cancel"),
    "deleted": meanwhile("delete"),
    "shown": meanwhile("show"),
    "stolen": meanwhile("steal"),
    "taken over": meanwhile("stall"),
    "outage": meanwhile("outage"),
    "asked again": asked_again,
    "refused": refused("show"),
    "refused, and deleted": refused("delete"),
    "recovery of a claimed job": recovering(started=False, host=1),
    "recovery of a started job": recovering(started=True, host=1),
    "recovery of a started job, beside it": recovering(started=True, host=0),
    "a report beside it": inheriting(host=0),
}


#: Ways that are tried at every step in each test run, in memory.
EACH_STEP = {"a run", "asked again", "a report beside it"}


@dataclass(frozen=True)
class Case:
    """One way, one kind of fault, on one storage, with so many daemons."""

    storage: Storage
    way: str
    fault: str
    nodes: int
    number: int

    def __str__(self) -> str:
        return f"{self.storage.name}, {self.way}, {self.fault}, {self.nodes}"

    def steps(self, rerun: Rerun) -> range:
        """The steps that are tried: others in each case."""
        every = 1 if self.storage is MEMORY and self.way in EACH_STEP else EVERY
        first = 5 * self.number + 2 * (rerun is Rerun.ALWAYS)
        return range(first % every, MOST, every)


def cases() -> Iterator[Any]:
    """Beside a server a try takes long: some cases stand for all, which are among the proofs."""
    every = product(STORAGES, WAYS, KINDS, (1, 2))
    for number, (storage, way, fault, nodes) in enumerate(every):
        left_out = storage is MONGODB and number % 11
        case = Case(storage, way, fault, nodes, number)
        marks = [pytest.mark.proof] if left_out else []
        yield pytest.param(storage, case, id=str(case), marks=marks)


def tries(
    case: Case, act: Callable[[Machine], None], rerun: Rerun
) -> Iterator[tuple[int, Machine]]:
    """A machine after one fault, for each step at which it can come."""
    for number in case.steps(rerun):
        machine = machine_on(case.storage)()
        machine.begin(rerun, case.nodes)
        machine.submit()
        getattr(act, "prepared", lambda _: None)(machine)
        node, fault = machine.nodes[0], Fault(case.fault, number)
        action = machine.do(node, lambda machine=machine: act(machine), fault)  # type: ignore[misc]
        try:
            yield number, machine
        finally:
            machine.close()
        if not action.came:
            return
    raise AssertionError("a way has no end")


@pytest.mark.parametrize(("storage", "case"), list(cases()), indirect=["storage"])
def test_one_fault_at_each_step(storage: Storage, case: Case) -> None:
    for rerun in (Rerun.IF_NOT_STARTED, Rerun.ALWAYS):
        for number, tried in tries(case, WAYS[case.way], rerun):
            try:
                tried.recover()
            except AssertionError as error:
                raise AssertionError(f"{case.fault} at step {number}, {rerun}: {error}") from error


@pytest.mark.parametrize("storage", STORAGES, ids=lambda each: each.name, indirect=True)
@pytest.mark.parametrize("fault", ["refuse", "lose"])
def test_a_fault_does_not_end_a_run_that_is_to_drain_the_queue(
    storage: Storage, fault: str
) -> None:
    """`--once` goes on for as long as there are jobs."""
    for number, tried in tries(Case(storage, "", fault, 1, 0), drain, Rerun.NEVER):
        submitter = tried.sites["s0"].submitter
        left = {submitter.status(DEVICE, job).state for _, job in tried.jobs}
        waiting = tried.nodes[0].waiting
        assert left == {State.DONE} or waiting, f"{fault} at step {number}: {left}"
