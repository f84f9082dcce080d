"""Daemons whose threads are the test's own, on shared storages, with faults between any two steps.

A node is what one daemon is made of, wired as the daemon wires it. What it does is an action: a
thread of its own, of which only one runs at any time, so that everything happens in an order that
can be repeated. Its steps are the calls of the storage and the changes of files; one of them may be
refused, its answer may be lost, the node may die at it, or stand still there while others go on.
"""

from __future__ import annotations

import errno
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spooler.app import parts
from spooler.app.feeds import Ground, OpenFeed, open_feed
from spooler.daemon.claims.records import PARKED, Phase, Record, record_from_json
from spooler.daemon.executor import Executor
from spooler.daemon.feeds.housekeeper import Duty
from spooler.daemon.pulse import Pulse
from spooler.daemon.room import Room
from spooler.daemon.schedule.drain import Drain, Tickets
from spooler.daemon.schedule.turns import Source
from spooler.daemon.schedule.wake import Ear
from spooler.daemon.shared import Shared
from spooler.daemon.worker import Stops, Worker
from spooler.durable import Disk
from spooler.errors import BackendUnavailable, RunStopped
from spooler.model.device import DeviceCard
from spooler.model.result import Outcome, Result
from spooler.model.run import RunRequest, StopReason
from spooler.model.state import State
from spooler.observe.events import Observer
from spooler.protocols import Backend, RunControl
from spooler.settings import Settings
from spooler.signing.jws import payload
from spooler.testing.bench import DEVICE
from spooler.testing.clock import ManualClock
from tests.faults.points import AFTER, BEFORE, Point, Spoiled
from tests.faults.storages import KEY
from tests.faults.verbs import Around

#: Seconds after which an action that neither ends nor stands still is taken for stuck.
_STUCK = 60.0


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


@dataclass(frozen=True)
class Fault:
    """Spoil a step: "refuse" it, "lose" its answer, "kill" the node at it, or have it "stand"."""

    kind: str
    #: The steps that are left alone before.
    after: int


