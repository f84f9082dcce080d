"""The protocol holds in every state that it can reach, and does not without its safeguards."""

from __future__ import annotations

import pytest

from tests.model.invariants import INVARIANTS
from tests.model.protocol import Job, Rules, World, canonical, moves
from tests.model.search import search

ONE_JOB = World(jobs=(Job(),))


def test_all_is_well() -> None:
    """Two daemons, two jobs, two attempts, the default policy: every state there is."""
    found = search(Rules())
    assert not found.broken, f"\n{found}"
    assert found.states > 100_000, "the model has become smaller than it was"


def test_all_is_well_where_jobs_are_repeated() -> None:
    """One job; both of them take some minutes: python -m tests.model."""
    found = search(Rules(always=True), ONE_JOB)
    assert not found.broken, f"\n{found}"


@pytest.mark.parametrize(
    ("rules", "broken"),
    [
        (Rules(fenced=False), "EndsOnce"),
        (Rules(start_noted=False), "RunsByPolicy"),
        (Rules(kept_first=False), "NothingMeasuredIsLost"),
        (Rules(repeatable=False), "ParkedIsLate"),
    ],
    ids=["fence", "started mark", "outbox before ack", "repeatable ack"],
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
