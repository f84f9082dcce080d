"""Kill points: a process dies before or after any of its commands, and nothing is lost or doubled.

Servers of both kinds pass the same points. The survivor is told that the other one is dead, as
a daemon tells by the estate of the dead.
"""

from __future__ import annotations

from collections.abc import Iterator

import bson
import pytest
from bson.objectid import ObjectId

from spooler.clock import SystemClock
from spooler.model.claim import Claim
from spooler.storage.sqooler.mongodb.layout import Phase
from spooler.testing.bench import DEVICE, QUEUE, dead, new_lease, other_owner, signed_report
from tests.servers.mongodb import MongoServer
from tests.storage.mongo_bench import SERVERS, Backends, opener
from tests.storage.mongo_deaths import LONG, Deaths, Plan

#: More than any journey has.
_MOST = 40


@pytest.fixture(scope="module")
def deaths(mongodb_server: MongoServer) -> Iterator[Deaths]:
    made = Deaths(mongodb_server.uri)
    yield made
    made.close()


@pytest.mark.parametrize("journey", ["finish", "fail", "give_back", "take_over"])
@pytest.mark.parametrize("kind", SERVERS)
def test_nothing_is_lost_or_doubled_when_a_process_dies(
    mongodb_server: MongoServer, mongo_prefix: str, deaths: Deaths, kind: str, journey: str
) -> None:
    """All points of a journey: one server, a fresh prefix for each."""
    points = 0
    for after in (False, True):
        for at in range(1, _MOST):
            backends = Backends(mongodb_server, f"{mongo_prefix}{at}{'ba'[after]}_")
            plan = Plan(backends.prefix, kind, journey, at, after)
            if not _survived(backends, deaths, plan):
                break
            points += 1
        else:
            pytest.fail(f"{journey} has more than {_MOST} commands")
    assert points >= 8, "the points were not found"


def _survived(backends: Backends, deaths: Deaths, plan: Plan) -> bool:
    """One death and what comes after; False when the process lived to its end."""
    (job_id,) = backends.fill(1)
    body = _raw(backends, f"jobs/queued.{DEVICE}", job_id)
    if plan.journey == "take_over":
        stranger = opener(backends.server, backends.prefix, SystemClock(), plan.kind)
        claim = stranger.claim(QUEUE, new_lease(ttl=0.0))
        assert claim is not None
        stranger.close()
    said = deaths.run(plan)
    assert said["died"] or said["code"] == 0, plan
    ended = _clean_up(backends, plan.kind)
    told = f"{plan}: ended {ended}"
    assert ended <= 1, told
    statuses = [_status(backends, job_id)]
    first = statuses[0]["error_message"] == "first"
    done = backends[f"jobs/finished.{DEVICE}"].count_documents({})
    failed = backends["jobs/deleted"].count_documents({})
    assert done + failed == 1, told
    place = f"jobs/finished.{DEVICE}" if done else "jobs/deleted"
    assert _raw(backends, place, job_id) == body, told
    assert backends[f"jobs/queued.{DEVICE}"].count_documents({}) == 0, told
    results = list(backends[f"results/{DEVICE}"].find())
    assert len(results) == done, told
    assert backends[f"spooler/replaced.{DEVICE}"].count_documents({}) == 0, told
    by_first = first or any("first" in str(each) for each in results)
    assert by_first == (ended == 0), told  # whoever ended it, it was one of them
    (entry,) = backends[f"jobs/spooler.{DEVICE}"].find()
    assert entry["phase"] == Phase.ENDED, told
    assert "until" not in entry, told
    assert "end" not in entry, told
    return bool(said["died"])


def _clean_up(backends: Backends, kind: str) -> int:
    """What the next process does: take over, claim, finish; how many jobs it ended."""
    me, ended = other_owner(), 0
    backend = opener(backends.server, backends.prefix, SystemClock(), kind)

    def reclaimed() -> Claim | None:
        return backend.reclaim(QUEUE, new_lease(me, LONG), dead)

    def claimed() -> Claim | None:
        return backend.claim(QUEUE, new_lease(me, LONG))

    for ask in (reclaimed, claimed, reclaimed):
        while (claim := ask()) is not None:
            assert claim.job.payload == {"number": 0}
            backend.ack(claim, signed_report(claim, data={"value": "second"}))
            ended += 1
    reclaimed()
    backend.close()
    return ended


def _status(backends: Backends, job_id: str) -> dict[str, str]:
    found = backends[f"status/{DEVICE}"].find_one({"_id": ObjectId(job_id)})
    assert found is not None
    said: dict[str, str] = found.get("payload", found)
    assert said["status"] in {"DONE", "ERROR"}
    return said


def _raw(backends: Backends, place: str, job_id: str) -> bytes:
    found = backends[place].find_one({"_id": ObjectId(job_id)})
    return bson.encode(found) if found is not None else b""
