"""One job, from claim to report: check, run, publish, sign, deliver."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from spooler.daemon.backoff import Backoff, spread
from spooler.daemon.claims.leases import Held, LeaseKeeper
from spooler.daemon.control import Control
from spooler.daemon.device_rules import DeviceRules
from spooler.daemon.outage import Outage
from spooler.daemon.reports.delivery import Delivery
from spooler.daemon.room import Room
from spooler.durable import Disk, exists, unavailable
from spooler.errors import (
    BackendUnavailable,
    DeviceUnusable,
    LeaseLost,
    PayloadInvalid,
    RunStopped,
)
from spooler.model.artifact import Artifact
from spooler.model.claim import Claim
from spooler.model.device import Rerun
from spooler.model.result import Outcome, Report, Result
from spooler.model.run import RunRequest, StopReason
from spooler.model.state import State
from spooler.model.status import Status
from spooler.observe.events import EventName, Observer
from spooler.protocols import Backend, Clock, ReportSigner, Runner

#: Seconds that a job waits after an attempt that its device's policy lets run again.
RETRY_AFTER = 5.0

_TOLD = {
    State.DONE: EventName.JOB_FINISHED,
    State.ERROR: EventName.JOB_FAILED,
    State.CANCELLED: EventName.JOB_CANCELLED,
}


@dataclass(frozen=True, slots=True)
class _GiveBack:
    """The job goes back to its queue, to be run later."""

    reason: str
    refund: bool
    delay: float = 0.0


#: What becomes of a claim: an outcome to report, a release, or None when it is not ours any more.
_Verdict = Outcome | _GiveBack | None


class Executor:
    """Executes the claims of one device, one after the other. Nothing is carried over."""

    def __init__(
        self,
        *,
        backend: Backend,
        runner: Runner,
        keeper: LeaseKeeper,
        delivery: Delivery,
        sign: ReportSigner,
        observer: Observer,
        outage: Outage,
        room: Room,
        clock: Clock,
        state: Path,
        disk: Disk,
        patience: Callable[[float], bool],
    ) -> None:
        self._backend = backend
        self._runner = runner
        self._keeper = keeper
        self._delivery = delivery
        self._sign = sign
        self._observer = observer
        self._outage = outage
        self._room = room
        self._clock = clock
        self._scratch = state / "scratch"
        self._files = state / "files"
        self._disk = disk
        self._patience = patience
        self._control: Control | None = None

    def interrupt(self, reason: StopReason) -> None:
        """End the run that is going on, if any."""
        control = self._control
        if control is not None:
            control.stop(reason)

    def execute(self, claim: Claim, rules: DeviceRules, version: str) -> None:
        """See a claimed job through to its end. Raises DeviceUnusable after giving it back."""
        began = self._clock.now()
        since = self._clock.monotonic()
        self._tell(EventName.JOB_CLAIMED, claim)
        held: Held | None = None

        def note(text: str) -> None:
            self._tell(EventName.JOB_PROGRESS, claim, text=text)
            if held is not None:
                held.progress = text

        control = Control(note)
        self._control = control
        held = self._keeper.hold(claim, control.stop)
        unusable: DeviceUnusable | None = None
        try:
            verdict = self._run(held, rules, control)
        except DeviceUnusable as error:
            unusable, verdict = error, _GiveBack(str(error), refund=True)
        self._control = None
        if isinstance(verdict, Outcome):
            self._report(held, verdict, version, began, self._clock.monotonic() - since)
        elif verdict is not None:
            self._give_back(held, verdict)
        self._keeper_done(held, verdict)
        if unusable is not None:
            raise unusable

    def _run(self, held: Held, rules: DeviceRules, control: Control) -> _Verdict:
        claim = held.claim
        if claim.cancelled:
            return Outcome(State.CANCELLED, "withdrawn by its submitter before it ran")
        if claim.job.defect:
            return Outcome(State.ERROR, claim.job.defect)
        # Made by whoever uses it: most runs need none.
        scratch = f"{self._scratch}/{claim.job.id}.{claim.token}"
        try:
            if not self._start(held):
                return None
            self._tell(EventName.JOB_STARTED, claim)
            request = RunRequest(
                claim.job.id, claim.attempt, claim.job.payload, rules.timeout, scratch
            )
            return self._with_files(claim, self._runner.run(request, control), scratch)
        except PayloadInvalid as error:
            return Outcome(State.ERROR, str(error))
        except RunStopped as stopped:
            return self._stopped(StopReason(stopped.reason), claim, rules)
        finally:
            if exists(scratch):
                shutil.rmtree(scratch, ignore_errors=True)

    def _with_files(self, claim: Claim, outcome: Outcome, scratch: str) -> Outcome:
        """Move published files out of the scratch folder, before anything is said of them.

        They stay on this machine, below `files`, until a broker carries them further. One that is
        gone costs its own place in the result, and not the data that were measured with it.
        """
        result = outcome.result
        if result is None or not result.artifacts:
            return outcome
        folder = f"{self._files}/{claim.job.device}/{claim.job.id}.{claim.attempt}"
        kept: list[Artifact] = []
        lost: list[Artifact] = []
        for each in result.artifacts:
            there = self._keep(f"{scratch}/{each.path}", f"{folder}/{each.path}", claim)
            (kept if there else lost).append(each)
        if not lost:
            return outcome
        names = ", ".join(each.path for each in lost)
        reason = f"Done, without files that were published and then not there any more: {names}"
        return Outcome(outcome.state, reason, Result(result.data, tuple(kept)))

    def _keep(self, source: str, target: str, claim: Claim) -> bool:
        """A full disk is waited for: the run is over, and its files are part of its result."""
        backoff = Backoff()
        while True:
            try:
                if exists(target) and not exists(source):  # moved before something failed
                    self._disk.settle(Path(target).parent)
                    return True
                self._disk.keep(source, target)
            except FileNotFoundError:
                return False
            except OSError as error:
                self._room.missing(unavailable(error, target), job=claim.job.id)
                if not self._patience(backoff.wait()):
                    return False
            else:
                return True

    def _start(self, held: Held) -> bool:
        """Note in the storage that hardware is about to be touched; the lease must be ours."""
        backoff = Backoff()
        while True:
            try:
                self._keeper.started(held)
            except LeaseLost as error:
                self._tell(EventName.JOB_LOST, held.claim, reason=str(error))
                return False
            except BackendUnavailable as error:
                self._outage.noticed(error, device=held.claim.job.device)
                if not self._patience(backoff.wait()):
                    return False  # stopping: the next process finds the claim and gives it back
            else:
                return True

    def _stopped(self, reason: StopReason, claim: Claim, rules: DeviceRules) -> _Verdict:
        if reason is StopReason.LEASE_LOST:
            self._tell(EventName.JOB_LOST, claim, reason="another daemon has taken the job over")
            return None
        if reason is StopReason.CANCELLED:
            return Outcome(State.CANCELLED, "withdrawn by its submitter while it ran")
        if reason is StopReason.TIMEOUT:
            limit = f"{rules.timeout:g} s"
            return Outcome(
                State.ERROR, f"stopped after {limit}, the longest that this device allows"
            )
        if rules.rerun is Rerun.ALWAYS:
            return _GiveBack("the daemon was stopped", refund=True)
        return Outcome(
            State.ERROR,
            "the daemon was stopped while the job ran, and this device does not repeat "
            "a job that has started; submit it again",
        )

    def _report(
        self, held: Held, outcome: Outcome, version: str, began: datetime, seconds: float
    ) -> None:
        claim = held.claim
        status = Status(outcome.state, outcome.reason, began, self._clock.now())
        report = Report(
            claim.job.id,
            claim.job.device,
            version,
            claim.attempt,
            str(claim.owner),
            status,
            outcome.result,
        )
        self._delivery.finish(held, self._sign(report), self._patience)
        reason = outcome.reason or None
        self._tell(_TOLD[outcome.state], claim, seconds=round(seconds, 6), reason=reason)

    def _give_back(self, held: Held, why: _GiveBack) -> None:
        backoff = Backoff()
        while True:
            try:
                with held.lock:
                    self._backend.release(
                        held.claim, why.reason, refund=why.refund, delay=why.delay
                    )
                    held.over = True
            except LeaseLost as error:
                self._tell(EventName.JOB_LOST, held.claim, reason=str(error))
                return
            except BackendUnavailable as error:
                self._outage.noticed(error, device=held.claim.job.device)
                if not self._patience(backoff.wait()):
                    return
            else:
                self._tell(EventName.JOB_RELEASED, held.claim, reason=why.reason)
                return

    def _keeper_done(self, held: Held, verdict: _Verdict) -> None:
        """A report that could not be delivered keeps its lease; everything else lets go."""
        if not isinstance(verdict, Outcome):
            self._keeper.drop(held)

    def _tell(self, event: EventName, claim: Claim, **fields: object) -> None:
        self._observer.emit(
            event, device=claim.job.device, job=claim.job.id, attempt=claim.attempt, **fields
        )


def retry_delay(attempt: int) -> float:
    """Seconds before the next attempt after attempt number `attempt`, doubling, with jitter."""
    return spread(RETRY_AFTER * 2.0 ** min(attempt - 1, 6))
