"""Daemons without threads, on one storage, with faults between any two steps.

A node is what one daemon is made of: worker, executor, leases, outbox, delivery, recovery. Its
steps are the calls of the storage (memory) and the file operations (folder, outbox); `Chaos`
refuses one, loses the answer of one, or kills the node at one.
"""

from __future__ import annotations

import errno
import json
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from spooler import durable
from spooler.app.parts import report_signer
from spooler.daemon.claims.leases import LeaseKeeper
from spooler.daemon.claims.recovery import Recovery
from spooler.daemon.device_rules import DeviceRules
from spooler.daemon.executor import Executor
from spooler.daemon.outage import Outage
from spooler.daemon.reports.delivery import Delivery
from spooler.daemon.reports.outbox import Outbox
from spooler.daemon.room import Room
from spooler.daemon.tickets import Tickets
from spooler.daemon.worker import Worker
from spooler.errors import BackendUnavailable, RunStopped
from spooler.model.records import report_from_json
from spooler.model.result import Outcome, Result
from spooler.model.run import RunRequest, StopReason
from spooler.model.state import State
from spooler.observe.events import Observer
from spooler.protocols import Backend, RunControl
from spooler.signing.jws import payload
from spooler.signing.keys import generate
from spooler.testing.bench import DEVICE, TTL, other_owner
from spooler.testing.clock import ManualClock
from tests.daemon.parts import Scripted
from tests.faults.points import AFTER, BEFORE, Point, TracedOs

KEY = generate("lab")


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


class Chaos:
    """Counts the steps of all nodes and spoils one of them."""

    def __init__(self) -> None:
        self._left = 0
        self._kind = ""
        self._sparing = False
        #: The nodes that are dead; whatever they still try, they do not do.
        self.dead = False

    def arm(self, kind: str, after: int) -> None:
        """Spoil the step after `after` more: "refuse" it, "lose" its answer, or "kill"."""
        self._kind, self._left = kind, after

    @property
    def armed(self) -> bool:
        """Whether the fault has not come yet."""
        return bool(self._kind)

    def disarm(self) -> None:
        self._kind, self.dead = "", False

    def step(self, when: str, error: Callable[[], Exception]) -> None:
        """A step is about to be done, or done."""
        if self._sparing:
            return
        if self.dead:
            raise Killed
        if not self._kind or (self._kind, when) in {("refuse", AFTER), ("lose", BEFORE)}:
            return
        self._left -= 1
        if self._left > 0:
            return
        kind, self._kind = self._kind, ""
        if kind == "kill":
            self.dead = True
            raise Killed
        raise error()

    @contextmanager
    def sparing(self) -> Iterator[None]:
        """What somebody else does meanwhile."""
        self._sparing = True
        try:
            yield
        finally:
            self._sparing = False

    def files(self, root: str) -> TracedOs:
        """`os` for the nodes: every change of a file is a step."""

        def at(seen: Any) -> None:
            point = seen if isinstance(seen, Point) else seen.point
            if point.when in {BEFORE, AFTER}:
                self.step(point.when, lambda: OSError(errno.EIO, "a broken disk", point.label))

        return TracedOs(root, at)

    @contextmanager
    def spoiling(self, root: Path) -> Iterator[TracedOs]:
        """Have file operations go through here."""
        real, files = durable.os, self.files(str(root))
        durable.os = files  # type: ignore[assignment]
        try:
            yield files
        finally:
            durable.os = real


class Chaotic:
    """A backend whose verbs are steps (`steps`), and whose writes are noted by `wrote`."""

    def __init__(
        self, inner: Backend, chaos: Chaos, wrote: Callable[[str, Any, Any], None], *, steps: bool
    ) -> None:
        self.inner = inner
        self.away = False
        self.traits = replace(inner.traits, push=False)
        self._chaos = chaos
        self._wrote = wrote
        self._steps = steps

    def __getattr__(self, verb: str) -> Any:
        real = getattr(self.inner, verb)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.away:
                raise BackendUnavailable("the storage is away; try again later")
            self._step(BEFORE)
            answer = real(*args, **kwargs)
            self._wrote(verb, args, answer)
            self._step(AFTER)
            return answer

        return call

    def _step(self, when: str) -> None:
        if self._steps:
            self._chaos.step(when, lambda: BackendUnavailable("the answer was lost; try again"))


