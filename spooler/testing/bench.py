"""What the contract suite of storages works with: a storage under test, and small makers."""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from spooler.errors import UnknownJob
from spooler.model.claim import Claim, Lease, Owner
from spooler.model.job import Queue
from spooler.model.json import JsonObject
from spooler.model.result import Report, Result, SignedReport
from spooler.model.state import State
from spooler.model.status import Status
from spooler.model.storage import Standing
from spooler.protocols import Backend, Judge, Submitter
from spooler.testing.clock import ManualClock

DEVICE = "spins"
QUEUE = Queue(DEVICE, DEVICE)
TTL = 30.0
#: Ids that a submitter's program may make: each would leave a folder, not fit, or be two names.
NASTY_IDS = (
    "task/1",
    "../../../x",
    "a" * 240,
    "line\nbreak",
    "Ünïcode ☃",
    ".hidden",
    "..",
    "with blank",
    "A",
    "a",
)


def other_owner() -> Owner:
    """Return a process of which nothing is known here but what it says."""
    name = uuid.uuid4().hex
    return Owner(f"host-{name[:6]}", 4711, f"0-{name}")


def new_token() -> str:
    """Return a token as the daemon makes them: one for each job wanted."""
    return uuid.uuid4().hex[:16]


def new_lease(owner: Owner | None = None, ttl: float = TTL) -> Lease:
    """Return a lease as the daemon asks for: a token of its own."""
    return Lease(new_token(), owner or other_owner(), ttl)


def leased(_: Claim) -> Standing:
    """Judge that nothing is known of any holder."""
    return Standing.LEASED


def dead(_: Claim) -> Standing:
    """Judge that every holder is dead."""
    return Standing.DEAD


def sparing(tokens: Collection[str]) -> Judge:
    """Make a judge who spares these claims, and knows nothing of the others."""
    return lambda claim: Standing.SPARED if claim.token in tokens else Standing.LEASED


def signed_report(
    claim: Claim, state: State = State.DONE, data: JsonObject | None = None, reason: str = ""
) -> SignedReport:
    """Return a report on a claim, as the daemon would make it."""
    result = Result(data or {"value": 1}) if state is State.DONE else None
    job, status = claim.job, Status(state, reason)
    return SignedReport(
        Report(
            job.id,
            job.queue,
            DEVICE,
            "1.0.0",
            claim.attempt,
            str(claim.owner),
            status,
            result,
            digest=job.digest,
        )
    )


@dataclass
class Bench:
    """A storage under test. `backend()` opens a further daemon's view of the same storage.

    What a storage cannot do stays None: `submit_as` queues a payload under an id that the caller
    chooses, `delete` is the owner of a job deleting it whatever it is at, `digest` is the SHA-256
    of what was queued.
    """

    clock: ManualClock
    backend: Callable[[], Backend]
    submitter: Submitter
    #: Called between two submissions, so that their ages differ.
    age: Callable[[], None] = lambda: None
    submit_as: Callable[[str, JsonObject], None] | None = None
    delete: Callable[[str], None] | None = None
    digest: Callable[[str], str] | None = None

    def submit(self, count: int = 1) -> list[str]:
        """Queue some jobs, each older than the next."""
        found = []
        for number in range(count):
            found.append(self.submitter.submit(DEVICE, {"number": number}))
            self.age()
        return found


def take(backend: Backend, owner: Owner | None = None) -> Claim:
    """Return a claim; fails where there is none."""
    claim = backend.claim(QUEUE, new_lease(owner))
    assert claim is not None, "nothing to claim"
    return claim


def take_over(bench: Bench, backend: Backend, owner: Owner | None = None) -> Claim | None:
    """Let every lease that is not renewed run out, under the eyes of `backend`, and reclaim."""
    me = owner or other_owner()
    first = backend.reclaim(QUEUE, new_lease(me), leased)
    assert first is None, "a lease that has just been seen alive was taken over"
    bench.clock.advance(TTL + 1)
    return backend.reclaim(QUEUE, new_lease(me), leased)


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

    def caller(backend: Backend) -> None:
        owner = other_owner()
        while (claim := backend.claim(QUEUE, new_lease(owner))) is not None:
            claimed.append(claim.job.id)
            claim = backend.start(claim, 600.0)
            backend.ack(claim, signed_report(claim))

    backends = [bench.backend() for _ in range(callers)]
    at_once(*[lambda each=each: caller(each) for each in backends])
    return claimed


def at_once(*bodies: Callable[[], Any]) -> None:
    """Run each body in a thread of its own, all from the same moment on; raise what one raises."""
    troubles: list[BaseException] = []
    barrier = threading.Barrier(len(bodies))

    def run(body: Callable[[], Any]) -> None:
        barrier.wait()
        try:
            body()
        except BaseException as trouble:  # noqa: BLE001 - carried to the test's own thread
            troubles.append(trouble)

    threads = [threading.Thread(target=run, args=(each,)) for each in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a caller hangs"
    if troubles:
        raise troubles[0]


def no_result(bench: Bench, job_id: str) -> None:
    """Fail when there is a result."""
    with pytest.raises(UnknownJob):
        bench.submitter.result(DEVICE, job_id)
