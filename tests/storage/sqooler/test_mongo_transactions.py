"""A transaction ends within the time of an operation, and leaves no locks behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from spooler.clock import SystemClock
from spooler.errors import BackendUnavailable
from spooler.storage.sqooler.mongodb.address import MongoAddress
from spooler.storage.sqooler.mongodb.backend import MongoBackend
from spooler.testing.bench import DEVICE, TTL, new_token, other_owner, signed_report
from tests.servers.mongodb import MongoServer
from tests.storage.mongo_bench import Backends

PATIENCE, SLACK = 1.0, 8.0


@pytest.fixture
def backends(mongodb_server: MongoServer, mongo_prefix: str) -> Iterator[Backends]:
    made = Backends(mongodb_server, mongo_prefix)
    yield made
    made.close()
    mongodb_server.client.admin.command("killAllSessions", [])


def opened(backends: Backends, patience: float) -> MongoBackend:
    place = MongoAddress(
        uri=backends.server.uri, prefix=backends.prefix, operation_timeout=patience
    )
    made = MongoBackend(place, SystemClock(), transactions="always")
    backends.opened.append(made)
    return made


@pytest.fixture
def backend(backends: Backends) -> MongoBackend:
    return opened(backends, PATIENCE)


def test_a_commit_is_pursued(backends: Backends, backend: MongoBackend) -> None:
    """The server has no primary for longer than an operation may take; then it has one again."""
    backends.fill(1)
    claim = backend.claim(DEVICE, other_owner(), TTL, new_token())
    assert claim is not None
    refusals: list[str] = []
    with backends.server.failpoint("commitTransaction", times="alwaysOn", errorCode=10107):
        healing = threading.Timer(1.3 * PATIENCE, backends.server.revive)
        healing.start()
        for _ in range(10):
            try:
                backend.ack(claim, signed_report(claim))
                break
            except BackendUnavailable as error:
                refusals.append(str(error))
        else:
            pytest.fail(f"the locks of the first try are still there: {refusals}")
        healing.join()
    assert backends[f"results/{DEVICE}"].count_documents({}) == 1


def test_a_transaction_that_meets_another_one_is_tried_again(backends: Backends) -> None:
    backends.fill(1)
    backend = opened(backends, 30.0)
    claim = backend.claim(DEVICE, other_owner(), TTL, new_token())
    assert claim is not None
    with backends.server.client.start_session() as session:
        session.start_transaction()
        ledger = backends[f"jobs/spooler.{DEVICE}"]
        ledger.update_one({}, {"$set": {"mine": True}}, session=session)
        leaving = threading.Timer(0.3, session.abort_transaction)
        leaving.start()
        backend.ack(claim, signed_report(claim))
        leaving.join()
    assert backends[f"results/{DEVICE}"].count_documents({}) == 1


def test_a_transaction_that_meets_another_one_is_given_up_in_time(
    backends: Backends, backend: MongoBackend
) -> None:
    backends.fill(1)
    claim = backend.claim(DEVICE, other_owner(), TTL, new_token())
    assert claim is not None
    ledger = backends[f"jobs/spooler.{DEVICE}"]
    with backends.server.client.start_session() as session:
        session.start_transaction()
        ledger.update_one({}, {"$set": {"mine": True}}, session=session)
        began = time.monotonic()
        with pytest.raises(BackendUnavailable):
            backend.ack(claim, signed_report(claim))
        assert time.monotonic() - began < PATIENCE + SLACK
        session.abort_transaction()
    backend.ack(claim, signed_report(claim))
    assert backends[f"results/{DEVICE}"].count_documents({}) == 1
