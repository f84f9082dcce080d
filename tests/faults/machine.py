"""Submitters, daemons, crashes, expiries, cancels, clock jumps, outages: the rules, the model."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from spooler.daemon.device_rules import DeviceRules
from spooler.errors import BackendUnavailable, NotCancellable, UnknownJob
from spooler.model.device import DeviceCard, Rerun
from spooler.model.state import State
from spooler.protocols import Backend, Submitter
from spooler.storage.memory import MemoryBackend, MemoryStorage, MemorySubmitter
from spooler.storage.sqooler.client.documents import LocalLoginInformation
from spooler.storage.sqooler.client.local import LocalProviderExtended
from spooler.storage.sqooler.folder.backend import FolderBackend
from spooler.storage.sqooler.submitter import SqoolerSubmitter
from spooler.testing.bench import DEVICE, TTL
from spooler.testing.clock import ManualClock
from tests.faults.nodes import KEY, Chaos, Chaotic, Killed, Node
from tests.faults.world import SHELF

NODES = 3
ATTEMPTS = 3
WHICH = st.integers(0, NODES - 1)
#: A step that goes wrong, and how; the number is taken modulo the steps that there are.
FAULT = st.none() | st.tuples(st.sampled_from(("refuse", "lose", "kill")), st.integers(0, 99))
#: More rounds than any job here can need to come to its end.
ROUNDS = 60


class Machine(RuleBasedStateMachine):
    """The model: what each job's submitter has seen, who holds it, and what was executed."""

    #: Whether the storage's verbs are steps that can fail; else its file operations are.
    steps = True
    #: About how many steps a job takes.
    journey = 18

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="spooler-machine.", dir=SHELF))
        self.clock, self.chaos = ManualClock(), Chaos()
        self.open_storage()
        self.jobs: list[str] = []
        self.ends: dict[str, tuple[State, str]] = {}
        self.runs: dict[str, list[str]] = defaultdict(list)
        self.holder: dict[str, str] = {}
        self.nodes: list[Node] = []
        #: Values of finished runs whose daemon lived on: never to be lost.
        self.measured: dict[str, Node] = {}
        #: Jobs that were said to be over: their end is decided, and will be shown.
        self.decided: set[str] = set()

    # --- the storage ------------------------------------------------------------------------

    def open_storage(self) -> None:
        storage = MemoryStorage()
        self.backend: Callable[[], Backend] = lambda: MemoryBackend(storage, self.clock)
        self.submitter: Submitter = MemorySubmitter(storage, self.clock)

    @initialize(rerun=st.sampled_from(Rerun), nodes=st.integers(1, NODES))
    def begin(self, rerun: Rerun, nodes: int) -> None:
        self.rules = DeviceRules(DEVICE, rerun=rerun, max_attempts=ATTEMPTS)
        self.backend().announce(DeviceCard(DEVICE), self.clock.now())
        self.nodes = [self._node(self.folder / f"state-{number}") for number in range(nodes)]

    def _node(self, folder: Path) -> Node:
        view = Chaotic(self.backend(), self.chaos, self._wrote, steps=self.steps)
        return Node(folder, view, self.clock, self.rules, self._ran)

    # --- what is noted on the way -----------------------------------------------------------

    def _wrote(self, verb: str, args: Any, answer: Any) -> None:
        """A verb has changed the storage: only the holder may do that."""
        if verb in {"claim", "reclaim"} and answer is not None:
            self.holder[answer.job.id] = answer.token
        elif verb in {"renew", "ack", "release"}:
            job, token = args[0].job.id, args[0].token
            assert self.holder[job] == token, f"{verb} of a job that somebody else holds"

    def _ran(self, job: str, value: str) -> None:
        assert job not in self.decided, "it runs although it was said to have ended"
        self.runs[job].append(value)
        most = ATTEMPTS if self.rules.rerun is Rerun.ALWAYS else 1
        assert len(self.runs[job]) <= most, f"{len(self.runs[job])} runs, {self.rules.rerun}"

    def _do(
        self, node: Node, act: Callable[[], None], fault: tuple[str, int] | None = None
    ) -> None:
        """Have a node do something; it may fail in any step, or die."""
        if fault is not None:
            self.chaos.arm(fault[0], 1 + fault[1] % self.journey)
        try:
            with self.chaos.spoiling(self.folder):
                act()
        except BackendUnavailable:
            pass
        except Killed:
            node.stopped = True
        if node.stopped:
            self._restart(node)
        else:
            self.measured.update(dict.fromkeys(node.finished, node))
        node.finished.clear()

    def _restart(self, node: Node) -> None:
        """The process is gone; another one takes up its state folder."""
        self.chaos.disarm()
        fresh = self._node(node.folder)
        fresh.backend.away = node.backend.away
        self.nodes[self.nodes.index(node)] = fresh
        with suppress(BackendUnavailable):
            fresh.begin()

    # --- the rules --------------------------------------------------------------------------

    @rule()
    @precondition(lambda self: len(self.jobs) < 4)
    def submit(self) -> None:
        self.jobs.append(self.submitter.submit(DEVICE, {"value": len(self.jobs)}))

    @rule(data=st.data())
    @precondition(lambda self: self.jobs)
    def cancel(self, data: st.DataObject) -> None:
        self._cancel(data.draw(st.sampled_from(self.jobs)))

    def _cancel(self, job: str) -> None:
        try:
            self.submitter.cancel(DEVICE, job)
        except NotCancellable:
            self.decided.add(job)
        else:
            assert job not in self.ends, "a job that has ended was cancelled"

    @rule(number=WHICH, fault=FAULT, slow=st.booleans())
    def turn(self, number: int, fault: tuple[str, int] | None, slow: bool) -> None:
        """`slow`: a storage whose reports are left to the next `housekeep`."""
        node = self.nodes[number % len(self.nodes)]
        node.during = lambda: None
        node.delivery._slow = slow
        self._do(node, node.turn, fault)

    @rule(
        number=WHICH,
        other=WHICH,
        what=st.sampled_from(("expire", "cancel", "outage", "steal", "stall")),
        fault=FAULT,
    )
    def turn_with_trouble(
        self, number: int, other: int, what: str, fault: tuple[str, int] | None
    ) -> None:
        """While the handler runs, the world goes on."""
        node = self.nodes[number % len(self.nodes)]
        node.during = lambda: self._meanwhile(node, other, what)
        self._do(node, node.turn, fault)

    def _meanwhile(self, node: Node, other: int, what: str) -> None:
        thief = self.nodes[other % len(self.nodes)]
        with self.chaos.sparing():
            if what == "outage":
                node.backend.away = True
            elif what == "cancel":
                for job in self.jobs:
                    self._cancel(job)
            elif what in {"steal", "stall"} and thief is not node and not thief.backend.away:
                thief.housekeep()
                self.clock.advance(TTL + 1)
                (thief.housekeep if what == "steal" else thief.take_over)()
            else:
                self.clock.advance(TTL + 1)
        node.renew()

    @rule(number=WHICH, fault=FAULT)
    def housekeep(self, number: int, fault: tuple[str, int] | None) -> None:
        node = self.nodes[number % len(self.nodes)]
        self._do(node, node.housekeep, fault)

    @rule(number=WHICH, fault=FAULT)
    def stall(self, number: int, fault: tuple[str, int] | None) -> None:
        """A daemon takes a job over, and is slow to settle it."""
        node = self.nodes[number % len(self.nodes)]
        self._do(node, node.take_over, fault)

    @rule(number=WHICH, lost=st.booleans())
    def crash(self, number: int, lost: bool) -> None:
        node = self.nodes[number % len(self.nodes)]
        if lost:
            node.lose_outbox()
            self.measured = {
                value: at for value, at in self.measured.items() if at.folder != node.folder
            }
        self._restart(node)

    @rule(number=WHICH, away=st.booleans())
    def outage(self, number: int, away: bool) -> None:
        self.nodes[number % len(self.nodes)].backend.away = away

    @rule(seconds=st.sampled_from((1.0, TTL / 2, TTL + 1, 3600.0)))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from((-86400.0, -60.0, 60.0, 86400.0)))
    def clock_jumps(self, seconds: float) -> None:
        self.clock.step(seconds)

    # --- the promises -----------------------------------------------------------------------

    @invariant()
    def ends_are_final_and_true(self) -> None:
        for job in self.jobs:
            status = self.submitter.status(DEVICE, job)
            if not status.state.ended:
                assert job not in self.ends, f"{job} had ended and is {status.state}"
                continue
            value = self._result(job)
            assert self.ends.setdefault(job, (status.state, value)) == (status.state, value)
            if status.state is State.DONE:
                assert value in self.runs[job], "a result that no execution of this job made"
            else:
                assert not value
                assert status.reason, "an end without a reason"

    def _result(self, job: str) -> str:
        try:
            return str(self.submitter.result(DEVICE, job).data["value"])
        except UnknownJob:
            return ""

    def teardown(self) -> None:
        """When the world is well again, every job comes to its end."""
        try:
            if self.nodes:
                self._recover()
        finally:
            self.close()

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _recover(self) -> None:
        self.chaos.disarm()
        for node in self.nodes:
            node.backend.away = False
            node.during = lambda: None
        for _ in range(ROUNDS):
            if all(self.submitter.status(DEVICE, job).state.ended for job in self.jobs):
                break
            for node in list(self.nodes):
                self._do(node, node.housekeep)
                self._do(node, node.turn)
            self.clock.advance(TTL + 1)
        self.ends_are_final_and_true()
        assert set(self.ends) == set(self.jobs), "a job has no end"
        for node in list(self.nodes):
            self._do(node, node.housekeep)
            self._do(node, node.housekeep)  # it may have settled something, and left the report
            assert len(node.outbox) == 0, "a report waits although the storage answers"
        published = {value for _, value in self.ends.values()}
        for value, node in self.measured.items():
            assert value in published or value in node.parked(), "a measured result is lost"


class FolderMachine(Machine):
    """The same on a sqooler folder: its file operations are the steps that fail."""

    steps = False
    journey = 60

    def open_storage(self) -> None:
        base = self.folder / "storage"
        self.backend = lambda: FolderBackend(base, self.clock, signer=KEY, sync=True)
        login = LocalLoginInformation(base_path=str(base))
        self.submitter = SqoolerSubmitter(LocalProviderExtended(login, "lab"))
