"""What must be true after a daemon has died anywhere, and another has recovered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spooler.app.audit import verify_audit
from tests.faults.journeys import Journey
from tests.faults.world import World

ENDS = {"done", "error", "cancelled"}


@dataclass(frozen=True)
class Frozen:
    """What the dead daemon has left, before anybody else has touched it."""

    state: str
    value: str
    kept: dict[str, dict[str, Any]]
    parked: set[str]
    broken: list[str]
    places: list[str]

    @classmethod
    def of(cls, world: World) -> Frozen:
        state, value = world.view()
        return cls(
            state,
            value,
            world.kept("a"),
            world.parked("a"),
            world.documents_broken(),
            _still(world),
        )


def _still(world: World) -> list[str]:
    """The places of the job; looked at again where another daemon has moved it meanwhile."""
    for _ in range(20):
        places = world.places()
        if len(_real(places)) == 1:
            break
    return places


def _real(places: list[str]) -> list[str]:
    """Without the link that is only shown."""
    return [place for place in places if not place.startswith("jobs/running")]


def problems(world: World, journey: Journey, frozen: Frozen) -> list[str]:
    """Every broken promise, as a sentence; none when all is well."""
    found = [f"after the kill: {each}" for each in frozen.broken]
    found += [f"at the end: {each}" for each in world.documents_broken()]
    found += _one_place(frozen.places, "after the kill", ended=False)
    found += _one_place(world.places(), "at the end", ended=True)
    found += _end(world, frozen)
    found += _reports(world, journey, frozen)
    found += _executions(world, journey)
    trail = verify_audit(world.settings("a", "done", journey.rerun))
    found += [f"audit trail: {each}" for each in trail.problems]
    found += [] if trail.checkpoints else ["audit trail: it was not signed at the orderly end"]
    return found


def _one_place(places: list[str], when: str, *, ended: bool) -> list[str]:
    """The job file lies in one place; the link in jobs/running does not count as one."""
    real = _real(places)
    if len(real) != 1:
        return [f"{when} the job lies in {real or 'no place'}"]
    if ended and (not real[0].startswith(("jobs/finished", "jobs/deleted")) or len(places) > 1):
        return [f"{when} the job lies in {places}"]
    return []


def _end(world: World, frozen: Frozen) -> list[str]:
    state, value = world.view()
    found = [] if state in ENDS else [f"the job has no end, it is {state}"]
    if frozen.state in ENDS and (state, value) != (frozen.state, frozen.value):
        found.append(f"an end that was visible has changed from {frozen.state} to {state}")
    measured = {run[2] for run in world.executions() if run[0] == world.job}
    if state == "done" and value not in measured:
        found.append(f"the published value {value!r} is of no execution")
    if state != "done" and value:
        found.append(f"there is a result for a job that is {state}")
    return found


def _reports(world: World, journey: Journey, frozen: Frozen) -> list[str]:
    """What was in the outbox is delivered, or parked where another daemon was faster."""
    found = [f"{name} still waits in the outbox" for name in world.kept("a")]
    for name, entry in frozen.kept.items():
        delivered = entry["jws"] == world.published_jws()
        parked = name in world.parked("a")
        if not delivered and not parked:
            found.append(f"the kept report {name} is lost")
        if parked and not (journey.second or journey.late):
            found.append(f"the kept report {name} was parked, and nobody else has ended the job")
    found += [f"the parked report {name} is gone" for name in frozen.parked - world.parked("a")]
    return found


def _executions(world: World, journey: Journey) -> list[str]:
    runs = len(world.executions())
    if journey.rerun == "always":
        state = world.view()[0]
        if runs > 3:
            return [f"{runs} executions with max_attempts = 3"]
        if state == "done" and not runs:
            return ["done without an execution"]
        return []
    return [f"{runs} executions under {journey.rerun}"] if runs > 1 else []
