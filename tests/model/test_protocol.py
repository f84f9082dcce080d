"""The protocol holds in every state that it can reach, and does not without its safeguards."""

from __future__ import annotations

from collections import deque

import pytest

from tests.model.invariants import INVARIANTS
from tests.model.protocol import Job, Rules, World, canonical, moves
from tests.model.search import search

ONE_JOB = World(jobs=(Job(),))


def test_all_is_well() -> None:
    """Two daemons, two jobs, two attempts, the default policy: every state there is."""
    found = search(Rules(near=False))
    assert not found.broken, f"\n{found}"
    assert found.states > 100_000, "the model has become smaller than it was"


@pytest.mark.parametrize("near", [False, True], ids=["far", "near"])
@pytest.mark.parametrize("always", [False, True], ids=["if-not-started", "always"])
def test_all_is_well_with_one_job(near: bool, always: bool) -> None:
    """With two of them it takes minutes: python -m tests.model."""
    found = search(Rules(near=near, always=always), ONE_JOB)
    assert not found.broken, f"\n{found}"


@pytest.mark.parametrize(
    ("rules", "broken"),
    [
        (Rules(fenced=False), "EndsOnce"),
        (Rules(start_noted=False), "RunsByPolicy"),
        (Rules(kept_first=False), "NothingMeasuredIsLost"),
        (Rules(repeatable=False), "ParkedIsLate"),
        (Rules(inherited=False), "LegacyIsBrought"),
    ],
    ids=[
        *("fence", "started mark", "record before ack", "repeatable ack"),
        "legacy before take-over",
    ],
)
def test_each_safeguard_is_needed(rules: Rules, broken: str) -> None:
    found = search(rules)
    print(found)
    assert found.broken == broken
    assert f"{broken} is broken after {len(found.trace)} steps" in str(found)
    assert 4 < len(found.trace) < 12, "the shortest way there is short"


# --- what takes a certain moment ----------------------------------------------------------------

MOMENTS = Rules(moments=True)


@pytest.mark.parametrize("near", [False, True], ids=["far", "near"])
def test_all_is_well_at_every_moment(near: bool) -> None:
    """Processes stand still and go on, disks are slow, writes are late, and the dead leave much."""
    found = search(MOMENTS._replace(near=near), ONE_JOB)
    assert not found.broken, f"\n{found}"
    assert found.states > 10_000, "the model has become smaller than it was"


@pytest.mark.parametrize(
    "step",
    [
        *("stands still", "goes on", "on a slow disk", "writes its word of progress"),
        *("adopts the outbox of a dead process", "shown as running"),
    ],
)
def test_these_moments_are_among_the_steps(step: str) -> None:
    seen, queue = {ONE_JOB}, deque([ONE_JOB])
    while queue:
        world = queue.popleft()
        for text, raw in moves(world, MOMENTS):
            if step in text:
                return
            after = canonical(raw, symmetric=True)
            if after not in seen:
                seen.add(after)
                queue.append(after)
    raise AssertionError(f"nobody ever {step}")


@pytest.mark.parametrize(
    ("rules", "broken", "last"),
    [
        (MOMENTS._replace(show_fenced=False), "EndIsFinal", "writes its word of progress on"),
        (MOMENTS._replace(inherited=False), "LegacyIsBrought", "takes it over"),
        (MOMENTS._replace(renewed=False), "LiveKeepsItsJob", "takes it over"),
        (MOMENTS._replace(pictures_ignored=False), "EveryJobCanEnd", "shown as running"),
        (MOMENTS._replace(fenced=False), "RunsByPolicy", "runs 0"),
    ],
    ids=["F1: late write", "F2: outbox of the dead", "F3: slow disk", "F4: picture", "still"],
)
def test_each_moment_has_its_fence(rules: Rules, broken: str, last: str) -> None:
    """Without it the promise is broken, by the step that the fence is there for."""
    found = search(rules, ONE_JOB)
    print(found)
    assert found.broken == broken
    assert last in found.trace[-1]
    assert len(found.trace) < 12, "the shortest way there is short"


def test_a_trace_can_be_walked() -> None:
    """What is printed is a way that the model really has, and it ends in the violation."""
    rules = Rules(fenced=False)
    found = search(rules)
    world = World()
    for step in found.trace:
        world = canonical(dict(moves(world, rules))[step])
    assert not INVARIANTS[found.broken](world, rules)
