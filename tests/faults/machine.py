"""Submitters, daemons, crashes, expiries, cancels, clock jumps, outages: the rules, the model.

The same for every storage, and for several at once: see storages.py.
"""

from __future__ import annotations

import random
import re
import secrets
import shutil
import sys
import tempfile
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from spooler.daemon.claims.records import Phase
from spooler.errors import BackendUnavailable, NotCancellable, ReportRefused, Scope, UnknownJob
from spooler.model.claim import Claim
from spooler.model.device import Rerun
from spooler.model.result import SignedReport
from spooler.model.state import State
from spooler.protocols import Submitter
from spooler.settings import Settings
from spooler.testing.bench import DEVICE, TTL
from spooler.testing.clock import ManualClock
from tests.faults.nodes import Action, Chaos, Fault, Killed, Node, View, records_in, value_of
from tests.faults.points import installed
from tests.faults.storages import SHELF, Storage

NODES = 3
HOSTS = 2
ATTEMPTS = 3
WHICH = st.integers(0, NODES - 1)
#: A step that goes wrong, and how; the number is taken modulo the steps that there are.
FAULT = st.none() | st.builds(
    Fault, st.sampled_from(("refuse", "lose", "kill", "stand")), st.integers(0, 199)
)
#: What happens in the world while a handler runs.
MEANWHILE = ("expire", "cancel", "outage", "steal", "stall", "show", "delete")
#: Seconds after which the renewal of some leases is taken for stuck.
_A_BEAT = 20.0
#: A step that changes the name of a claim.
RENAMING = re.compile(r"^rename .*/claims/")
#: More rounds than any job here can need to come to its end.
ROUNDS = 60


@dataclass(frozen=True)
class Site:
    """One storage that all nodes use."""

    name: str
    storage: Storage
    folder: Path
    submitter: Submitter


#: A job: the site it was submitted at, and its id.
Job = tuple[str, str]


