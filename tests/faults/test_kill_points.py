"""A daemon dies before and after each step of a job's journey, on each storage; nothing is lost.

Steps are the changes of files, the verbs of the storage, and what the storage itself calls a step.
The points are collected from a run (points.py), the daemons are real ones, in processes of their
own. Here each journey is tried at some of its points, always the same; `make killpoints` tries all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from tests.faults.journeys import JOURNEYS, Journey
from tests.faults.points import AFTER, WITHIN
from tests.faults.remote import KNOWN_OTHERS, STALE, Remote, remote
from tests.faults.world import MARKS
from tests.servers.mongodb import MongoServer

#: Points of a journey that are tried in each test run; the rest of them in `make killpoints`.
SAMPLE = 2

#: How often a job has been executed when the earlier daemon dies; before its start, never.
BEGUN = {"kept": 1, "acked": 1, "committed": 1}
ENDED = {"acked"}


@pytest.fixture(scope="module")
def server(mongodb_server: MongoServer) -> Iterator[Remote]:
    mongodb_server.revive()
    with remote(mongodb_server.uri) as made:
        yield made


#: A server makes a try ten times as long, so some of its journeys stand for all.
TRIED = [each for each in JOURNEYS if each.storage != "mongodb"]
TRIED += [each for each in JOURNEYS if each.storage == "mongodb"][::7]


@pytest.mark.parametrize("journey", TRIED, ids=lambda each: f"{each.storage}, {each.name}")
def test_a_daemon_may_die_at_any_point(server: Remote, journey: Journey) -> None:
    tried = server.go_through(journey, sample=SAMPLE)
    assert tried.problems == []
    assert tried.points > 10
    assert len(tried.unreached) < SAMPLE, tried.unreached
    others = {each for each in tried.others if not KNOWN_OTHERS.search(each)}
    assert others == set(), "files are changed past spooler.durable"
    assert [place for place in tried.leftovers if not STALE.search(place)] == []


def test_every_journey_begins_where_it_says(server: Remote) -> None:
    """An earlier daemon that died at another place would make the journey another one."""
    for journey in JOURNEYS:
        if not journey.after or journey.withdrawn or journey.storage == "mongodb":
            continue
        said = server.ask(do="begin", journey=asdict(journey))
        state = "error" if journey.late else "done" if journey.after in ENDED else "running"
        assert said == {"state": state, "executions": BEGUN.get(journey.after, 0)}, journey


@pytest.mark.parametrize("storage", ["folder", "sqlite", "mongodb"])
def test_the_points_are_the_whole_journey(server: Remote, storage: str) -> None:
    """The steps that the promises rest on are among the points, in their order."""
    points, _ = server.collect(Journey("the steps", storage=storage))
    order = [
        next(
            i
            for i, point in enumerate(points)
            if point.when == AFTER and re.search(step, point.label)
        )
        for step in (MARKS["claimed"], MARKS["started"], MARKS["kept"], MARKS["acked"])
    ]
    assert order == sorted(order)
    assert any(point.when == WITHIN for point in points)