class Action:
    """Something that a node does, in a thread of its own, until it ends or stands still."""

    def __init__(self, chaos: Chaos, body: Callable[[], None], fault: Fault | None) -> None:
        self._chaos = chaos
        self._body = body
        self._kind, self._left = (fault.kind, fault.after) if fault else ("", 0)
        self._dead = False
        self._go, self._rests = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.trouble: BaseException | None = None
        self.ended = False
        self.steps = 0
        #: Whether a step was refused, or its answer lost.
        self.spoiled = False
        #: How often it has stood still, and at which change of a file, if it was one.
        self.stood = 0
        self.at = ""

    @property
    def came(self) -> bool:
        """Whether its fault has come."""
        return not self._kind

    def proceed(self) -> None:
        """Let it go on, and return when it has ended or stands still."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._go.release()
        assert self._rests.acquire(timeout=_STUCK), "a daemon waits for ever"

    def kill(self) -> None:
        """Have it die where it stands."""
        self._dead = True
        self.proceed()

    def _run(self) -> None:
        with self._chaos.acting(self):
            try:
                self._body()
            except BaseException as trouble:  # noqa: BLE001 - for who waits
                self.trouble = trouble
        self.ended = True
        self._rests.release()

    def step(self, when: str, error: Callable[[], Exception]) -> None:
        """A step is about to be done, or done."""
        if self._dead:
            raise Killed
        self.steps += when == AFTER
        if not self._kind or (self._kind, when) in {("refuse", AFTER), ("lose", BEFORE)}:
            return
        self._left -= 1
        if self._left >= 0:
            return
        kind, self._kind = self._kind, ""
        if kind == "stand":
            self.stood += 1
            self._rests.release()
            self._go.acquire()
        elif kind != "kill":
            self.spoiled = True
            raise error()
        if kind == "kill" or self._dead:
            self._dead = True
            raise Killed


class Chaos:
    """Knows which action a step belongs to: the one of the thread that takes it."""

    def __init__(self) -> None:
        self._here = threading.local()

    @property
    def action(self) -> Action | None:
        """What is going on in this thread; None for those who are no daemons."""
        return getattr(self._here, "action", None)

    @contextmanager
    def acting(self, action: Action | None) -> Iterator[None]:
        before, self._here.action = self.action, action
        try:
            yield
        finally:
            self._here.action = before

    def step(self, when: str, error: Callable[[], Exception]) -> None:
        if self.action is not None:
            self.action.step(when, error)

    def at_point(self, point: Point, tear: Callable[[], Any]) -> None:
        """A step of a file; what a torn write leaves is tried by the kill points."""
        del tear
        if self.action is not None:
            self.action.at = point.label
        if point.when in {BEFORE, AFTER}:
            self.step(point.when, lambda: OSError(errno.EIO, "a broken disk", point.label))


class View:
    """One storage as one node sees it; what it does is told to `wrote`."""

    def __init__(
        self,
        name: str,
        inner: Backend,
        chaos: Chaos,
        clock: ManualClock,
        wrote: Callable[[View, str, Any, Any], None],
    ) -> None:
        self.name = name
        self.inner = inner
        #: Whether the storage answers nobody here.
        self.away = False
        #: Whether it takes reports so slowly that they are left to the feed's thread.
        self.slow = False
        #: Called before a report is taken; raises where that one is not.
        self.refuse: Callable[[str, Any, Any], None] = lambda *_: None
        self.process = ""
        self.backend: Any = Around(inner, self._pass)
        self._chaos = chaos
        self._clock = clock
        self._wrote = wrote

    def _pass(self, verb: str, ask: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        if verb == "subscribe":
            return None  # its waker would be a thread that nobody holds
        if self.away and verb != "close":
            raise BackendUnavailable("the storage is away; try again later")
        action = self._chaos.action
        if action is not None:
            action.at = ""
        self._step(BEFORE)
        if verb == "ack":
            self.refuse(self.name, *args)
            self._clock.advance(0.01 if self.slow else 0.0)
        stood = action.stood if action is not None else 0
        try:
            answer = ask()
        except Spoiled as spoiled:
            self._wrote(self, f"{verb} in doubt", args, None)
            raise BackendUnavailable(f"{spoiled}; try again") from None
        except BaseException:
            self._wrote(self, f"{verb} in doubt", args, None)
            raise
        if action is not None:
            action.at = ""
        still = action is not None and action.stood > stood
        self._wrote(self, f"{verb} in doubt" if still else verb, args, answer)
        self._step(AFTER)
        return answer

    def _step(self, when: str) -> None:
        self._chaos.step(when, lambda: BackendUnavailable("the answer was lost; try again"))


class Quick(Drain):
    """Drains the queue; what it waits for passes on the test's clock."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self._time = clock

    def look_again(self, depth: Callable[[], int | None]) -> float | None:
        wait = super().look_again(depth)
        if wait is None:
            return None
        self._time.advance(wait)
        return 0.0


class Scripted:
    """A runner whose runs are what the test says."""

    calibrates, ready = False, True

    def __init__(self, act: Callable[[RunRequest, RunControl], Outcome]) -> None:
        self.run = act
        self.dry_run = act

    def open(self, control: RunControl | None = None) -> DeviceCard:
        del control
        return DeviceCard(DEVICE)

    def load(self) -> None:
        return

    def calibrate(self, timeout: float, control: RunControl) -> Outcome:
        del timeout, control
        return Outcome(State.DONE)

    def drain_output(self) -> None:
        return

    def close(self) -> None:
        return