class Node:
    """One daemon process."""

    def __init__(
        self,
        folder: Path,
        backend: Chaotic,
        clock: ManualClock,
        rules: DeviceRules,
        ran: Callable[[str, str], None],
    ) -> None:
        self.folder = folder
        self.backend = backend
        self.clock = clock
        self.owner = other_owner()
        self.stopped = False
        #: The values of the runs of this turn that came to their end.
        self.finished: list[str] = []
        self.during: Callable[[], None] = lambda: None
        self._ran = ran
        self._waits = 0
        observer = Observer(clock=clock)
        view: Any = backend
        self.keeper = LeaseKeeper(view, clock, TTL)
        self.outbox = Outbox(folder / "outbox", sync=False)
        outage = Outage(observer, clock)
        folder.mkdir(exist_ok=True)
        room = Room(folder, durable.Disk(sync=False), observer, clock)
        self.delivery = Delivery(
            backend=view,
            outbox=self.outbox,
            keeper=self.keeper,
            observer=observer,
            outage=outage,
            clock=clock,
            room=room,
        )
        common: dict[str, Any] = {
            "backend": view,
            "keeper": self.keeper,
            "delivery": self.delivery,
            "sign": report_signer(KEY),
            "observer": observer,
            "clock": clock,
            "patience": self.patience,
        }
        runner = Scripted(self._run)
        self.executor = Executor(
            runner=runner,
            state=folder,
            disk=durable.Disk(sync=False),
            outage=outage,
            room=room,
            **common,
        )
        self.recovery = Recovery(owner=self.owner, outage=outage, **common)
        self.rules = rules
        self.worker = Worker(
            rules=rules,
            backend=view,
            runner=runner,
            executor=self.executor,
            owner=self.owner,
            ttl=TTL,
            clock=clock,
            observer=observer,
            tickets=Tickets(),
            hurry=threading.Event(),
            once=True,
            outage=outage,
            room=room,
        )

    def patience(self, seconds: float) -> bool:
        """Wait a little; when that does not help, this daemon is being stopped."""
        self.clock.advance(min(seconds, 1.0))
        self._waits += 1
        self.stopped = self._waits > 3
        return not self.stopped

    def _run(self, request: RunRequest, control: RunControl) -> Outcome:
        value = uuid.uuid4().hex
        self._ran(request.job_id, value)
        self.during()
        reason = control.stop_reason
        if reason is not None:
            raise RunStopped(StopReason(reason))
        self.finished.append(value)
        return Outcome(State.DONE, "", Result({"value": value}))

    # --- what its threads do ----------------------------------------------------------------

    def begin(self) -> None:
        """What a daemon does before its first claim."""
        self.delivery.restore()
        self.housekeep()

    def turn(self) -> None:
        """One look at the queue, and the job that is found."""
        self._waits = 0
        self.worker._turn()

    def housekeep(self) -> None:
        self._waits = 0
        self.delivery.retry()
        self.recovery.recover(self.rules, "1.0.0")

    def take_over(self) -> None:
        """The first half of recovery: what is taken over is settled by the next `housekeep`."""
        claim = self.recovery._take(DEVICE)
        if claim is not None:
            self.recovery._unsettled.setdefault(DEVICE, []).append(claim)

    def renew(self) -> None:
        self.keeper.renew_due()

    def parked(self) -> set[str]:
        """The values in the reports that were put aside."""
        found = set()
        for path in (self.folder / "outbox" / "parked").glob("[!.]*.json"):
            report = report_from_json(payload(json.loads(path.read_bytes())["jws"]))
            if report.result is not None:  # else it is the end of a job that was taken over
                found.add(str(report.result.data["value"]))
        return found

    def lose_outbox(self) -> None:
        shutil.rmtree(self.folder / "outbox", ignore_errors=True)


__all__ = ["DEVICE", "Chaos", "Chaotic", "Killed", "Node"]
