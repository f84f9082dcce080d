"""What the MongoDB backend asks of the server: counted, and by which index it is answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from spooler.model.job import Queue
from spooler.storage.sqooler.mongodb.backend import MongoBackend
from spooler.storage.sqooler.mongodb.claims.ledger import OPEN
from spooler.storage.sqooler.mongodb.claims.queue import LISTED, listing
from spooler.storage.sqooler.mongodb.layout import LEDGER_INDEX
from spooler.testing.bench import DEVICE, QUEUE, leased, new_lease, other_owner, signed_report
from tests.servers.mongodb import MongoServer
from tests.storage.mongo_bench import Backends
from tests.storage.sqooler.mongo_commands import COMMANDS, names

JOBS = 40
OWNER = other_owner()


def work(backend: MongoBackend, count: int) -> list[str]:
    """Claim, start and end jobs, as the daemon does."""
    done = []
    for _ in range(count):
        claim = backend.claim(QUEUE, new_lease(OWNER))
        assert claim is not None
        claim = backend.start(claim, 600.0)
        backend.ack(claim, signed_report(claim))
        done.append(claim.job.id)
    return done


@pytest.fixture
def backends(mongodb_server: MongoServer, mongo_prefix: str) -> Iterator[Backends]:
    made = Backends(mongodb_server, mongo_prefix)
    yield made
    made.close()


#: Per kind of server: commands of one job, and what is shared by many (listings, batches).
BUDGET = {"new": (3, 0.1), "old": (5, 0.4)}


@pytest.mark.parametrize("kind", BUDGET)
def test_a_job_takes_few_commands(backends: Backends, kind: str) -> None:
    ids = backends.fill(JOBS)
    backend = backends(kind)
    assert backend.claim(Queue("another", "another"), new_lease(OWNER)) is None  # makes an index
    backend._ledger.of(DEVICE)
    with COMMANDS.counting() as found:
        assert work(backend, JOBS) == ids
        backend.close()
    own, shared = BUDGET[kind]
    told = f"{len(found) / JOBS} commands per job: {sorted(set(names(found)))}"
    assert own * JOBS <= len(found) <= (own + shared) * JOBS, told
    assert len(found) <= 6 * JOBS
    assert backends[f"jobs/queued.{DEVICE}"].count_documents({}) == 0
    assert backends[f"jobs/finished.{DEVICE}"].count_documents({}) == JOBS


@pytest.mark.parametrize("kind", BUDGET)
def test_a_look_at_an_empty_queue_is_one_command(backends: Backends, kind: str) -> None:
    backends.fill(2)
    backend, other = (backends(kind) for _ in range(2))
    work(backend, 1)
    assert other.claim(QUEUE, new_lease(OWNER)) is not None  # a job that runs elsewhere
    assert backend.claim(QUEUE, new_lease(OWNER)) is None
    with COMMANDS.counting() as found:
        for _ in range(5):
            assert backend.claim(QUEUE, new_lease(OWNER)) is None
    assert names(found) == ["aggregate"] * 5


@pytest.mark.parametrize("waiting", [10, 150])
def test_a_claim_costs_the_same_in_any_queue(backends: Backends, waiting: int) -> None:
    """One listing of bounded length, and one write per claim by its id."""
    backends.fill(waiting)
    backend = backends()
    backend._ledger.of(DEVICE)
    with COMMANDS.counting() as found:
        for _ in range(10):
            assert backend.claim(QUEUE, new_lease(OWNER)) is not None
    assert names(found) == ["aggregate"] + ["findAndModify"] * 10
    asked = found[0][1]
    assert asked["pipeline"][-1] == {"$limit": LISTED}
    assert asked["hint"] == {"$natural": 1}
    assert all(set(sent["query"]) == {"_id"} for _, sent in found[1:])


def _plan(plan: Any) -> list[str]:
    """The stages of a plan with the names of their indexes."""
    if isinstance(plan, dict):
        own = [f"{plan['stage']}:{plan.get('indexName', '')}"] if "stage" in plan else []
        return own + [each for value in plan.values() for each in _plan(value)]
    return [each for value in plan for each in _plan(value)] if isinstance(plan, list) else []


def test_open_claims_are_found_by_their_index(backends: Backends) -> None:
    """However many jobs have ended: they are not in the index, and every question says so."""
    backends.fill(20)
    backend = backends()
    work(backend, 19)
    assert backend.claim(QUEUE, new_lease(OWNER)) is not None
    backend.reclaim(QUEUE, new_lease(), leased)  # notes what is settled
    ledger = backends[f"jobs/spooler.{DEVICE}"]
    assert ledger.index_information()[LEDGER_INDEX]["key"] == [("until", 1)]
    assert ledger.index_information()[LEDGER_INDEX]["sparse"]
    assert ledger.count_documents(OPEN) == 1
    assert ledger.count_documents({}) == 20
    explained = ledger.find(OPEN).explain()
    stages = _plan(explained["queryPlanner"]["winningPlan"])
    assert f"IXSCAN:{LEDGER_INDEX}" in stages, stages
    with COMMANDS.counting() as found:
        backend.reclaim(QUEUE, new_lease(), leased)
    (asked,) = [sent for name, sent in found if name == "aggregate"]
    assert OPEN.items() <= asked["pipeline"][0]["$match"].items()


def test_the_listing_looks_up_by_id() -> None:
    """The join needs no index but the one that every collection has."""
    (lookup,) = [each["$lookup"] for each in listing(DEVICE, "$$NOW", 1) if "$lookup" in each]
    assert lookup["foreignField"] == "_id"