class Machine(RuleBasedStateMachine):
    """The model: what each job's submitter has seen, who holds it, and what was executed."""

    storages: ClassVar[tuple[Storage, ...]]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="spooler-machine.", dir=SHELF))
        self.clock, self.chaos = ManualClock(), Chaos()
        self.cleanup = ExitStack()
        self.cleanup.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.cleanup.enter_context(installed(str(self.folder), self.chaos.at_point))
        self.cleanup.enter_context(_repeatable())
        self.sites = {f"s{at}": self._site(f"s{at}", each) for at, each in enumerate(self.storages)}
        #: About how many steps an action has.
        self.steps = 40
        self.nodes: list[Node] = []
        self.jobs: list[Job] = []
        self.gone: set[Job] = set()
        self.ends: dict[Job, tuple[State, str, str]] = {}
        self.runs: dict[str, list[str]] = defaultdict(list)
        #: The claim of each job that is held, as far as that is known for certain.
        self.holder: dict[str, Claim] = {}
        #: By token: when its lease was last known to be extended.
        self.extended: dict[str, float] = {}
        self.claims: list[tuple[str, Claim]] = []
        #: Processes whose death can be seen, and on which host.
        self.dead: dict[str, Path] = {}
        #: Values of finished runs whose report was safe, by the state folder: never to be lost.
        self.measured: dict[str, Path] = {}
        #: Jobs that were said to be over: their end is decided, and will be shown.
        self.decided: set[str] = set()
        #: Jobs whose reports are not taken now, or never.
        self.refused: dict[str, str] = {}

    # --- the storages -----------------------------------------------------------------------

    def _site(self, name: str, storage: Storage) -> Site:
        folder = self.folder / f"{name}{self.folder.name[-8:].replace('_', '0')}"
        folder.mkdir()
        storage.announce(folder, self.clock)
        submitter = storage.submitter(folder, self.clock)
        self.cleanup.callback(storage.drop, folder)
        self.cleanup.callback(submitter.close)
        return Site(name, storage, folder, submitter)

    @initialize(
        rerun=st.sampled_from(Rerun), nodes=st.integers(1, NODES), hosts=st.integers(1, HOSTS)
    )
    def begin(self, rerun: Rerun, nodes: int, hosts: int = 1) -> None:
        self.rerun = rerun
        for number in range(nodes):
            self.nodes.append(self.node(number, number % hosts))
        for node in list(self.nodes):
            self.do(node, node.begin)

    def node(self, number: int, host: int) -> Node:
        """A daemon process with a state folder of its own."""
        place = self.folder / f"host{host}"
        settings = Settings.model_validate(
            {
                "state": place / f"state-{number}",
                "daemon": {"lease": TTL},
                "storages": {
                    name: each.storage.settings(each.folder) for name, each in self.sites.items()
                },
                "devices": {
                    DEVICE: {
                        "handler": "echo",
                        "rerun": self.rerun,
                        "max_attempts": ATTEMPTS,
                        "isolation": "thread",
                    }
                },
            }
        )
        return self._process(place, settings)

    def _process(self, host: Path, settings: Settings) -> Node:
        views = {}
        for name, site in self.sites.items():
            with self.chaos.acting(None), site.storage.finer(self.chaos.at_point):
                backend = site.storage.open(site.folder, self.clock)
            self.cleanup.callback(self._close, backend.close)
            views[name] = View(name, backend, self.chaos, self.clock, self._wrote)
            views[name].refuse = self._refuse
        return Node(host, settings, views, self.clock, self._ran)

    @staticmethod
    def _close(close: Callable[[], None]) -> None:
        with suppress(BackendUnavailable):
            close()

    def _refuse(self, _: str, claim: Claim, signed: SignedReport) -> None:
        how = self.refused.get(claim.job.id)
        if how == "now":
            raise BackendUnavailable("not this report, not now", scope=Scope.JOB)
        if how == "for good" and signed.report.result is not None:
            raise ReportRefused("never this one")

    # --- what is noted on the way -----------------------------------------------------------

    def _wrote(self, view: View, verb: str, args: Any, answer: Any) -> None:
        """A verb has changed the storage: only the holder may do that, only in its time."""
        if verb in {"claim in doubt", "reclaim in doubt", "release in doubt"}:
            self.holder.clear()
        elif verb in {"claim", "reclaim"}:
            if answer is not None:
                self._taken(view, verb, answer)
        elif verb in {"start", "renew", "ack", "release"}:
            claim = args[0]
            held = self.holder.get(claim.job.id, claim)
            assert held.token == claim.token, f"{verb} of a job that somebody else holds"
            if verb in {"start", "renew"}:
                self.extended[claim.token] = self.clock.monotonic()
            elif verb == "release":
                self.holder.pop(claim.job.id, None)

    def _taken(self, view: View, verb: str, claim: Claim) -> None:
        before = self.holder.get(claim.job.id)
        if verb == "reclaim" and before is not None and before.token != claim.token:
            node = next(each for each in self.nodes if each.views[view.name] is view)
            if self._is_seen_dead(before.owner.process, node):
                kept = self._legacy(node.host)
                assert before.token not in kept, "taken over, and its report lies here"
            else:
                since = self.clock.monotonic() - self.extended[before.token]
                assert since >= TTL - 0.001, f"a lease was taken over {since} s after its renewal"
        self.holder[claim.job.id] = claim
        self.extended.setdefault(claim.token, self.clock.monotonic())
        self.claims.append((view.name, claim))

    def _is_seen_dead(self, process: str, node: Node) -> bool:
        """Whether a node knows that a process is dead: nobody else cares for its estate."""
        others = [each for each in self.nodes if each is not node]
        return self.dead.get(process) == node.host and not any(
            process in each.cares_for() for each in others
        )

    def _legacy(self, host: Path) -> set[str]:
        """The tokens of the reports that dead processes have left on a host."""
        found = set()
        for state in host.iterdir():
            for token, record in records_in(state, Phase.REPORT).items():
                if record.claim.owner.process in self.dead:
                    found.add(token)
        return found

    def _ran(self, node: Node, job: str, value: str) -> None:
        assert job not in self.decided, "it runs although it was said to have ended"
        self.runs[job].append(value)
        most = ATTEMPTS if self.rerun is Rerun.ALWAYS else 1
        assert len(self.runs[job]) <= most, f"{len(self.runs[job])} runs, {self.rerun}"

    # --- what nodes do ----------------------------------------------------------------------

    def do(self, node: Node, act: Callable[[], object], fault: Fault | None = None) -> Action:
        """Have a node do something; it may fail in any step, die, or stand still."""
        action = Action(self.chaos, act, fault)
        self._proceed(node, action)
        return action

    def _proceed(self, node: Node, action: Action) -> None:
        action.proceed()
        node.standing = None if action.ended else action
        if action.ended:
            self._over(node, action)

    def _over(self, node: Node, action: Action) -> None:
        trouble = action.trouble
        node.troubled |= action.spoiled or any(view.away for view in node.views.values())
        if not node.troubled:
            away = [each.feed.name for each in node.feeds.values() if each.feed.outage.lasts]
            assert not away, "a report that waits alone is taken for an outage"
        self.steps = max(self.steps, action.steps)
        if isinstance(trouble, Killed):
            node.stopped = True
        elif trouble is not None and not isinstance(trouble, BackendUnavailable):
            raise trouble
        if node.stopped:
            self._restart(node)
        else:
            self.measured.update(dict.fromkeys(node.finished, node.folder))
        node.finished.clear()

    def _restart(self, node: Node, *, lost: bool = False) -> None:
        """The process is gone; another one takes up its state folder."""
        node.die()
        if lost:
            node.lose_records()
            self.measured = {value: at for value, at in self.measured.items() if at != node.folder}
        else:
            self.dead[node.owner.process] = node.host
        # What lies on the disk is safe, although nobody has seen it come to its end.
        kept = {value_of(each) for each in node.kept().values()}
        self.measured.update(dict.fromkeys(set(node.finished) & kept, node.folder))
        fresh = self._process(node.host, node.settings)
        for name, view in node.views.items():
            fresh.views[name].away = view.away
        self.nodes[self.nodes.index(node)] = fresh
        self.do(fresh, fresh.begin)

    def go_on(self, node: Node) -> None:
        if node.standing is not None:
            self._proceed(node, node.standing)

    def _awake(self, number: int) -> Node:
        """A node that is free to do something; one that has stood still goes on first."""
        at = number % len(self.nodes)
        while self.nodes[at].standing is not None:
            self.go_on(self.nodes[at])
        return self.nodes[at]

    def _fault(self, fault: Fault | None) -> Fault | None:
        return None if fault is None else Fault(fault.kind, fault.after % self.steps)

    # --- the rules --------------------------------------------------------------------------

    @rule(site=st.integers(0, 1))
    @precondition(lambda self: len(self.jobs) < 4)
    def submit(self, site: int = 0) -> None:
        name = f"s{site % len(self.sites)}"
        job = self.sites[name].submitter.submit(DEVICE, {"value": len(self.jobs)})
        self.jobs.append((name, job))

    @property
    def present(self) -> list[Job]:
        return [job for job in self.jobs if job not in self.gone]

    def _some(self, number: int) -> list[Job]:
        """One of the jobs that are not deleted, if there are any."""
        present = self.present
        return present[number % len(present) :][:1] if present else []

    @rule(number=st.integers(0, 3))
    def cancel(self, number: int) -> None:
        for job in self._some(number):
            self._cancel(job)

    def _cancel(self, job: Job) -> None:
        try:
            self.sites[job[0]].submitter.cancel(DEVICE, job[1])
        except NotCancellable:
            self.decided.add(job[1])
        else:
            assert job not in self.ends, "a job that has ended was cancelled"

    @rule(number=st.integers(0, 3))
    def delete(self, number: int) -> None:
        for job in self._some(number):
            self._delete(job)

    def _delete(self, job: Job) -> None:
        """Its owner takes a job away that has not ended yet."""
        site = self.sites[job[0]]
        self.ends_are_final_and_true()
        if site.storage.delete is not None and job not in self.ends:
            site.storage.delete(site.folder, job[1])
            self.gone.add(job)

    @rule(number=st.integers(0, 3))
    def picture(self, number: int) -> None:
        """A power cut leaves a waiting job shown as running."""
        for name, job in self._some(number):
            site = self.sites[name]
            if site.storage.picture is not None:
                site.storage.picture(site.folder, job)

    @rule(number=st.integers(0, 3), how=st.sampled_from(("now", "for good", "")))
    def refuse(self, number: int, how: str) -> None:
        """From now on the storage does not take the report on a job, or does again."""
        for _, job in self._some(number):
            self.refused[job] = how

    @rule(number=WHICH, fault=FAULT, slow=st.booleans())
    def turn(self, number: int, fault: Fault | None, slow: bool) -> None:
        """`slow`: a storage whose reports are left to the next `housekeep`."""
        node = self._awake(number)
        node.during = lambda: None
        for view in node.views.values():
            view.slow = slow
        self.do(node, node.turn, self._fault(fault))

    @rule(number=WHICH, other=WHICH, what=st.sampled_from(MEANWHILE), fault=FAULT)
    def turn_with_trouble(self, number: int, other: int, what: str, fault: Fault | None) -> None:
        """While the handler runs, the world goes on."""
        node = self._awake(number)
        node.during = lambda: self.meanwhile(node, other, what)
        self.do(node, node.turn, self._fault(fault))

    def meanwhile(self, node: Node, other: int, what: str) -> None:
        with self.chaos.acting(None):
            self._meanwhile(node, other, what)
        if what == "show":
            node.housekeep()
        node.renew()

    def _meanwhile(self, node: Node, other: int, what: str) -> None:
        thief = self.nodes[other % len(self.nodes)]
        change = {"cancel": self._cancel, "delete": self._delete}.get(what)
        if change is not None:
            for job in self.present:
                change(job)
        elif what == "outage":
            for view in node.views.values():
                view.away = True
        elif what in {"steal", "stall"} and thief is not node and thief.standing is None:
            self.do(thief, thief.housekeep)
            self.clock.advance(TTL + 1)
            thief = self.nodes[other % len(self.nodes)]
            self.do(thief, thief.housekeep, Fault("stand", 6) if what == "stall" else None)
        elif what != "show":
            self.clock.advance(TTL + 1)

    @rule(number=WHICH, fault=FAULT)
    def housekeep(self, number: int, fault: Fault | None) -> None:
        node = self._awake(number)
        self.do(node, node.housekeep, self._fault(fault))

    @rule(number=WHICH, fault=FAULT)
    def renew(self, number: int, fault: Fault | None) -> None:
        node = self._awake(number)
        self.do(node, node.renew, self._fault(fault))

    @rule(number=WHICH)
    def goes_on(self, number: int) -> None:
        """What stood still between two steps goes on with the next one."""
        self.go_on(self.nodes[number % len(self.nodes)])

    @rule(number=WHICH, other=WHICH, after=st.integers(0, 199), slow=st.booleans())
    def turn_at_a_moment(self, number: int, other: int, after: int, slow: bool) -> None:
        """A run stands somewhere, or only its disk is slow, for longer than a lease lasts."""
        if len(self.jobs) < 8:
            self.submit()
        node = self._awake(number)
        node.during = node.housekeep
        self.do(node, node.turn, self._fault(Fault("stand", after)))
        if node.standing is None:
            return
        if slow:
            self.slow_disk(number, other)
        else:
            for _ in range(2):
                self.clock.advance(TTL + 1)
                thief = self._beside(node, other)
                if thief is not None:
                    self.do(thief, thief.housekeep)
        self.ends_are_final_and_true()
        self.go_on(node)

    @rule(number=WHICH, other=WHICH)
    def slow_disk(self, number: int, other: int) -> None:
        """What stands still does so in one thread alone: the other one renews the leases.

        But for the step that gives the claim another name: a renewal has to wait for that.
        """
        node = self.nodes[number % len(self.nodes)]
        thief = self._beside(node, other)
        if node.standing is None or thief is None or self._is_away(node):
            return
        if RENAMING.search(node.standing.at):
            return
        mine = {held.claim.token for each in node.feeds.values() for held in each.feed.leases.all()}
        before = {job: claim for job, claim in self.holder.items() if claim.token in mine}
        for _ in range(4):
            self.clock.advance(TTL / 2)
            self._beat(node)
            self.do(thief, thief.housekeep)
            for job, claim in before.items():
                held = self.holder.get(job, claim)
                assert held.token == claim.token, "taken over from a process that is at work"

    def _beside(self, node: Node, other: int) -> Node | None:
        """Another node that is free to do something."""
        free = [each for each in self.nodes if each is not node and each.standing is None]
        return free[other % len(free)] if free else None

    @staticmethod
    def _is_away(node: Node) -> bool:
        return any(view.away for view in node.views.values())

    @staticmethod
    def _beat(node: Node) -> None:
        """Have the thread that renews leases do so."""
        thread = threading.Thread(target=node.renew, daemon=True)
        thread.start()
        thread.join(_A_BEAT)
        assert not thread.is_alive(), "the heartbeat waits for what is slow"

    @rule(number=WHICH, lost=st.booleans())
    def crash(self, number: int, lost: bool) -> None:
        node = self.nodes[number % len(self.nodes)]
        if node.standing is not None:
            node.standing.kill()
            node.standing = None
        self._restart(node, lost=lost)
        node.finished.clear()

    @rule(number=st.integers(0, 7))
    def late_word(self, number: int) -> None:
        """A word of progress comes late, from whoever once held the job."""
        if not self.claims:
            return
        name, claim = self.claims[number % len(self.claims)]
        for view in (self.nodes[0].views[name], self.nodes[-1].views[name]):
            with suppress(BackendUnavailable):
                view.inner.show(claim, "99 % is done")

    @rule(number=WHICH, site=st.integers(0, 1), away=st.booleans())
    def outage(self, number: int, site: int, away: bool) -> None:
        views = list(self.nodes[number % len(self.nodes)].views.values())
        views[site % len(views)].away = away

    @rule(seconds=st.sampled_from((1.0, TTL / 2, TTL + 1, 3600.0)))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from((-86400.0, -60.0, 60.0, 86400.0)))
    def clock_jumps(self, seconds: float) -> None:
        self.clock.step(seconds)

    # --- the promises -----------------------------------------------------------------------

    @invariant()
    def ends_are_final_and_true(self) -> None:
        for job in self.present:
            status = self.sites[job[0]].submitter.status(DEVICE, job[1])
            if not status.state.ended:
                assert job not in self.ends, f"{job} had ended and is {status.state}"
                continue
            value = self._result(job)
            seen = status.state, value, status.reason
            assert self.ends.setdefault(job, seen) == seen, "an end has changed"
            if status.state is State.DONE:
                assert value in self.runs[job[1]], "a result that no execution of this job made"
            else:
                assert not value
                assert status.reason, "an end without a reason"

    def _result(self, job: Job) -> str:
        try:
            return str(self.sites[job[0]].submitter.result(DEVICE, job[1]).data["value"])
        except UnknownJob:
            return ""

    def teardown(self) -> None:
        """When the world is well again, every job comes to its end."""
        try:
            if self.nodes:
                self.recover()
        finally:
            self.close()

    def close(self) -> None:
        for node in self.nodes:
            node.die()
            if node.standing is not None:
                node.standing.kill()
        self.cleanup.close()

    def recover(self) -> None:
        self.refused.clear()
        for node in self.nodes:
            node.during = lambda: None
            for view in node.views.values():
                view.away = False
        for number in range(len(self.nodes)):
            self._awake(number)
        for _ in range(ROUNDS):
            self._round()
            self.ends_are_final_and_true()
            if set(self.ends) >= set(self.present):
                break
        assert set(self.ends) >= set(self.present), "a job has no end"
        for _ in range(3):  # what is settled in a round may leave its report to the next
            self._round()
        self._nothing_is_left()

    def _round(self) -> None:
        for node in list(self.nodes):
            self.do(node, node.housekeep)
        for node in list(self.nodes):
            self.do(node, node.turn)
        self.clock.advance(TTL + 1)

    def _nothing_is_left(self) -> None:
        """Every report is where it belongs, and no estate of our own is left behind."""
        for node in self.nodes:
            assert node.waiting == 0, "a report waits although the storage answers"
            assert not node.kept(), "a report lies in an estate, and nobody cares for it"
            estates = {path.name for path in (node.folder / "records").glob("*")}
            assert estates <= {"parked", node.owner.process}, "the dead are not forgotten"
        parked: set[str] = set()
        for state in self.folder.glob("host*/state-*"):
            parked |= {value_of(each) for each in records_in(state, Phase.PARKED).values()}
        published = {value for _, value, _ in self.ends.values()}
        for value in self.measured:
            assert value in published or value in parked, "a measured result is lost"


@contextmanager
def _repeatable() -> Iterator[None]:
    """Have names and tokens the same each time: the order of some things goes by them."""
    dice, real = random.Random(7), uuid.uuid4

    def made() -> uuid.UUID:
        # A driver's sessions have to be others each time, or its writes are taken for repeats.
        ours = sys._getframe(1).f_globals["__name__"].startswith(("spooler.", "tests."))
        return uuid.UUID(int=dice.getrandbits(128), version=4) if ours else real()

    with (
        mock.patch.object(uuid, "uuid4", made),
        mock.patch.object(secrets, "token_hex", lambda size: dice.randbytes(size).hex()),
    ):
        yield


def machine_on(*storages: Storage) -> type[Machine]:
    """The machine on these storages, all served by each daemon."""
    name = "And".join(each.name.capitalize() for each in storages)
    return type(f"{name}Machine", (Machine,), {"storages": storages})
