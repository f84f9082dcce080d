"""A daemon's parts on memory storages, for tests that take them one by one.

Everything here is the real thing but the storage, the clock and the handler.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from spooler.app.parts import report_opener, report_signer, roots, this_process
from spooler.daemon.claims.estates import Estates
from spooler.daemon.claims.leases import Held, Leases
from spooler.daemon.claims.records import Phase, Record, Records
from spooler.daemon.claims.recovery import Recovery, Served
from spooler.daemon.claims.returns import Returns
from spooler.daemon.device_rules import DeviceRules
from spooler.daemon.executor import Executor
from spooler.daemon.feeds.announcer import Announced, Announcer
from spooler.daemon.feeds.feed import Feed
from spooler.daemon.feeds.housekeeper import Bell, Duty, Housekeeper, Punctual
from spooler.daemon.feeds.outage import Outage
from spooler.daemon.pulse import Pulse
from spooler.daemon.reports.delivery import Delivery
from spooler.daemon.room import Room
from spooler.daemon.schedule.drain import Policy, Tickets
from spooler.daemon.schedule.turns import Source
from spooler.daemon.schedule.wake import Ear
from spooler.daemon.shared import Shared
from spooler.daemon.worker import Stops, Worker
from spooler.durable import Disk
from spooler.errors import BackendUnavailable
from spooler.model.claim import Claim, Lease, Owner
from spooler.model.device import DeviceCard
from spooler.model.job import Limits, Queue, key_of
from spooler.model.json import JsonObject
from spooler.model.result import Outcome, Report, Result, SignedReport
from spooler.model.run import RunRequest
from spooler.model.state import State
from spooler.model.storage import Traits
from spooler.observe.events import EventName, Observation, Observer
from spooler.protocols import ReportSigner, RunControl
from spooler.signing.keys import PrivateKey, generate
from spooler.storage.memory import MemoryBackend, MemoryStorage, MemorySubmitter
from spooler.testing.bench import DEVICE, QUEUE, TTL, new_token, other_owner, signed_report
from spooler.testing.clock import ManualClock

KEY = generate("lab")
PATIENCE = 20.0


class Killed(BaseException):
    """The process ends here."""


class Away:
    """A backend around a backend, whose storage can be away, or lose an answer."""

    def __init__(self, inner: MemoryBackend) -> None:
        self.inner = inner
        self.away = False
        #: Verbs that are done, and whose answer is lost.
        self.deaf: set[str] = set()
        #: Verbs that fail and do nothing.
        self.refused: set[str] = set()
        #: Called, with the verb's arguments, before and after it is done.
        self.before: dict[str, Callable[..., object]] = {}
        self.after: dict[str, Callable[..., object]] = {}
        self.calls: list[str] = []
        #: The threads that have asked for each verb.
        self.threads: dict[str, set[str]] = {}

    def __getattr__(self, verb: str) -> Any:
        real = getattr(self.inner, verb)
        if not callable(real):
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(verb)
            self.threads.setdefault(verb, set()).add(threading.current_thread().name)
            if self.away or verb in self.refused:
                raise BackendUnavailable("the storage is away; try again later")
            if verb in self.before:
                self.before[verb](*args, **kwargs)
            answer = real(*args, **kwargs)
            if verb in self.after:
                self.after[verb](*args, **kwargs)
            if verb in self.deaf:
                raise BackendUnavailable("the answer was lost; try again later")
            return answer

        return call


class Scripted:
    """A runner whose next run is what the test says."""

    calibrates, ready = False, True

    def __init__(self, act: Callable[[RunRequest, RunControl], Outcome] | None = None) -> None:
        self.act = act or (lambda *_: Outcome(State.DONE, "", Result({"value": 1})))
        self.requests: list[RunRequest] = []

    def open(self, control: RunControl | None = None) -> DeviceCard:
        del control
        return DeviceCard(DEVICE)

    def load(self) -> None:
        return

    def run(self, request: RunRequest, control: RunControl) -> Outcome:
        self.requests.append(request)
        return self.act(request, control)

    dry_run = run

    def calibrate(self, timeout: float, control: RunControl) -> Outcome:
        return Outcome(State.DONE)

    def drain_output(self) -> None:
        return

    def close(self) -> None:
        return


class Looks:
    """A policy that has a worker look so many times at empty queues, `step` seconds apart."""

    left, unanswered = 0, False

    def __init__(
        self, clock: ManualClock, count: int, look: Callable[[], object], step: float = 1.0
    ) -> None:
        """`look` is called between two looks."""
        self._clock, self._count, self._look, self._step = clock, count, look, step
        self.jobs = 0

    def worked(self) -> None:
        self.jobs += 1

    def look_again(self, depth: Callable[[], int | None]) -> float | None:
        self._count -= 1
        self._clock.advance(self._step)
        self._look()
        return 0.0 if self._count > 0 else None

    def cannot_work(self, depth: Callable[[], int | None]) -> bool:
        return False


def opener(signer: PrivateKey | None = KEY) -> Callable[[str, str], bytes]:
    """What the daemon reads the reports on its disk with."""
    settings: Any = SimpleNamespace(signing=SimpleNamespace(source=lambda: None))
    return report_opener(settings, signer)


def die(folder: Path) -> None:
    """Let go of the lock of a folder of records as the kernel does when a process dies."""
    wanted, found = os.path.realpath(folder / "lock"), 0
    for handle in list(Path("/proc/self/fd").iterdir()):
        try:
            at = os.fspath(handle.readlink())
        except FileNotFoundError:
            continue  # the handle of this very listing
        if at == wanted:
            os.close(int(handle.name))
            found += 1
    assert found == 1, f"{found} handles on {wanted}"


@dataclass
class Ground:
    """What all storages of one process stand on."""

    state: Path
    clock: ManualClock
    shared: Shared
    owner: Owner
    rules: Callable[[], DeviceRules]
    patience: Callable[[float], bool]
    late: Callable[[], None]
    wake: Callable[[], None]
    opened: Callable[[str, str], bytes]
    unreadable: Callable[[Path, str], None]


class Desk:
    """One storage as one process serves it: everything of its feed but the threads."""

    def __init__(
        self,
        name: str,
        storage: MemoryStorage,
        ground: Ground,
        traits: Traits | None = None,
        queues: tuple[Queue, ...] = (QUEUE,),
    ) -> None:
        clock, shared = ground.clock, ground.shared
        self.storage, self.queues = storage, queues
        self.backend = Away(MemoryBackend(storage, clock, traits))
        self.submitter = MemorySubmitter(storage, clock)
        self.bell = Bell()
        self.outage = Outage(
            shared.observer, clock, ended=lambda: self.bell.ring(Duty.DELIVER), storage=name
        )
        backend: Any = self.backend
        self.records = Records(Path(ground.owner.estate) / key_of(self.backend.address))
        self.estates = Estates(self.records, roots(ground.state), ground.opened, ground.unreadable)
        self.leases = Leases(backend, clock, TTL, lambda: self.bell.ring(Duty.SHOW))
        self.delivery = Delivery(
            backend=backend,
            records=self.records,
            estates=self.estates,
            leases=self.leases,
            outage=self.outage,
            shared=shared,
            wake=lambda: self.bell.ring(Duty.DELIVER),
        )
        self.returns = Returns(
            backend, self.estates, self.leases, clock, lambda: self.bell.ring(Duty.DELIVER)
        )
        self.feed = Feed(
            name,
            backend,
            ground.owner,
            self.outage,
            self.records,
            self.leases,
            self.delivery,
            self.returns,
        )
        self.recovery = Recovery(self.feed, self.estates, shared, ground.patience)
        self.served = tuple(
            Served(queue, ground.rules, lambda: "1.0.0", ground.wake) for queue in queues
        )
        announced = [
            Announced(queue, lambda queue=queue: DeviceCard(queue.device))  # type: ignore[misc]
            for queue in queues
        ]
        self.announcer = Announcer(self.feed, announced, shared)
        self.housekeeper = Housekeeper(
            feed=self.feed,
            served=self.served,
            recovery=self.recovery,
            announcer=self.announcer,
            bell=self.bell,
            punctual=Punctual(clock, lambda: 10.0, ground.late),
            stopping=threading.Event(),
            clock=clock,
        )
        for queue in queues:
            storage.cards.setdefault(queue.name, DeviceCard(queue.name))

    def claim(self, owner: Owner | None = None, queue: Queue | None = None) -> Claim:
        """A claim of anybody's, past everything that may be away."""
        lease = Lease(new_token(), owner or self.feed.owner, TTL)
        claim = self.backend.inner.claim(queue or self.queues[0], lease)
        assert claim is not None, "nothing to claim"
        return claim

    def recover(self) -> int:
        """Recover the first queue; how many claims were settled."""
        return self.recovery.recover(self.served[0])

    def die(self) -> None:
        """Leave everything as a killed process leaves it."""
        die(self.records.folder)