class Node:
    """One daemon process. `host` is the folder of the machine that it runs on."""

    def __init__(
        self,
        host: Path,
        settings: Settings,
        views: Mapping[str, View],
        clock: ManualClock,
        ran: Callable[[Node, str, str], None],
    ) -> None:
        self.host = host
        self.settings = settings
        self.views = views
        self.folder = settings.state
        self.stopped = False
        #: Whether anything has gone wrong that may be an outage.
        self.troubled = False
        #: What it is doing, while that stands still.
        self.standing: Action | None = None
        #: The values of the runs that came to their end since somebody last looked.
        self.finished: list[str] = []
        self.during: Callable[[], None] = lambda: None
        self._ran = ran
        self._clock = clock
        self._waits = 0
        self.folder.mkdir(parents=True, exist_ok=True)
        self.owner = parts.this_process(self.folder)
        for each in views.values():
            each.process = self.owner.process
        observer = Observer(clock=clock)
        room = Room(self.folder, Disk(), observer, clock)
        shared = Shared(clock, observer, parts.report_signer(KEY), room, Pulse(clock))
        runner = Scripted(self._run)
        self.worker = Worker(
            rules=parts.device_rules(DEVICE, settings.devices[DEVICE], settings),
            runner=runner,
            executor=Executor(runner, shared, self.folder, self._patience),
            policy=Quick(clock),
            tickets=Tickets(),
            shared=shared,
            stops=Stops.new(),
        )
        opened = parts.report_opener(settings, KEY)
        ground = Ground(settings, self.owner, shared, opened, lambda: None, lambda: 10.0)
        self.feeds: dict[str, OpenFeed] = {
            name: open_feed(name, ground, view.backend, {DEVICE: self.worker})
            for name, view in views.items()
        }
        sources = []
        for each in self.feeds.values():
            queue = each.queues[DEVICE]
            sources.append(Source(each.feed, queue, Ear(each.backend, queue, shared, lambda: None)))
        self.worker.serve(sources)

    def _patience(self, seconds: float) -> bool:
        """Wait a little; when that does not help, this daemon is being stopped."""
        self._clock.advance(min(seconds, 1.0))
        self._waits += 1
        self.stopped = self._waits > 3
        return not self.stopped

    def _run(self, request: RunRequest, control: RunControl) -> Outcome:
        value = uuid.uuid4().hex
        self._ran(self, request.job_id, value)
        control.progress("half of it is done")
        self.during()
        reason = control.stop_reason
        if reason is not None:
            raise RunStopped(StopReason(reason))
        self.finished.append(value)
        return Outcome(State.DONE, "", Result({"value": value}))

    # --- what its threads do ----------------------------------------------------------------

    def begin(self) -> None:
        """What a daemon does before its first claim."""
        for each in self.feeds.values():
            each.open()
        self.worker.open()
        for each in self.feeds.values():
            each.housekeeper.begin()

    def turn(self) -> bool:
        """One look at the queues, and the job that is found; whether there may be more."""
        self._waits = 0
        return self.worker.turn()

    def housekeep(self) -> None:
        """Show, recover and deliver, as the feeds' threads do when their timers ask for it."""
        self._waits = 0
        for each in self.feeds.values():
            each.bell.ring(Duty.RECOVER)
            each.housekeeper.round()

    def renew(self) -> None:
        for each in self.feeds.values():
            each.feed.leases.renew_due()

    def die(self) -> None:
        """Let go of what the end of a process lets go of."""
        for each in self.feeds.values():
            each.estates.abandon()

    def cares_for(self) -> set[str]:
        """The processes whose estates it has locked, its own among them."""
        estates = [each for feed in self.feeds.values() for each in feed.estates]
        return {each.folder.parent.name for each in estates}

    # --- its disk ---------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        return sum(each.feed.delivery.waiting for each in self.feeds.values())

    def kept(self) -> dict[str, Record]:
        """The reports that lie in its state folder and wait, by token."""
        return records_in(self.folder, Phase.REPORT)

    def lose_records(self) -> None:
        shutil.rmtree(self.folder / "records", ignore_errors=True)


def records_in(state: Path, phase: Phase) -> dict[str, Record]:
    """The whole records below a state folder, by token."""
    found = {}
    for path in (state / "records").glob("*/*/[!.]*.json"):
        if (path.parent.parent.name == PARKED) != (phase is Phase.PARKED):
            continue
        with suppress(FileNotFoundError):  # delivered just now, by a daemon that is alive
            record = record_from_json(path.read_bytes(), lambda jws, _: payload(jws))
            if record.phase is phase:
                found[record.token] = record
    return found


def value_of(record: Record) -> str:
    """What was measured, as a record has it; "" where nothing was."""
    result = record.signed.report.result if record.signed is not None else None
    return str(result.data["value"]) if result is not None else ""
