"""Leases and delays by the server's own time: what the other tests do with a clock of their own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spooler.model.claim import Claim, Lease, Owner
from spooler.model.storage import Standing
from spooler.storage.sqooler.mongodb.backend import MongoBackend
from spooler.storage.sqooler.mongodb.layout import passed
from spooler.testing.bench import QUEUE, leased, new_lease
from tests.servers.mongodb import MongoServer
from tests.storage.mongo_bench import Backends

LONG = 3600.0


@pytest.fixture
def backends(mongodb_server: MongoServer, mongo_prefix: str) -> Iterator[Backends]:
    made = Backends(mongodb_server, mongo_prefix)
    yield made
    made.close()


def reclaimed(backend: MongoBackend) -> list[str]:
    found = backend.reclaim(QUEUE, new_lease(ttl=LONG), leased)
    return [] if found is None else [found.job.id]


@pytest.mark.parametrize("renewed", [False, True], ids=["claimed", "renewed"])
def test_a_lease_that_holds_is_not_taken_over(backends: Backends, *, renewed: bool) -> None:
    backends.fill(1)
    one, other = backends(), backends()
    claim = one.claim(QUEUE, new_lease(ttl=LONG))
    assert claim is not None
    if renewed:
        one.start(claim, 600.0)
    assert reclaimed(other) == []


def test_a_lease_that_ran_out_is_taken_over(backends: Backends) -> None:
    backends.fill(1)
    one, other = backends(), backends()
    claim = one.claim(QUEUE, new_lease(ttl=0.0))
    assert claim is not None
    assert reclaimed(other) == [claim.job.id]


def test_a_job_given_back_waits_for_its_delay(backends: Backends) -> None:
    backends.fill(1)
    one, other = backends(), backends()
    claim = one.claim(QUEUE, new_lease(ttl=LONG))
    assert claim is not None
    one.release(claim, "later", refund=True, delay=LONG)
    assert other.claim(QUEUE, new_lease(ttl=LONG)) is None
    assert list(other.peek(QUEUE)) == []


def test_a_job_that_waits_is_refused_to_who_has_listed_it_before(backends: Backends) -> None:
    """The listing is old, and the write that claims looks at the time itself."""
    backends.fill(2)
    one, other = backends(), backends()
    first = other.claim(QUEUE, new_lease(ttl=LONG))
    second = one.claim(QUEUE, new_lease(ttl=LONG))
    assert first is not None
    assert second is not None
    one.release(second, "later", refund=True, delay=LONG)
    assert other.claim(QUEUE, new_lease(ttl=LONG)) is None


@pytest.mark.parametrize("seconds", [-60, 60])
def test_moments_are_compared_with_the_server_s_time(backends: Backends, seconds: int) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    things = backends["jobs/things"]
    things.insert_many([{"_id": 1, "until": moment}])
    found: list[dict[str, Any]] = list(
        things.aggregate([{"$project": {"passed": passed("$until", "$$NOW")}}])
    )
    assert found == [{"_id": 1, "passed": seconds < 0}]


@pytest.mark.parametrize("rubbish", [{}, {"until": None}, {"until": "soon"}, {"until": [1]}])
def test_what_is_no_moment_is_over(backends: Backends, rubbish: dict[str, Any]) -> None:
    """Somebody's rubbish must not make the whole question fail."""
    things = backends["jobs/things"]
    things.insert_one({"_id": 1, **rubbish})
    found = list(things.aggregate([{"$project": {"passed": passed("$until", "$$NOW")}}]))
    assert found == [{"_id": 1, "passed": True}]


def test_a_judge_sees_the_estate_of_who_holds_a_job(backends: Backends) -> None:
    backends.fill(1)
    one, other, seen = backends(), backends(), []
    owner = Owner("lab-pc", 17, "0-abc", "/var/lib/spooler/estates/abc")
    claim = one.claim(QUEUE, Lease("mine", owner, LONG))
    assert claim is not None

    def judge(found: Claim) -> Standing:
        seen.append((found.job.queue, found.job.id, found.lease, found.attempt))
        return Standing.SPARED

    assert other.reclaim(QUEUE, new_lease(), judge) is None
    assert seen == [(QUEUE.name, claim.job.id, claim.lease, 1)]
