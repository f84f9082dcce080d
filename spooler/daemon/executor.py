"""One job, from claim to report, as a line of named steps that fill in one record.

    admit -> start -> run                                   stops at the first step that sets an end
    publish -> report -> sign -> keep -> deliver            for a job that has come to an outcome

`start` is the last moment at which the lease must be ours. After `keep` nothing can be lost. No
step tries again by itself: `persist` repeats those that may wait.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

from pydantic_core import to_json

from spooler.daemon.claims.leases import Held
from spooler.daemon.claims.records import Phase, Record
from spooler.daemon.claims.recovery import retry_delay, verdict
from spooler.daemon.control import Control
from spooler.daemon.device_rules import DeviceRules
from spooler.daemon.feeds.feed import Feed
from spooler.daemon.persist import persist
from spooler.daemon.pulse import DELIVERY
from spooler.daemon.shared import Patience, Shared
from spooler.durable import Disk, exists, unavailable
from spooler.errors import (
    BackendUnavailable,
    DeviceUnusable,
    LeaseLost,
    PayloadInvalid,
    RunStopped,
)
from spooler.model.artifact import REFUSED, Artifact
from spooler.model.claim import Claim
from spooler.model.device import Rerun
from spooler.model.job import key_of
from spooler.model.result import Outcome, Report, Result, SignedReport
from spooler.model.run import RunRequest, StopReason
from spooler.model.state import State
from spooler.model.status import Status
from spooler.observe.events import EventName
from spooler.protocols import Runner

Done = TypeVar("Done")

#: Seconds that staging, stopping and delivery may take beyond the run itself.
_AROUND_A_RUN = 60.0

_TOLD = {
    State.DONE: EventName.JOB_FINISHED,
    State.ERROR: EventName.JOB_FAILED,
    State.CANCELLED: EventName.JOB_CANCELLED,
}


@dataclass(frozen=True, slots=True)
class GiveBack:
    """The job goes back to its queue, to be run later.

    `trouble` is what the storage could not do: it gets the job when it can, and the device is free
    for other storages meanwhile. The attempt counts where it does not say `refund`.
    """

    reason: str
    trouble: BackendUnavailable | None = None
    refund: bool = True
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Lost:
    """The job is not ours any more."""

    reason: str


#: What becomes of a claim.
End: TypeAlias = Outcome | GiveBack | Lost


@dataclass(slots=True)
class Work:
    """One job on its way: what each step takes, and fills in."""

    feed: Feed
    held: Held
    rules: DeviceRules
    version: str
    control: Control
    scratch: str
    began: datetime
    since: float
    end: End | None = None
    signed: SignedReport | None = None

    @property
    def outcome(self) -> Outcome:
        """The end of a job that has come to one."""
        if not isinstance(self.end, Outcome):
            raise TypeError(f"job {self.held.claim.job.id} has no outcome")
        return self.end


Step: TypeAlias = Callable[[Work], None]


class Executor:
    """Executes the claims of one device, one after the other. Nothing is carried over."""

    def __init__(self, runner: Runner, shared: Shared, state: Path, patience: Patience) -> None:
        """`state` is the daemon's folder; `patience` ends when the run is not to be finished."""
        self._runner = runner
        self._shared = shared
        self._scratch = state / "scratch"
        self._files = state / "files"
        self._disk = Disk()
        self._patience = patience
        self._control: Control | None = None
        self.before: tuple[Step, ...] = (self.admit, self.start, self.run)
        self.after: tuple[Step, ...] = (
            self.publish,
            self.report,
            self.sign,
            self.keep,
            self.deliver,
        )

    def interrupt(self, reason: StopReason) -> None:
        """End the run that is going on, if any."""
        control = self._control
        if control is not None:
            control.stop(reason)

    def execute(self, feed: Feed, claim: Claim, rules: DeviceRules, version: str) -> None:
        """See a claimed job through to its end. Raises DeviceUnusable after giving it back."""
        work = self._take_on(feed, claim, rules, version)
        unusable: DeviceUnusable | None = None
        try:
            for step in self.before:
                step(work)
                if work.end is not None:
                    break
        except DeviceUnusable as error:
            unusable, work.end = error, GiveBack(str(error))
        self._control = None
        match work.end:
            case Outcome():
                self._see_through(work)
            case GiveBack():
                self._give_back(work, work.end)
            case Lost(reason):
                self._lose(work, reason)
        _clear(work.scratch)
        if unusable is not None:
            raise unusable

    def _see_through(self, work: Work) -> None:
        for step in self.after:
            step(work)
        seconds = round(self._shared.clock.monotonic() - work.since, 6)
        reason = work.outcome.reason or None
        self._tell(_TOLD[work.outcome.state], work, seconds=seconds, reason=reason)

    def _take_on(self, feed: Feed, claim: Claim, rules: DeviceRules, version: str) -> Work:
        """Keep the lease from now on, and listen to what may stop the run."""
        held: Held | None = None

        def note(text: str) -> None:
            about = {"device": rules.name, "job": claim.job.id, "attempt": claim.attempt}
            self._shared.observer.emit(EventName.JOB_PROGRESS, **about, text=text)
            if held is not None:
                feed.leases.show(held, text)

        control = Control(note)
        self._control = control
        held = feed.leases.hold(claim, control.stop)
        scratch = f"{self._scratch}/{claim.job.key}.{claim.lease.token}"
        began = self._shared.clock.now()
        since = self._shared.clock.monotonic()
        work = Work(feed, held, rules, version, control, scratch, began, since)
        self._tell(EventName.JOB_CLAIMED, work)
        return work

    # --- before there is an outcome ---------------------------------------------------------

    def admit(self, work: Work) -> None:
        """Refuse what is not to be run at all."""
        claim = work.held.claim
        if claim.cancelled:
            work.end = Outcome(State.CANCELLED, "withdrawn by its submitter before it ran")
        elif claim.job.defect:
            work.end = Outcome(State.ERROR, claim.job.defect)

    def start(self, work: Work) -> None:
        """Note in the storage that hardware is about to be touched; the lease must be ours."""
        seconds = self._wanted(work) + _AROUND_A_RUN
        try:
            work.feed.leases.started(work.held, seconds)
        except LeaseLost as error:
            work.end = Lost(str(error))
            return
        except BackendUnavailable as error:
            work.end = GiveBack(f"its start could not be recorded: {error}", error)
            return
        if not work.feed.backend.traits.keeps_claims:
            record = Record(work.held.claim, work.rules.name)
            try:
                self._find_room(work, lambda: work.feed.records.keep(record))
            except BackendUnavailable as error:
                work.end = GiveBack(str(error))
                return
        self._tell(EventName.JOB_STARTED, work)

    def run(self, work: Work) -> None:
        """Have the handler run the job, for as long as device, job and lease allow."""
        claim, allowed = work.held.claim, self._allowed(work)
        self._shared.pulse.run()
        request = RunRequest(claim.job.id, claim.attempt, claim.job.payload, allowed, work.scratch)
        try:
            outcome = self._runner.run(request, work.control)
            work.end = self._cut_off(outcome, work) if outcome.died else outcome
        except PayloadInvalid as error:
            work.end = Outcome(State.ERROR, str(error))
        except RunStopped as stopped:
            work.end = self._stopped(StopReason(stopped.reason), work, allowed)

    def _cut_off(self, outcome: Outcome, work: Work) -> End:
        """What the device's policy says of a run whose process has died, as of one whose daemon."""
        if work.rules.rerun is not Rerun.ALWAYS:
            return outcome
        claim = work.held.claim
        final = verdict(claim, work.rules, outcome.reason)
        if final is not None:
            return final
        return GiveBack(outcome.reason, refund=False, delay=retry_delay(claim.attempt))

    def _wanted(self, work: Work) -> float:
        """Seconds that device and job allow a run."""
        limit = work.held.claim.job.limits.timeout
        return work.rules.timeout if limit is None else min(work.rules.timeout, limit)

    def _allowed(self, work: Work) -> float:
        """Seconds that this run may take, before the deadline of its storage too."""
        until, wanted = work.held.claim.until, self._wanted(work)
        if until is None:
            return wanted
        left = until - self._shared.clock.monotonic() - _AROUND_A_RUN
        return min(wanted, max(left, 0.0))

    def _stopped(self, reason: StopReason, work: Work, allowed: float) -> End:
        if reason is StopReason.LEASE_LOST:
            return Lost(work.held.lost or "another daemon took the job over")
        if reason is StopReason.CANCELLED:
            return Outcome(State.CANCELLED, "withdrawn by its submitter while it ran")
        if reason is StopReason.TIMEOUT:
            whose = "job" if allowed == self._wanted(work) else "storage"
            whose = "device" if allowed == work.rules.timeout else whose
            return Outcome(State.ERROR, f"timed out after {allowed:g} s ({whose} limit)")
        if work.rules.rerun is Rerun.ALWAYS:
            return GiveBack("the daemon was stopped")
        return Outcome(
            State.ERROR,
            "the daemon was stopped during the run, and this device does not re-run started "
            "jobs. Submit the job again.",
        )

    # --- after there is one -----------------------------------------------------------------

    def publish(self, work: Work) -> None:
        """Move published files out of the scratch folder, before anything is said of them.

        They stay on this machine, below `files`, until a broker carries them further. One that is
        gone costs its own place in the result, and not the data that were measured with it.
        """
        result = work.outcome.result
        if work.outcome.state is State.ERROR:
            self._keep_refused(work)
        if result is None or not result.artifacts:
            return
        folder = self._kept_at(work)
        kept: list[Artifact] = []
        lost: list[Artifact] = []
        for each in result.artifacts:
            there = self._move(f"{work.scratch}/{each.path}", f"{folder}/{each.path}", work)
            (kept if there else lost).append(each)
        if not lost:
            return
        names = ", ".join(each.path for each in lost)
        reason = f"Done, but these published files were gone at the end: {names}"
        work.end = replace(work.outcome, reason=reason, result=Result(result.data, tuple(kept)))

    def _keep_refused(self, work: Work) -> None:
        """Keep what was measured though no report can carry it, and say where it is."""
        source, target = f"{work.scratch}/{REFUSED}", f"{self._kept_at(work)}/{REFUSED}"
        if not (exists(source) or exists(target)) or not self._move(source, target, work):
            return
        place = "/".join(Path(target).parts[-4:])
        reason = f"{work.outcome.reason}; what the handler returned is kept on its machine: {place}"
        work.end = replace(work.outcome, reason=reason)

    def _kept_at(self, work: Work) -> str:
        job = work.held.claim.job
        device = key_of(work.rules.name)
        return f"{self._files}/{device}/{job.key}.{work.held.claim.attempt}"

    def _move(self, source: str, target: str, work: Work) -> bool:
        """A full disk is waited for: the run is over, and its files are part of its result."""

        def move() -> bool:
            try:
                if exists(target) and not exists(source):  # moved before something failed
                    self._disk.settle(Path(target).parent)
                    return True
                self._disk.keep(source, target)
            except FileNotFoundError:
                return False
            except OSError as error:
                raise unavailable(error, target) from error
            return True

        try:
            return self._find_room(work, move)
        except BackendUnavailable:
            return False

    def report(self, work: Work) -> None:
        """See that the storage can hold the result; data that it cannot hold stay with us."""
        outcome, largest = work.outcome, work.feed.backend.traits.largest_report
        if largest is None or outcome.result is None:
            return
        data = to_json(outcome.result.data)
        if len(data) <= largest:
            return
        place = f"{self._kept_at(work)}/result.json"

        def keep() -> None:
            try:
                self._disk.make_folder(Path(place).parent)
                self._disk.publish(place, data, mark=work.held.claim.lease.token)
            except OSError as error:
                raise unavailable(error, place) from error

        where = f"it is kept on the daemon's machine: {place}"
        try:
            self._find_room(work, keep)
        except BackendUnavailable as error:
            where = f"it could not be kept either: {error}"
        reason = (
            f"The run is done, but its result has {len(data)} bytes and the storage holds at most "
            f"{largest}; {where}"
        )
        work.end = Outcome(State.ERROR, reason)

    def sign(self, work: Work) -> None:
        """Make the report, and sign it."""
        claim, outcome = work.held.claim, work.outcome
        report = Report(
            claim.job.id,
            claim.job.queue,
            work.rules.name,
            work.version,
            claim.attempt,
            str(claim.lease.owner),
            Status(outcome.state, outcome.reason, work.began, self._shared.clock.now()),
            outcome.result,
            digest=claim.job.digest,
            again=outcome.again,
        )
        work.signed = self._shared.sign(report)

    def keep(self, work: Work) -> None:
        """Make the report safe; from now on nothing of it can be lost."""
        record = Record(work.held.claim, work.rules.name, Phase.REPORT, work.signed)
        work.feed.delivery.keep(record, self._patience)
        self._shared.pulse.beat(DELIVERY)

    def deliver(self, work: Work) -> None:
        """Bring the report to the storage, or leave it to the feed's thread."""
        work.feed.delivery.deliver(work.held.claim.lease.token)

    def _find_room(self, work: Work, action: Callable[[], Done]) -> Done:
        """Do something on our own disk, as soon as it has room. Raises BackendUnavailable."""
        full = partial(self._shared.room.missing, job=work.held.claim.job.id)
        return persist(action, self._patience, full)

    def _lose(self, work: Work, reason: str) -> None:
        """Let go of a claim; what is written down of it is past."""
        try:
            work.feed.returns.forget(work.held.claim)
        except BackendUnavailable as error:  # of our own disk
            self._shared.room.missing(error, job=work.held.claim.job.id)
        self._tell(EventName.JOB_LOST, work, reason=reason)

    # --- back to the queue ------------------------------------------------------------------

    def _give_back(self, work: Work, end: GiveBack) -> None:
        feed, claim, trouble = work.feed, work.held.claim, end.trouble
        reason, refund = end.reason, end.refund
        if trouble is None:
            try:
                feed.returns.give_back(claim, reason, refund=refund, delay=end.delay)
            except LeaseLost as error:
                self._tell(EventName.JOB_LOST, work, reason=str(error))
                return
            except BackendUnavailable as error:
                trouble = error
        if trouble is not None:
            feed.outage.noticed(trouble, claim.job.queue, device=work.rules.name)
            feed.returns.give_back_later(claim, reason, trouble, refund=refund)
        self._tell(
            EventName.JOB_RELEASED if refund else EventName.JOB_REQUEUED, work, reason=reason
        )

    def _tell(self, event: EventName, work: Work, **fields: object) -> None:
        claim = work.held.claim
        self._shared.observer.emit(
            event, device=work.rules.name, job=claim.job.id, attempt=claim.attempt, **fields
        )


def _clear(scratch: str) -> None:
    """Remove a run's folder. It is made by whoever uses it: most runs need none."""
    if exists(scratch):
        shutil.rmtree(scratch, ignore_errors=True)