@dataclass
class Parts:
    """Everything of one daemon but its threads. It has one storage, until it is given more."""

    folder: Path
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    clock: ManualClock = field(default_factory=ManualClock)
    rules: DeviceRules = field(default_factory=lambda: DeviceRules(DEVICE))
    runner: Scripted = field(default_factory=Scripted)
    traits: Traits | None = None
    #: The name of the state folder; daemons of one machine have one each, side by side.
    state_name: str = "state"
    queues: tuple[Queue, ...] = (QUEUE,)

    def __post_init__(self) -> None:
        self.seen: list[Observation] = []
        self.waits: list[float] = []
        self.late: list[float] = []
        self.woken = 0
        self.unreadable: list[tuple[Path, str]] = []
        self.state = self.folder / self.state_name
        self.owner = this_process(self.state)
        self.observer = Observer(self.seen.append, clock=self.clock)
        self.room = Room(self.state, Disk(), self.observer, self.clock)
        self.sign: ReportSigner = report_signer(KEY)
        self.shared = Shared(self.clock, self.observer, self._sign, self.room, Pulse(self.clock))
        self.stops = Stops.new()
        self.ground = Ground(
            self.state,
            self.clock,
            self.shared,
            self.owner,
            lambda: self.rules,
            self._patience,
            lambda: self.late.append(self.clock.monotonic()),
            self._wake,
            opener(),
            lambda path, why: self.unreadable.append((path, why)),
        )
        self.desks: dict[str, Desk] = {}
        self.desk = self.add("lab", self.storage, self.traits, self.queues)
        self.backend, self.submitter = self.desk.backend, self.desk.submitter
        self.records, self.estates = self.desk.records, self.desk.estates
        self.leases, self.returns = self.desk.leases, self.desk.returns
        self.delivery, self.recovery = self.desk.delivery, self.desk.recovery
        self.outage, self.feed = self.desk.outage, self.desk.feed
        self.executor = Executor(self.runner, self.shared, self.state, self._patience)

    def add(
        self,
        name: str,
        storage: MemoryStorage,
        traits: Traits | None = None,
        queues: tuple[Queue, ...] = (QUEUE,),
    ) -> Desk:
        """Serve one more storage."""
        desk = self.desks[name] = Desk(name, storage, self.ground, traits, queues)
        desk.records.open()
        return desk

    def die_at(self, name: EventName) -> None:
        """End this process at the moment at which it tells of an event."""

        def end(seen: Observation) -> None:
            if seen.name is name:
                raise Killed

        self.observer.subscribe(end)

    def later(self, **changes: Any) -> Parts:
        """Kill this process; the next one of the same state folder."""
        for desk in self.desks.values():
            desk.die()
        return self.later_of_the_dead(**changes)

    def later_of_the_dead(self, **changes: Any) -> Parts:
        """The next process of the same state folder; this one is dead."""
        return self.beside(**{"state_name": self.state_name, **changes})

    def beside(self, **changes: Any) -> Parts:
        """Another process, for the same storage."""
        same = {"storage": self.storage, "clock": self.clock, "rules": self.rules}
        return Parts(self.folder, **{**same, "traits": self.traits, **changes})

    def kill_also(self, *cared_for: Parts) -> None:
        """Kill this process, which has the locks of some that died before."""
        for each in (self, *cared_for):
            each.desk.die()

    def _wake(self) -> None:
        self.woken += 1

    def _sign(self, report: Report) -> SignedReport:
        return self.sign(report)  # likewise

    def _patience(self, seconds: float) -> bool:
        return self.patience(seconds)  # a test may put another one in its place

    def patience(self, seconds: float) -> bool:
        """Waits are noted and not waited for; after many the test's daemon stops."""
        self.waits.append(seconds)
        self.clock.advance(seconds)
        return len(self.waits) < 20

    def submit(self, **payload: Any) -> str:
        return self.submitter.submit(DEVICE, payload)

    def submit_with(self, limits: Limits) -> str:
        """Submit a job with limits of its own."""
        job = self.submit()
        entry = self.storage.entries[DEVICE, job]
        entry.job = replace(entry.job, limits=limits)
        return job

    def claim(self, owner: Owner | None = None) -> Claim:
        return self.desk.claim(owner)

    def hold(self) -> Held:
        """A claim of ours that is kept alive."""
        return self.leases.hold(self.claim())

    def hold_again(self, claim: Claim) -> Held:
        """A claim that is kept alive from now on."""
        return self.leases.hold(claim)

    def execute(self) -> None:
        self.executor.execute(self.feed, self.claim(), self.rules, "1.0.0")

    def report(self, claim: Claim, data: JsonObject | None = None) -> SignedReport:
        """A report of ours on a claim, signed."""
        return self.sign(signed_report(claim, data=data).report)

    def finish(
        self,
        claim: Claim,
        data: JsonObject | None = None,
        patience: Callable[[float], bool] | None = None,
    ) -> None:
        """The last two steps of a run: keep its report, and deliver it."""
        record = Record(claim, DEVICE, Phase.REPORT, self.report(claim, data))
        if self.delivery.keep(record, patience or self.patience):
            self.delivery.deliver(claim.token)

    def worker(
        self,
        policy: Policy,
        tickets: Tickets | None = None,
        news: Callable[[], None] = lambda: None,
    ) -> Worker:
        """The device's worker, serving every queue of every storage so far, as equals."""
        worker = Worker(
            rules=self.rules,
            runner=self.runner,
            executor=self.executor,
            policy=policy,
            tickets=tickets or Tickets(),
            shared=self.shared,
            stops=self.stops,
            news=news,
        )
        worker.serve([self.source(desk, worker) for desk in self.desks.values()])
        return worker

    def source(self, desk: Desk, worker: Worker, priority: int = 0) -> Source:
        """The first queue of a storage, as a worker asks it."""
        backend: Any = desk.backend
        queue = desk.queues[0]
        return Source(desk.feed, queue, Ear(backend, queue, self.shared, worker.wake), priority)

    def bell_answer(self) -> set[str]:
        """What the feed's thread was asked for since the last answer."""
        return {str(duty) for duty in self.desk.bell.answer()}

    def claim_of_the_dead(self) -> Claim:
        """A claim that nobody renews any more."""
        self.submit()
        claim = self.claim(other_owner())
        self.clock.advance(TTL / 2)
        self.leases.renew_due()  # ours are alive
        self.clock.advance(TTL / 2 + 1)
        return claim

    def claim_of_ours(self) -> Claim:
        """A claim on a job of its own."""
        self.submit()
        return self.claim()

    def announce(self) -> None:
        """Have the feed's thread announce its devices."""
        self.desk.bell.ring(Duty.ANNOUNCE)
        self.desk.housekeeper.round()

    def state_of(self, job: str) -> State:
        return self.submitter.status(DEVICE, job).state

    def events(self) -> list[EventName]:
        return [each.name for each in self.seen]

    def told(self, name: EventName) -> list[dict[str, Any]]:
        """The fields of each event of one name."""
        return [dict(each.fields) for each in self.seen if each.name is name]

    def written(self) -> dict[str, Any]:
        """The one record that is on the disk of this process."""
        (place,) = self.records.folder.glob("[!.]*.json")
        found: dict[str, Any] = json.loads(place.read_text())
        return found

    def parked(self) -> list[Path]:
        """The files of the reports that no storage takes."""
        return sorted((self.state / "records" / "parked").glob("*/*.json"))
