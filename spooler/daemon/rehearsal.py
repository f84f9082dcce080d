"""The dry run: the whole path of each waiting job, with nothing changed anywhere."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from spooler.daemon.control import Control
from spooler.daemon.device_rules import DeviceRules
from spooler.errors import PayloadInvalid, RunStopped
from spooler.model.claim import Claim, Lease, Owner
from spooler.model.job import Job, Queue
from spooler.model.result import Outcome, Report, SignedReport
from spooler.model.run import RunRequest
from spooler.model.state import State
from spooler.model.status import Status
from spooler.model.storage import Write
from spooler.protocols import Backend, Clock, ReportSigner, Runner


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What would become of one job."""

    job: Job
    signed: SignedReport
    writes: tuple[Write, ...]


def rehearse(
    *,
    backend: Backend,
    queue: Queue,
    runner: Runner,
    rules: DeviceRules,
    owner: Owner,
    sign: ReportSigner,
    clock: Clock,
    more: Callable[[], bool],
) -> Iterator[Rehearsed]:
    """Go through the waiting jobs of one queue for as long as `more` says so."""
    version = "dry-run"
    for job in backend.peek(queue):
        if not more():
            return
        claim = Claim(job, Lease(uuid.uuid4().hex[:16], owner, 0.0), 1)
        began = clock.now()
        outcome = _outcome(runner, claim, rules)
        report = Report(
            job.id,
            job.queue,
            rules.name,
            version,
            1,
            str(owner),
            Status(outcome.state, outcome.reason, began, clock.now()),
            outcome.result,
            digest=job.digest,
        )
        signed = sign(report)
        yield Rehearsed(job, signed, backend.preview(claim, signed))


def _outcome(runner: Runner, claim: Claim, rules: DeviceRules) -> Outcome:
    job = claim.job
    if job.withdrawn:
        return Outcome(State.CANCELLED, "withdrawn by its submitter before it ran")
    if job.defect:
        return Outcome(State.ERROR, job.defect)
    with tempfile.TemporaryDirectory(prefix="spooler-dry-run.") as scratch:
        request = RunRequest(job.id, claim.attempt, job.payload, rules.timeout, scratch)
        try:
            return runner.dry_run(request, Control())
        except PayloadInvalid as error:
            return Outcome(State.ERROR, str(error))
        except RunStopped as stopped:
            return Outcome(State.ERROR, f"the dry run was ended: {stopped.reason}")
