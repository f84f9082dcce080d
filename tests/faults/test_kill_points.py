"""A daemon dies before and after every file operation of a job's journey; nothing is lost.

The points are collected from a run (tests/faults/points.py), the daemons are real ones, in
processes of their own. `make killpoints` tries every point in every way.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from tests.faults.journeys import FOLDER, MONGODB, Journey
from tests.faults.points import AFTER, WITHIN
from tests.faults.remote import KNOWN_OTHERS, Remote, remote
from tests.faults.world import World
from tests.servers.mongodb import MongoServer
from tests.storage.mongo_bench import SERVERS

#: What a daemon may leave behind when it dies: files that nobody reads and a restart replaces,
#: and the note that says who it was.
STALE = re.compile(r"\.tmp$|^storage/spooler/owners/|/audit/|^state-a/outbox/parked/")

#: Points of a journey beside MongoDB that are tried in each test run.
SAMPLE = 5

#: How often a job has been executed when the earlier daemon dies; before its start, never.
BEGUN = {"kept": 1, "committed": 1}

#: What the first of two daemons makes of a new storage; the other finds it there.
SHARED = re.compile(r"^mkdir /storage|/\.storage\.json|^fsync /storage")


@pytest.fixture(scope="module")
def server(mongodb_server: MongoServer) -> Iterator[Remote]:
    with remote(mongodb_server.uri) as made:
        yield made


@pytest.mark.parametrize("journey", FOLDER, ids=lambda journey: journey.name)
def test_a_daemon_may_die_at_any_point(server: Remote, journey: Journey) -> None:
    tried = server.go_through(journey)
    assert tried.problems == []
    assert tried.points > 10
    unreached = tried.unreached
    if journey.fresh and journey.second:
        unreached = [each for each in unreached if not SHARED.search(each.label)]
    assert len(unreached) <= tried.points // 20, unreached
    assert tried.others <= KNOWN_OTHERS, "files are changed past spooler.durable"
    assert [place for place in tried.leftovers if not STALE.search(place)] == []


@pytest.mark.parametrize("second", [False, True], ids=["one", "two"])
@pytest.mark.parametrize("kind", SERVERS)
def test_a_daemon_may_die_at_any_point_beside_mongodb(
    server: Remote, kind: str, second: bool
) -> None:
    """A journey and some of its points are drawn with the seed of the test run.

    All of them take an hour: `make killpoints`.
    """
    journey = random.choice(
        [each for each in MONGODB if (each.storage, each.second) == (kind, second)]
    )
    tried = server.go_through(journey, sample=SAMPLE)
    assert tried.problems == [], journey
    assert tried.points > 10
    assert len(tried.unreached) <= SAMPLE // 2, tried.unreached
    assert tried.others <= KNOWN_OTHERS, "files are changed past spooler.durable"
    assert [place for place in tried.leftovers if not STALE.search(place)] == []


@pytest.mark.parametrize("kind", SERVERS)
def test_every_journey_beside_mongodb_can_begin(server: Remote, kind: str) -> None:
    """The draw above takes one: a mark that no daemon comes by would be found some day later."""
    begun = [each for each in MONGODB if each.storage == kind and each.after]
    for journey in begun:
        said = server.ask(do="begin", journey=asdict(journey))
        state = "error" if journey.late else "running"
        assert said == {"state": state, "executions": BEGUN.get(journey.after, 0)}, journey


def test_the_points_are_the_whole_journey(server: Remote) -> None:
    """The steps that the promises rest on are among the points, in their order."""
    points, _ = server.collect(Journey("the steps"))
    marks = [World.marks[name] for name in ("started", "kept", "committed")]
    steps = [*marks, r"^rename .*status/.*tmp -> ", r"^rename .*claims.*finished"]
    order = [
        next(
            i for i, point in enumerate(points) if point.when == AFTER and re.search(s, point.label)
        )
        for s in steps
    ]
    assert order == sorted(order)
    assert any(point.when == WITHIN for point in points)
