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

from collections import Counter

import pytest

from spooler.errors import LeaseLost
from spooler.model.state import State
from spooler.testing.bench import (
    DEVICE,
    TTL,
    Bench,
    hurried,
    new_token,
    no_result,
    other_owner,
    race,
    signed_report,
    take,
    take_over,
)
from spooler.testing.outside_checks import OutsideChecks


class BackendContract(OutsideChecks):
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
        with hurried():
            claimed = race(bench, callers=8)
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
        no_result(bench, job_id)
        other.ack(new, signed_report(new, data={"value": "in time"}))
        with pytest.raises(LeaseLost):
            holder.ack(old, signed_report(old, data={"value": "later"}))
        assert bench.submitter.result(DEVICE, job_id).data == {"value": "in time"}

    # --- the end ----------------------------------------------------------------------------

    def test_ack_publishes_and_ends(self, bench: Bench) -> None:
        (job_id,) = bench.submit()
        backend = bench.backend()
        no_result(bench, job_id)
        claim = take(backend)
        no_result(bench, job_id)
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
    def test_a_failed_job_has_a_reason_andno_result(self, bench: Bench, state: State) -> None:
        (job_id,) = bench.submit()
        backend = bench.backend()
        claim = take(backend)
        backend.ack(claim, signed_report(claim, state, reason="the laser is off"))
        status = bench.submitter.status(DEVICE, job_id)
        assert status.state is state
        assert "the laser is off" in status.reason
        no_result(bench, job_id)
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
