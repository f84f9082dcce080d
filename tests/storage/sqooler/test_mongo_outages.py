"""Faults of the server while a daemon works: nothing is lost or doubled, and nothing hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from pymongo.change_stream import ChangeStream
from pymongo.collection import Collection

from spooler.errors import BackendUnavailable
from spooler.model.claim import Claim
from spooler.storage.sqooler.mongodb.address import MongoAddress
from spooler.storage.sqooler.mongodb.backend import MongoBackend
from spooler.storage.sqooler.mongodb.layout import Phase
from spooler.testing.bench import DEVICE, QUEUE, leased, new_lease, other_owner, signed_report
from spooler.testing.clock import ManualClock
from tests.servers.mongodb import MongoServer
from tests.storage.mongo_bench import SERVERS, Backends

T = TypeVar("T")
#: The time of one operation in these tests, and what may come on top of it.
PATIENCE, SLACK = 1.0, 6.0
OWNER = other_owner()


@pytest.fixture
def backends(mongodb_server: MongoServer, mongo_prefix: str) -> Iterator[Backends]:
    made = Backends(mongodb_server, mongo_prefix)
    yield made
    made.close()


@pytest.fixture
def hasty(backends: Backends) -> Callable[..., MongoBackend]:
    """Opens backends that give up soon."""

    def opened(kind: str = "new", **more: Any) -> MongoBackend:
        backend = backends(kind, **more)
        backend.close()
        place = MongoAddress(
            uri=backends.server.uri,
            prefix=backends.prefix,
            connect_timeout=PATIENCE,
            operation_timeout=PATIENCE,
        )
        options = {"abilities": SERVERS[kind], **more}
        clock = options.pop("clock", None) or backend._clock
        made = MongoBackend(place, clock, **options)
        backends.opened.append(made)
        return made

    return opened


def insist(ask: Callable[[], T], refusals: list[str], most: int = 20) -> T:
    """Ask as the daemon does: again, after BackendUnavailable."""
    for _ in range(most):
        began = time.monotonic()
        try:
            return ask()
        except BackendUnavailable as error:
            assert "\n" not in str(error)
            refusals.append(str(error))
        finally:
            assert time.monotonic() - began < PATIENCE * 2 + SLACK, "it was not bounded"
    raise AssertionError(f"still refused: {refusals}")


#: What is planted, and what the driver makes of it.
FAULTS: dict[str, dict[str, Any]] = {
    "closed-once": {"times": 1, "closeConnection": True},
    "closed-often": {"times": 4, "closeConnection": True},
    "no-rights": {"times": 2, "errorCode": 13},
    "no-primary": {"times": 2, "errorCode": 10107},
    "stepped-down": {"times": 2, "errorCode": 91},
    "slow": {"times": 3, "blockConnection": True, "blockTimeMS": 300},
    "hanging": {"times": 1, "blockConnection": True, "blockTimeMS": 1500},
    "not-safe-yet": {"times": 2, "writeConcernError": {"code": 64, "errmsg": "waiting"}},
    "disk-full": {"times": 2, "errorCode": 14031},
}
WRITES = ("findAndModify", "bulkWrite", "update", "insert", "delete")


#: An old server gets more commands at the end only, so a few faults do for it.
CASES = [("new", fault) for fault in FAULTS] + [
    ("old", fault) for fault in ("closed-often", "no-primary", "hanging", "not-safe-yet")
]


@pytest.mark.parametrize(("kind", "fault"), CASES)
def test_a_job_survives_faults_at_every_step(
    backends: Backends, hasty: Callable[..., MongoBackend], kind: str, fault: str
) -> None:
    first, second = backends.fill(2)
    backend, lease = hasty(kind), new_lease(OWNER)
    backend._abilities()
    refusals: list[str] = []

    def planted(ask: Callable[[], T]) -> T:
        with backends.server.failpoint(*WRITES, **FAULTS[fault]):
            return insist(ask, refusals)

    claim = planted(lambda: backend.claim(QUEUE, lease))
    assert claim is not None
    assert claim.job.id == first
    held = backends[f"jobs/spooler.{DEVICE}"].find({"phase": "held"})
    assert [str(each["_id"]) for each in held] == [first], "a lost answer took a second job"
    renewed = planted(lambda: backend.start(claim, 600.0))
    assert renewed.started
    report = signed_report(renewed, data={"value": 1})
    planted(lambda: backend.ack(renewed, report))
    other = insist(lambda: backend.claim(QUEUE, new_lease(OWNER)), refusals)
    assert other is not None
    assert other.job.id == second
    planted(lambda: _release(backend, other))
    insist(lambda: backend.reclaim(QUEUE, new_lease(OWNER), leased), refusals)
    backend.close()
    assert backends[f"jobs/queued.{DEVICE}"].count_documents({}) == 1
    assert backends[f"jobs/finished.{DEVICE}"].count_documents({}) == 1
    assert backends[f"results/{DEVICE}"].count_documents({}) == 1
    assert backends[f"spooler/replaced.{DEVICE}"].count_documents({}) == 0
    entries = {str(each["_id"]): each for each in backends[f"jobs/spooler.{DEVICE}"].find()}
    assert entries[first]["phase"] == Phase.ENDED
    assert entries[second]["phase"] == Phase.WAITING
    assert len(entries[second]["history"]) == 1
    if fault in {"no-rights", "disk-full", "not-safe-yet"}:
        assert refusals, "the fault was not seen"


def _release(backend: MongoBackend, claim: Claim) -> None:
    from spooler.errors import LeaseLost

    try:
        backend.release(claim, "again", refund=False)
    except LeaseLost:
        # Done by the call whose answer was lost: the claim is not ours any more.
        assert backend._ledger.of(DEVICE).find_one({"phase": "waiting"}) is not None


def test_the_way_out_is_named(backends: Backends, hasty: Callable[..., MongoBackend]) -> None:
    backends.fill(1)
    backend = hasty()
    with (
        backends.server.failpoint("aggregate", times="alwaysOn", errorCode=13),
        pytest.raises(BackendUnavailable, match="readWrite"),
    ):
        backend.claim(QUEUE, new_lease(OWNER))


@pytest.mark.parametrize("kind", SERVERS)
def test_a_killed_server_loses_nothing(
    backends: Backends, hasty: Callable[..., MongoBackend], kind: str
) -> None:
    (job_id,) = backends.fill(1)
    backend, server = hasty(kind), backends.server
    claim = backend.claim(QUEUE, new_lease(OWNER))
    assert claim is not None
    claim = backend.start(claim, 600.0)
    server.kill()
    report = signed_report(claim)
    for ask in (
        lambda: backend.ack(claim, report),
        lambda: backend.renew(claim),
        lambda: backend.reclaim(QUEUE, new_lease(OWNER), leased),
        lambda: backend.claim(QUEUE, new_lease(OWNER)),
        backend.ping,
    ):
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match=r"127\.0\.0\.1"):
            ask()
        assert time.monotonic() - began < PATIENCE + SLACK
    server.start()
    refusals: list[str] = []
    insist(lambda: backend.ack(claim, report), refusals)
    backend.close()
    assert str(backends[f"results/{DEVICE}"].find_one()["_id"]) == job_id


def test_a_server_that_stands_still_is_given_up_and_comes_back(
    backends: Backends, hasty: Callable[..., MongoBackend]
) -> None:
    backends.fill(1)
    backend = hasty()
    claim = backend.claim(QUEUE, new_lease(OWNER))
    assert claim is not None
    with backends.server.stop_cont():
        began = time.monotonic()
        with pytest.raises(BackendUnavailable):
            backend.ack(claim, signed_report(claim))
        assert time.monotonic() - began < PATIENCE + SLACK
    refusals: list[str] = []
    insist(lambda: backend.ack(claim, signed_report(claim)), refusals)
    assert backends[f"results/{DEVICE}"].count_documents({}) == 1


# --- wake-ups ----------------------------------------------------------------------------------


def _threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("watch-")]


def test_a_watch_comes_back_after_an_outage(
    backends: Backends, hasty: Callable[..., MongoBackend]
) -> None:
    backends.fill(1)
    backend, woken = hasty(), threading.Event()
    watch = backend.subscribe(QUEUE, woken.set)
    assert watch is not None
    assert _threads() == [f"watch-{DEVICE}"]
    backends.fill(1)
    assert woken.wait(10)
    woken.clear()
    backends.server.restart()
    backends.fill(1)
    assert woken.wait(30)
    backend.close()
    assert _threads() == []


def test_a_watch_begins_while_the_server_is_away(
    backends: Backends, hasty: Callable[..., MongoBackend]
) -> None:
    backend, woken = hasty(), threading.Event()
    backend.ping()
    backends.server.kill()
    watch = backend.subscribe(QUEUE, woken.set)
    assert watch is not None
    backends.server.start()
    assert woken.wait(30), "what came meanwhile is not looked for"
    watch.close()
    watch.close()
    assert _threads() == []


def test_a_silent_watch_is_noticed_and_renewed(
    backends: Backends, hasty: Callable[..., MongoBackend]
) -> None:
    """A listing shows a job that the stream has not told of within two seconds."""
    clock, woken, deaf, renewed = ManualClock(), threading.Event(), threading.Event(), 0
    hear, watch = ChangeStream.try_next, Collection.watch

    def deaf_at_first(stream: ChangeStream[Any]) -> Any:
        if not deaf.is_set():
            return hear(stream)
        time.sleep(0.05)
        return None

    def opened(collection: Collection[Any], *args: Any, **kwargs: Any) -> ChangeStream[Any]:
        nonlocal renewed
        renewed += 1
        if renewed > 1:
            deaf.clear()
        return watch(collection, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        deaf.set()
        patch.setattr(ChangeStream, "try_next", deaf_at_first)
        patch.setattr(Collection, "watch", opened)
        backend = hasty(clock=clock, now=lambda: {"$literal": clock.now()})
        backend.subscribe(QUEUE, woken.set)
        assert backend.claim(QUEUE, new_lease(OWNER)) is None
        backends.fill(3)
        for _ in range(3):
            assert backend.claim(QUEUE, new_lease(OWNER)) is not None
            clock.advance(2.5)
        assert not deaf.is_set() or _until(lambda: not deaf.is_set())
        assert woken.wait(10), "the renewed stream does not say that it was away"
        backend.close()


def _until(found: Callable[[], bool], patience: float = 10.0) -> bool:
    deadline = time.monotonic() + patience
    while not found() and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    return found()


def test_without_change_streams_there_is_no_push(backends: Backends) -> None:
    from dataclasses import replace

    backend = backends(abilities=lambda found: replace(found, push=False))
    assert backend.subscribe(QUEUE, lambda: None) is None
