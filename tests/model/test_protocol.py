"""The protocol holds in every state that it can reach, and does not without its safeguards."""

from __future__ import annotations

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
        (Rules(show_fenced=False), "EndIsFinal"),
    ],
    ids=[
        *("fence", "started mark", "record before ack", "repeatable ack"),
        *("legacy before take-over", "fenced progress"),
    ],
)
def test_each_safeguard_is_needed(rules: Rules, broken: str) -> None:
    found = search(rules)
    print(found)
    assert found.broken == broken
    assert f"{broken} is broken after {len(found.trace)} steps" in str(found)
    assert 4 < len(found.trace) < 12, "the shortest way there is short"


def test_a_trace_can_be_walked() -> None:
    """What is printed is a way that the model really has, and it ends in the violation."""
    rules = Rules(fenced=False)
    found = search(rules)
    world = World()
    for step in found.trace:
        world = canonical(dict(moves(world, rules))[step])
    assert not INVARIANTS[found.broken](world, rules)
