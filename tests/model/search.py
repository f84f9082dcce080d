"""Goes through every state that the model can reach, breadth first: the shortest trace wins."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tests.model.invariants import INVARIANTS
from tests.model.protocol import Rules, World, canonical, moves


@dataclass(frozen=True)
class Found:
    """What came of a search: how much there was, and the first violation with its way there."""

    states: int
    steps: int
    broken: str = ""
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.broken:
            return f"{self.states} states, {self.steps} steps: all is well"
        lines = [f"{self.broken} is broken after {len(self.trace)} steps:"]
        return "\n".join(lines + [f"{n:>3}. {step}" for n, step in enumerate(self.trace, 1)])


def search(rules: Rules, start: World | None = None) -> Found:
    """Every reachable state against every invariant, and that every job can still end."""
    found = _search(rules, start or World(), symmetric=True)
    # Where daemons change their names on the way, the trace cannot be read.
    return _search(rules, start or World(), symmetric=False) if found.broken else found


def _search(rules: Rules, start: World, *, symmetric: bool) -> Found:
    came: dict[World, tuple[World, str] | None] = {start: None}
    back: dict[World, list[World]] = {}
    queue, steps = deque([start]), 0
    while queue:
        world = queue.popleft()
        for name, holds in INVARIANTS.items():
            if not holds(world, rules):
                return Found(len(came), steps, name, _way(came, world))
        for text, raw in moves(world, rules):
            steps += 1
            after = canonical(raw, symmetric=symmetric)
            back.setdefault(after, []).append(world)
            if after not in came:
                came[after] = (world, text)
                queue.append(after)
    stuck = _cannot_end(came.keys(), back)
    if stuck:
        worst = next(world for world in came if world in stuck)
        return Found(len(came), steps, "EveryJobCanEnd", _way(came, worst))
    return Found(len(came), steps)


def _cannot_end(worlds: object, back: dict[World, list[World]]) -> set[World]:
    """The states from which no way leads to the end of all jobs with all reports brought."""
    known: set[World] = set(worlds)  # type: ignore[call-overload]
    good = {world for world in known if _over(world)}
    todo = deque(good)
    while todo:
        for before in back.get(todo.popleft(), ()):
            if before not in good:
                good.add(before)
                todo.append(before)
    return known - good


def _over(world: World) -> bool:
    return all(job.ends for job in world.jobs) and not any(
        each.outbox or each.legacy for each in world.daemons
    )


def _way(came: dict[World, tuple[World, str] | None], world: World) -> tuple[str, ...]:
    trace = []
    while (step := came[world]) is not None:
        world, text = step
        trace.append(text)
    return tuple(reversed(trace))
