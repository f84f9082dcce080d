"""Leases and delays by the server's own clock; the other tests bring a clock of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spooler.testing.bench import DEVICE, new_token, other_owner
from tests.servers.mongodb import MongoServer
from tests.storage.mongo_bench import Backends

LONG = 600.0


@pytest.fixture
def backends(mongodb_server: MongoServer, mongo_prefix: str) -> Iterator[Backends]:
    made = Backends(mongodb_server, mongo_prefix)
    yield made
    made.close()


def test_a_lease_that_holds_is_not_taken_over(backends: Backends) -> None:
    backends.fill(1)
    one, other = backends(), backends()
    claim = one.claim(DEVICE, other_owner(), LONG, new_token())
    assert claim is not None
    assert other.reclaim(DEVICE, other_owner(), LONG, new_token()) is None
    claim = one.renew(claim, 0.0)
    taken = other.reclaim(DEVICE, other_owner(), LONG, new_token())
    assert taken is not None
    assert taken.job.id == claim.job.id
    assert one.reclaim(DEVICE, other_owner(), LONG, new_token()) is None


@pytest.mark.parametrize("known", [True, False], ids=["listed", "unlisted"])
def test_a_delayed_job_waits(backends: Backends, known: bool) -> None:
    """The listing leaves it out, and a claim by an older listing is refused."""
    backends.fill(1)
    one, other = backends(), backends()
    claim = one.claim(DEVICE, other_owner(), LONG, new_token())
    assert claim is not None
    if known:
        one.release(claim, "later", refund=True)
        other._claiming.queue(DEVICE).refresh()
        claim = one.claim(DEVICE, other_owner(), LONG, new_token())
        assert claim is not None
    one.release(claim, "later", refund=True, delay=LONG)
    assert other.claim(DEVICE, other_owner(), LONG, new_token()) is None
    assert list(other.peek(DEVICE)) == []
    entry = backends[f"jobs/spooler.{DEVICE}"]
    entry.update_one({}, [{"$set": {"until": {"$add": ["$$NOW", -1000]}}}])
    assert [job.id for job in other.peek(DEVICE)] == [claim.job.id]
    assert backends().claim(DEVICE, other_owner(), LONG, new_token()) is not None
