"""The contract of a storage, as a suite that every backend passes.

A storage's own test file derives from `BackendContract` and says how to open it:

    class TestMyStorage(BackendContract):
        @pytest.fixture
        def bench(self, tmp_path) -> Iterator[Bench]:
            ...

Traits are asked where a storage promises less; asserts are never weakened. The suite is itself
checked by planted faults (tests/storage/test_contract_mutants.py).
"""

from __future__ import annotations

import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from spooler.errors import LeaseLost, NotCancellable, UnknownJob
from spooler.model.claim import Claim, Owner
from spooler.model.device import DeviceCard
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
    opened: list[Backend] = field(default_factory=list)

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


class BackendContract:
    """Derive from this and supply the fixture `bench`."""

    # --- claiming ---------------------------------------------------------------------------

    def test_an_empty_queue_has_nothing(self, bench: Bench) -> None:
        backend = bench.backend()
        assert backend.claim(DEVICE, other_owner(), TTL, new_token()) is None
        assert backend.depth(DEVICE) == 0
        assert list(backend.peek(DEVICE)) == []

    def test_the_oldest_comes_first(self, bench: Bench) -> None:
        ids = bench.submit(5)
        backend = bench.backend()
        claimed = [take(backend).job.id for _ in ids]
        if backend.traits.ordered:
            assert claimed == ids
        assert sorted(claimed) == sorted(ids)

    def test_a_later_job_does_not_overtake(self, bench: Bench) -> None:
        backend = bench.backend()
        first = bench.submit(2)
        claimed = [take(backend).job.id]
        second = bench.submit(2)
        claimed += [take(backend).job.id for _ in range(3)]
        if backend.traits.ordered:
            assert claimed == first + second
        assert sorted(claimed) == sorted(first + second)

    def test_a_claim_carries_the_job(self, bench: Bench) -> None:
        (job_id,) = bench.submit()
        owner, token = other_owner(), new_token()
        claim = bench.backend().claim(DEVICE, owner, TTL, token)
        assert claim is not None
        assert (claim.job.id, claim.job.device, claim.job.payload) == (
            job_id,
            DEVICE,
            {"number": 0},
        )
        assert (claim.owner, claim.token, claim.attempt) == (owner, token, 1)
        assert not claim.started
        assert not claim.cancelled
        assert claim.history == ()

    def test_a_job_is_claimed_once(self, bench: Bench) -> None:
        bench.submit()
        one, two = bench.backend(), bench.backend()
        take(one)
        assert two.claim(DEVICE, other_owner(), TTL, new_token()) is None
        assert one.claim(DEVICE, other_owner(), TTL, new_token()) is None
        assert one.depth(DEVICE) == 0

    def test_a_repeat_with_the_same_token_finds_its_own(self, bench: Bench) -> None:
        ids = bench.submit(2)
        backend, owner, token = bench.backend(), other_owner(), new_token()
        first = backend.claim(DEVICE, owner, TTL, token)
        again = backend.claim(DEVICE, owner, TTL, token)
        assert first is not None
        assert again is not None
        assert first.job.id == again.job.id
        assert take(backend, owner).job.id in set(ids) - {first.job.id}

    def test_devices_do_not_mix(self, bench: Bench) -> None:
        bench.submit()
        backend = bench.backend()
        assert backend.claim("another", other_owner(), TTL, new_token()) is None
        assert backend.depth("another") == 0
        assert backend.depth(DEVICE) == 1

    def test_eight_callers_get_every_job_once(self, bench: Bench) -> None:
        ids = bench.submit(40)
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            claimed = _race(bench, callers=8)
        finally:
            sys.setswitchinterval(before)
        assert Counter(claimed) == Counter(ids)

    # --- the lease --------------------------------------------------------------------------

    def test_a_renewed_lease_is_kept(self, bench: Bench) -> None:
        bench.submit()
        holder, other = bench.backend(), bench.backend()
        claim = take(holder)
        me = other_owner()
        for _ in range(4):
            assert other.reclaim(DEVICE, me, TTL, new_token()) is None
            bench.clock.advance(TTL / 2)
            claim = holder.renew(claim, TTL)
        assert other.reclaim(DEVICE, me, TTL, new_token()) is None
        holder.ack(claim, signed_report(claim))

    def test_an_expired_lease_is_taken_over_once(self, bench: Bench) -> None:
        (job_id,) = bench.submit()
        holder, other = bench.backend(), bench.backend()
        old = take(holder)
        me = other_owner()
        new = take_over(bench, other, me)
        assert new is not None
        assert new.job.id == job_id
        assert new.job.payload == {"number": 0}
        assert (new.owner, new.attempt, new.started) == (me, old.attempt, False)
        assert new.token != old.token
        assert other.reclaim(DEVICE, other_owner(), TTL, new_token()) is None

    def test_started_is_remembered(self, bench: Bench) -> None:
        bench.submit()
        holder, other = bench.backend(), bench.backend()
        assert holder.renew(take(holder), TTL, started=True).started
        new = take_over(bench, other)
        assert new is not None
        assert new.started

    def test_spared_claims_are_left_alone(self, bench: Bench) -> None:
        bench.submit()
        holder, other = bench.backend(), bench.backend()
        claim = take(holder)
        me = other_owner()
        other.reclaim(DEVICE, me, TTL, new_token(), spare={claim.token})
        bench.clock.advance(TTL + 1)
        assert other.reclaim(DEVICE, me, TTL, new_token(), spare={claim.token}) is None
        holder.ack(claim, signed_report(claim))

    def test_who_lost_the_lease_can_write_nothing(self, bench: Bench) -> None:
        (job_id,) = bench.submit()
        holder, other = bench.backend(), bench.backend()
        old = holder.renew(take(holder), TTL, started=True)
        new = take_over(bench, other)
        assert new is not None
        with pytest.raises(LeaseLost):
            holder.renew(old, TTL)
        with pytest.raises(LeaseLost):
            holder.ack(old, signed_report(old, data={"value": "late"}))
        with pytest.raises(LeaseLost):
            holder.release(old, "late", refund=True)
        _no_result(bench, job_id)
        other.ack(new, signed_report(new, data={"value": "in time"}))
        with pytest.raises(LeaseLost):
            holder.ack(old, signed_report(old, data={"value": "later"}))
        assert bench.submitter.result(DEVICE, job_id).data == {"value": "in time"}

    # --- the end ----------------------------------------------------------------------------

    def test_ack_publishes_and_ends(self, bench: Bench) -> None:
        (job_id,) = bench.submit()
        backend = bench.backend()
        _no_result(bench, job_id)
        claim = take(backend)
        _no_result(bench, job_id)
        backend.ack(claim, signed_report(claim, data={"value": 7}))
        assert bench.submitter.status(DEVICE, job_id).state is State.DONE
        assert bench.submitter.result(DEVICE, job_id).data == {"value": 7}
        assert backend.claim(DEVICE, other_owner(), TTL, new_token()) is None
        assert take_over(bench, bench.backend()) is None

    def test_ack_is_harmless_to_repeat(self, bench: Bench) -> None:
        (job_id,) = bench.submit()
        backend = bench.backend()
        claim = take(backend)
        report = signed_report(claim)
        backend.ack(claim, report)
        backend.ack(claim, report)
        bench.backend().ack(claim, report)
        assert bench.submitter.status(DEVICE, job_id).state is State.DONE

    @pytest.mark.parametrize("state", [State.ERROR, State.CANCELLED])
    def test_a_failed_job_has_a_reason_and_no_result(self, bench: Bench, state: State) -> None:
        (job_id,) = bench.submit()
        backend = bench.backend()
        claim = take(backend)
        backend.ack(claim, signed_report(claim, state, reason="the laser is off"))
        status = bench.submitter.status(DEVICE, job_id)
        assert status.state is state
        assert "the laser is off" in status.reason
        _no_result(bench, job_id)
        assert backend.claim(DEVICE, other_owner(), TTL, new_token()) is None

    def test_ack_ends_a_claim_renewed_under_it(self, bench: Bench) -> None:
        """The report was made with an older value of the claim than the storage has by now."""
        (job_id,) = bench.submit()
        backend = bench.backend()
        claim = take(backend)
        backend.renew(claim, TTL)
        backend.ack(claim, signed_report(claim))
        assert bench.submitter.status(DEVICE, job_id).state is State.DONE

    # --- giving back ------------------------------------------------------------------------

    def test_a_released_job_keeps_place_and_attempt(self, bench: Bench) -> None:
        ids = bench.submit(3)
        backend = bench.backend()
        claim = take(backend)
        backend.release(claim, "stopping", refund=True)
        claims = [take(backend) for _ in ids]
        if backend.traits.ordered:
            assert [each.job.id for each in claims] == ids
        assert {each.attempt for each in claims} == {1}

    def test_an_attempt_that_counts_is_remembered(self, bench: Bench) -> None:
        bench.submit()
        backend = bench.backend()
        for attempt in (1, 2, 3):
            claim = take(backend)
            assert claim.attempt == attempt
            assert [past.number for past in claim.history] == list(range(1, attempt))
            backend.release(claim, f"crash {attempt}", refund=False)
        claim = take(bench.backend())
        assert [past.ended for past in claim.history] == ["crash 1", "crash 2", "crash 3"]

    def test_a_delayed_job_waits(self, bench: Bench) -> None:
        bench.submit()
        backend = bench.backend()
        backend.release(take(backend), "again later", refund=False, delay=60.0)
        assert backend.claim(DEVICE, other_owner(), TTL, new_token()) is None
        bench.clock.advance(61.0)
        assert take(backend).attempt == 2

    # --- the submitter ----------------------------------------------------------------------

    def test_a_job_cancelled_in_the_queue_is_handed_out_as_cancelled(self, bench: Bench) -> None:
        (job_id,) = bench.submit()
        assert bench.submitter.cancel(DEVICE, job_id) is True
        claim = take(bench.backend())
        assert claim.cancelled

    def test_a_job_cancelled_while_it_runs_says_so_at_renewal(self, bench: Bench) -> None:
        (job_id,) = bench.submit()
        backend = bench.backend()
        claim = backend.renew(take(backend), TTL, started=True)
        assert not claim.cancelled
        assert bench.submitter.cancel(DEVICE, job_id) is False
        claim = backend.renew(claim, TTL)
        assert claim.cancelled
        backend.ack(claim, signed_report(claim, State.CANCELLED, reason="withdrawn"))
        assert bench.submitter.status(DEVICE, job_id).state is State.CANCELLED
        with pytest.raises(NotCancellable):
            bench.submitter.cancel(DEVICE, job_id)

    def test_a_cancel_survives_a_take_over(self, bench: Bench) -> None:
        (job_id,) = bench.submit()
        holder, other = bench.backend(), bench.backend()
        take(holder)
        bench.submitter.cancel(DEVICE, job_id)
        new = take_over(bench, other)
        assert new is not None
        assert new.cancelled

    def test_unknown_jobs_are_said_to_be_unknown(self, bench: Bench) -> None:
        for ask in (bench.submitter.status, bench.submitter.cancel, bench.submitter.result):
            with pytest.raises(UnknownJob):
                ask(DEVICE, "0123456789abcdef01234567")

    # --- looking ----------------------------------------------------------------------------

    def test_announced_devices_are_seen(self, bench: Bench) -> None:
        backend, at = bench.backend(), bench.clock.now()
        backend.announce(DeviceCard(DEVICE, version="1.2.3", simulator=True, pending=4), at)
        (card,) = [each for each in bench.submitter.devices() if each.name == DEVICE]
        assert (card.version, card.simulator, card.pending) == ("1.2.3", True, 4)
        assert card.last_seen is not None
        assert abs((card.last_seen - at).total_seconds()) <= 1

    def test_peek_and_preview_change_nothing(self, bench: Bench) -> None:
        ids = bench.submit(3)
        backend = bench.backend()
        for _ in range(2):
            seen = [job.id for job in backend.peek(DEVICE)]
            assert sorted(seen) == sorted(ids)
            if backend.traits.ordered:
                assert seen == ids
        claim = take(backend)
        assert backend.preview(claim, signed_report(claim))
        _no_result(bench, claim.job.id)
        assert backend.depth(DEVICE) == 2

    def test_a_new_job_wakes(self, bench: Bench) -> None:
        backend = bench.backend()
        woken = threading.Event()
        subscription = backend.subscribe(DEVICE, woken.set)
        assert (subscription is not None) == backend.traits.push
        if subscription is None:
            return
        bench.submit()
        assert woken.wait(10), "no wake-up within ten seconds"
        subscription.close()
        subscription.close()

    def test_it_answers(self, bench: Bench) -> None:
        backend = bench.backend()
        backend.ping()
        backend.close()
        backend.close()


def _no_result(bench: Bench, job_id: str) -> None:
    with pytest.raises(UnknownJob):
        bench.submitter.result(DEVICE, job_id)


def _race(bench: Bench, callers: int) -> list[str]:
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
