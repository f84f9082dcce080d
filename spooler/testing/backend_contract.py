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
from spooler.model.claim import Claim
from spooler.model.job import Queue
from spooler.model.state import State
from spooler.model.storage import Standing
from spooler.testing.bench import (
    DEVICE,
    QUEUE,
    TTL,
    Bench,
    dead,
    hurried,
    leased,
    new_lease,
    no_result,
    other_owner,
    race,
    signed_report,
    sparing,
    take,
    take_over,
)
from spooler.testing.edge_checks import EdgeChecks
from spooler.testing.outside_checks import OutsideChecks


class BackendContract(OutsideChecks, EdgeChecks):
    """Derive from this and supply the fixture `bench`."""

    # --- claiming ---------------------------------------------------------------------------

    def test_an_empty_queue_has_nothing(self, bench: Bench) -> None:
        backend = bench.backend()
        assert backend.claim(QUEUE, new_lease()) is None
        assert backend.depth(QUEUE) == 0
        assert list(backend.peek(QUEUE)) == []

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
        lease = new_lease()
        claim = bench.backend().claim(QUEUE, lease)
        assert claim is not None
        assert (claim.job.id, claim.job.queue, claim.job.payload) == (
            job_id,
            DEVICE,
            {"number": 0},
        )
        assert (claim.lease, claim.attempt) == (lease, 1)
        if bench.digest is not None:
            assert claim.job.digest == bench.digest(job_id)
        assert not claim.started
        assert not claim.cancelled
        assert claim.history == ()

    def test_a_job_is_claimed_once(self, bench: Bench) -> None:
        bench.submit()
        one, two = bench.backend(), bench.backend()
        take(one)
        assert two.claim(QUEUE, new_lease()) is None
        assert one.claim(QUEUE, new_lease()) is None
        assert one.depth(QUEUE) == 0

    def test_a_repeat_with_the_same_token_finds_its_own(self, bench: Bench) -> None:
        ids = bench.submit(2)
        backend, lease = bench.backend(), new_lease()
        first = backend.claim(QUEUE, lease)
        again = backend.claim(QUEUE, lease)
        assert first is not None
        assert again is not None
        assert (first.job.id == again.job.id) is backend.traits.keeps_claims
        if backend.traits.keeps_claims:
            assert take(backend, lease.owner).job.id in set(ids) - {first.job.id}

    def test_devices_do_not_mix(self, bench: Bench) -> None:
        bench.submit()
        backend = bench.backend()
        assert backend.claim(Queue("another", DEVICE), new_lease()) is None
        assert backend.depth(Queue("another", DEVICE)) == 0
        assert backend.depth(QUEUE) == 1

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
            assert other.reclaim(QUEUE, new_lease(me), leased) is None
            bench.clock.advance(TTL / 2)
            claim = holder.renew(claim)
        assert other.reclaim(QUEUE, new_lease(me), leased) is None
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
        assert other.reclaim(QUEUE, new_lease(), leased) is None

    def test_started_is_remembered(self, bench: Bench) -> None:
        bench.submit()
        holder, other = bench.backend(), bench.backend()
        assert holder.start(take(holder), 600.0).started
        new = take_over(bench, other)
        assert new is not None
        assert new.started

    def test_spared_claims_are_left_alone(self, bench: Bench) -> None:
        bench.submit()
        holder, other = bench.backend(), bench.backend()
        claim = take(holder)
        me, judge = other_owner(), sparing({claim.token})
        other.reclaim(QUEUE, new_lease(me), judge)
        bench.clock.advance(TTL + 1)
        assert other.reclaim(QUEUE, new_lease(me), judge) is None
        holder.ack(claim, signed_report(claim))

    def test_the_dead_are_taken_over_at_once(self, bench: Bench) -> None:
        (job_id,) = bench.submit()
        holder, other = bench.backend(), bench.backend()
        old = take(holder)
        lease = new_lease()
        assert other.reclaim(QUEUE, new_lease(lease.owner), leased) is None
        new = other.reclaim(QUEUE, lease, dead)
        assert new is not None
        assert (new.job.id, new.lease, new.attempt) == (job_id, lease, old.attempt)
        with pytest.raises(LeaseLost):
            holder.ack(old, signed_report(old))

    def test_a_judge_is_told_whose_claim_it_is(self, bench: Bench) -> None:
        bench.submit()
        owner = other_owner()
        old = bench.backend().start(take(bench.backend(), owner), 600.0)
        seen = []

        def judge(claim: Claim) -> Standing:
            seen.append((claim.job.id, claim.token, claim.owner.process, claim.started))
            return Standing.SPARED

        bench.backend().reclaim(QUEUE, new_lease(), judge)
        assert seen == [(old.job.id, old.token, owner.process, True)]

    def test_a_repeated_take_over_finds_its_own(self, bench: Bench) -> None:
        bench.submit(2)
        holder, other, lease = bench.backend(), bench.backend(), new_lease()
        take(holder), take(holder)
        first = other.reclaim(QUEUE, lease, dead)
        again = other.reclaim(QUEUE, lease, lambda _: Standing.SPARED)
        assert first is not None
        if other.traits.keeps_claims:
            assert again is not None
            assert again.job.id == first.job.id

    def test_who_lost_the_lease_can_write_nothing(self, bench: Bench) -> None:
        (job_id,) = bench.submit()
        holder, other = bench.backend(), bench.backend()
        old = holder.start(take(holder), 600.0)
        new = take_over(bench, other)
        assert new is not None
        with pytest.raises(LeaseLost):
            holder.renew(old)
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
        assert backend.claim(QUEUE, new_lease()) is None
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
        no_result(bench, job_id)
        assert backend.claim(QUEUE, new_lease()) is None

    def test_ack_ends_a_claim_renewed_under_it(self, bench: Bench) -> None:
        """The report was made with an older value of the claim than the storage has by now."""
        (job_id,) = bench.submit()
        backend = bench.backend()
        claim = take(backend)
        backend.renew(claim)
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

    def test_which_attempts_have_started_is_remembered(self, bench: Bench) -> None:
        bench.submit()
        backend = bench.backend()
        backend.release(take(backend), "before", refund=False)
        backend.release(backend.start(take(backend), 600.0), "within", refund=False)
        claim = take(bench.backend())
        assert [past.started for past in claim.history] == [False, True]
        assert backend.start(claim, 600.0).runs == 2

    def test_a_delayed_job_waits(self, bench: Bench) -> None:
        bench.submit()
        backend = bench.backend()
        backend.release(take(backend), "again later", refund=False, delay=60.0)
        if not backend.traits.delays:
            assert take(backend).attempt == 2
            return
        assert backend.claim(QUEUE, new_lease()) is None
        bench.clock.advance(61.0)
        assert take(backend).attempt == 2
