"""What the contract suite of storages works with: a storage under test, and small makers."""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from spooler.errors import UnknownJob
from spooler.model.claim import Claim, Owner
from spooler.model.json import JsonObject
from spooler.model.result import Report, Result, SignedReport
from spooler.model.state import State
from spooler.model.status import Status
from spooler.protocols import Backend, Submitter
from spooler.testing.clock import ManualClock

DEVICE = "spins"
TTL = 30.0


def other_owner() -> Owner:
    """A process of some other host, which nobody here can judge by its pid."""
    name = uuid.uuid4().hex
    return Owner(f"host-{name[:6]}", 4711, f"0-{name}")


def new_token() -> str:
    """A token as the daemon makes them: one for each job wanted."""
    return uuid.uuid4().hex[:16]


def signed_report(
    claim: Claim, state: State = State.DONE, data: JsonObject | None = None, reason: str = ""
) -> SignedReport:
    """A report on a claim, as the daemon would make it."""
    result = Result(data or {"value": 1}) if state is State.DONE else None
    status = Status(state, reason)
    return SignedReport(
        Report(
            claim.job.id, claim.job.device, "1.0.0", claim.attempt, str(claim.owner), status, result
        )
    )


@dataclass
class Bench:
    """A storage under test. `backend()` opens a further daemon's view of the same storage."""

    clock: ManualClock
    backend: Callable[[], Backend]
    submitter: Submitter
    #: Called between two submissions, so that their ages differ.
    age: Callable[[], None] = lambda: None

    def submit(self, count: int = 1) -> list[str]:
        """Queue some jobs, each older than the next."""
        found = []
        for number in range(count):
            found.append(self.submitter.submit(DEVICE, {"number": number}))
            self.age()
        return found


def take(backend: Backend, owner: Owner | None = None) -> Claim:
    """A claim; fails where there is none."""
    claim = backend.claim(DEVICE, owner or other_owner(), TTL, new_token())
    assert claim is not None, "nothing to claim"
    return claim


def take_over(bench: Bench, backend: Backend, owner: Owner | None = None) -> Claim | None:
    """Let every lease that is not renewed run out, under the eyes of `backend`, and reclaim."""
    me = owner or other_owner()
    first = backend.reclaim(DEVICE, me, TTL, new_token())
    assert first is None, "a lease that has just been seen alive was taken over"
    bench.clock.advance(TTL + 1)
    return backend.reclaim(DEVICE, me, TTL, new_token())


@contextmanager
def hurried() -> Iterator[None]:
    """Have threads take turns after almost every step: without it a missing lock survives."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def race(bench: Bench, callers: int) -> list[str]:
    """All jobs, as taken by several callers at once, each with its own view of the storage."""
    claimed: list[str] = []
    troubles: list[BaseException] = []
    barrier = threading.Barrier(callers)

    def caller(backend: Backend) -> None:
        owner = other_owner()
        barrier.wait()
        try:
            while (claim := backend.claim(DEVICE, owner, TTL, new_token())) is not None:
                claimed.append(claim.job.id)
                claim = backend.renew(claim, TTL, started=True)
                backend.ack(claim, signed_report(claim))
        except BaseException as trouble:  # noqa: BLE001 - carried to the test's own thread
            troubles.append(trouble)

    backends: list[Any] = [bench.backend() for _ in range(callers)]
    threads = [threading.Thread(target=caller, args=(each,)) for each in backends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a caller hangs"
    if troubles:
        raise troubles[0]
    return claimed


def no_result(bench: Bench, job_id: str) -> None:
    """Fail when there is a result."""
    with pytest.raises(UnknownJob):
        bench.submitter.result(DEVICE, job_id)
