"""What must be true after a daemon has died anywhere, and another has recovered."""

from __future__ import annotations

from dataclasses import dataclass

from spooler.app.audit import verify_audit
from spooler.daemon.claims.records import Phase, Record
from tests.faults.journeys import Journey
from tests.faults.nodes import value_of
from tests.faults.world import Shown, World

ENDS = {"done", "error", "cancelled"}


@dataclass(frozen=True)
class Frozen:
    """What the dead daemon has left, while everybody else stands still."""

    shown: Shown
    kept: dict[str, Record]
    parked: set[str]
    executions: int
    broken: list[str]

    @classmethod
    def of(cls, world: World) -> Frozen:
        return cls(
            world.view(),
            world.records(Phase.REPORT),
            set(world.records(Phase.PARKED)),
            len(world.executions()),
            world.broken(ended=False),
        )


def problems(world: World, journey: Journey, frozen: Frozen) -> list[str]:
    """Every broken promise, as a sentence; none when all is well."""
    found = [f"after the kill: {each}" for each in frozen.broken]
    found += [f"at the end: {each}" for each in world.broken(ended=True)]
    found += _end(world, frozen)
    found += _reports(world, journey, frozen)
    found += _executions(world, journey, frozen)
    trail = verify_audit(world.settings(journey.dying, "done", journey.rerun))
    found += [f"audit trail: {each}" for each in trail.problems]
    found += [] if trail.checkpoints else ["audit trail: it was not signed at the orderly end"]
    return found


def _end(world: World, frozen: Frozen) -> list[str]:
    now = world.view()
    found = [] if now.state in ENDS else [f"the job has no end, it is {now.state}"]
    if frozen.shown.state in ENDS and now != frozen.shown:
        found.append(f"an end that was visible has changed from {frozen.shown} to {now}")
    if now.state == "done" and now.value not in {run[2] for run in world.executions()}:
        found.append(f"the published value {now.value!r} is of no execution")
    if now.state == "done" and not now.verified:
        found.append("the signature of the result does not verify")
    if now.state != "done" and now.value:
        found.append(f"there is a result for a job that is {now.state}")
    return found


def _reports(world: World, journey: Journey, frozen: Frozen) -> list[str]:
    """What was kept is delivered, or parked where somebody who could not see it was faster."""
    parked, now = world.records(Phase.PARKED), world.view()
    found = [f"the report {token} still waits" for token in world.records(Phase.REPORT)]
    for token, record in frozen.kept.items():
        if record.signed is None:
            found.append(f"the record {token} has no report")
            continue
        said = str(record.signed.report.status.state), value_of(record)
        if token not in parked and said != (now.state, now.value):
            found.append(f"the kept report {token} is lost")
        if token in parked and not (journey.second == "far" or journey.late):
            found.append(f"the kept report {token} was parked, and nobody else has ended the job")
    found += [f"the parked report {token} is gone" for token in frozen.parked - set(parked)]
    return found


def _executions(world: World, journey: Journey, frozen: Frozen) -> list[str]:
    runs, state = len(world.executions()), world.view().state
    if frozen.kept and journey.second != "far" and runs > frozen.executions:
        return ["it was measured again, although the report was kept"]
    if journey.rerun != "always":
        return [f"{runs} executions under {journey.rerun}"] if runs > 1 else []
    if runs > 3:
        return [f"{runs} executions with max_attempts = 3"]
    return ["done without an execution"] if state == "done" and not runs else []
