"""A daemon's parts on a memory storage, for tests that take them one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spooler.app.parts import report_signer
from spooler.daemon.claims.leases import LeaseKeeper
from spooler.daemon.claims.recovery import Recovery
from spooler.daemon.device_rules import DeviceRules
from spooler.daemon.executor import Executor
from spooler.daemon.outage import Outage
from spooler.daemon.reports.delivery import Delivery
from spooler.daemon.reports.outbox import Outbox
from spooler.daemon.room import Room
from spooler.durable import Disk
from spooler.errors import BackendUnavailable
from spooler.model.claim import Claim, Owner
from spooler.model.device import DeviceCard
from spooler.model.result import Outcome, Result
from spooler.model.run import RunRequest
from spooler.model.state import State
from spooler.observe.events import EventName, Observation, Observer
from spooler.protocols import RunControl
from spooler.signing.keys import generate
from spooler.storage.liveness import this_process
from spooler.storage.memory import MemoryBackend, MemoryStorage, MemorySubmitter
from spooler.testing.bench import DEVICE, TTL, new_token
from spooler.testing.clock import ManualClock

KEY = generate("lab")


class Away:
    """A backend around a backend, whose storage can be away, or lose an answer."""

    def __init__(self, inner: MemoryBackend) -> None:
        self.inner = inner
        self.away = False
        #: Verbs that are done, and whose answer is lost.
        self.deaf: set[str] = set()
        #: Verbs that fail and do nothing.
        self.refused: set[str] = set()
        self.calls: list[str] = []

    def __getattr__(self, verb: str) -> Any:
        real = getattr(self.inner, verb)
        if not callable(real):
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(verb)
            if self.away or verb in self.refused:
                raise BackendUnavailable("the storage is away; try again later")
            answer = real(*args, **kwargs)
            if verb in self.deaf:
                raise BackendUnavailable("the answer was lost; try again later")
            return answer

        return call


class Scripted:
    """A runner whose next run is what the test says."""

    calibrates = False

    def __init__(self, act: Callable[[RunRequest, RunControl], Outcome] | None = None) -> None:
        self.act = act or (lambda *_: Outcome(State.DONE, "", Result({"value": 1})))
        self.requests: list[RunRequest] = []

    def open(self) -> DeviceCard:
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


@dataclass
class Parts:
    """Everything of one daemon but its threads."""

    folder: Path
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    clock: ManualClock = field(default_factory=ManualClock)
    rules: DeviceRules = field(default_factory=lambda: DeviceRules(DEVICE))
    owner: Owner = field(default_factory=this_process)
    runner: Scripted = field(default_factory=Scripted)

    def __post_init__(self) -> None:
        self.seen: list[Observation] = []
        self.waits: list[float] = []
        self.backend = Away(MemoryBackend(self.storage, self.clock))
        self.submitter = MemorySubmitter(self.storage, self.clock)
        self.backend.announce(DeviceCard(DEVICE), self.clock.now())
        observer = Observer(self.seen.append, clock=self.clock)
        self.keeper = LeaseKeeper(self.backend, self.clock, TTL)
        self.outbox = Outbox(self.folder / "outbox")
        self.outage = Outage(observer, self.clock)
        self.room = Room(self.folder, Disk(), observer, self.clock)
        self.delivery = Delivery(
            backend=self.backend,
            outbox=self.outbox,
            keeper=self.keeper,
            observer=observer,
            outage=self.outage,
            clock=self.clock,
            room=self.room,
        )
        common: dict[str, Any] = {
            "backend": self.backend,
            "keeper": self.keeper,
            "delivery": self.delivery,
            "sign": report_signer(KEY),
            "observer": observer,
            "clock": self.clock,
            "patience": self.patience,
        }
        self.executor = Executor(
            runner=self.runner,
            state=self.folder,
            disk=Disk(),
            outage=self.outage,
            room=self.room,
            **common,
        )
        self.recovery = Recovery(owner=self.owner, outage=self.outage, **common)

    def patience(self, seconds: float) -> bool:
        """Waits are noted and not waited for; after many the test's daemon stops."""
        self.waits.append(seconds)
        self.clock.advance(seconds)
        return len(self.waits) < 20

    def submit(self, **payload: Any) -> str:
        return self.submitter.submit(DEVICE, payload)

    def claim(self, owner: Owner | None = None) -> Claim:
        claim = self.backend.inner.claim(DEVICE, owner or self.owner, TTL, new_token())
        assert claim is not None
        return claim

    def execute(self) -> None:
        self.executor.execute(self.claim(), self.rules, "1.0.0")

    def events(self) -> list[EventName]:
        return [each.name for each in self.seen]
