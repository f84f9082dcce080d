"""The part of the contract about strange ids, late writers, sizes and overlaps."""

from __future__ import annotations

import threading

import pytest

from spooler.errors import LeaseLost, ReportRefused
from spooler.model.state import State
from spooler.model.storage import Fence
from spooler.testing.bench import (
    DEVICE,
    NASTY_IDS,
    QUEUE,
    Bench,
    at_once,
    dead,
    hurried,
    new_lease,
    no_result,
    signed_report,
    take,
)

_MIB = 1024 * 1024


class EdgeChecks:
    """Mixed into BackendContract; not for use by itself."""

    # --- ids --------------------------------------------------------------------------------

    def test_every_id_comes_through_as_it_is(self, bench: Bench) -> None:
        if bench.submit_as is None:
            return
        for number, job_id in enumerate(NASTY_IDS):
            bench.submit_as(job_id, {"number": number})
            bench.age()
        backend, claimed = bench.backend(), {}
        for _ in NASTY_IDS:
            claim = backend.start(take(backend), 600.0)
            claimed[claim.job.id] = claim.job.payload
            backend.show(claim, "half way")
            claim = backend.renew(claim)
            backend.ack(claim, signed_report(claim, data={"id": claim.job.id}))
        assert claimed == {job_id: {"number": at} for at, job_id in enumerate(NASTY_IDS)}
        for job_id in NASTY_IDS:
            assert bench.submitter.result(DEVICE, job_id).data == {"id": job_id}

    def test_a_job_of_any_id_is_given_back_and_taken_over(self, bench: Bench) -> None:
        if bench.submit_as is None:
            return
        for job_id in NASTY_IDS:
            bench.submit_as(job_id, {})
            holder, other = bench.backend(), bench.backend()
            claim = take(holder)
            holder.release(claim, "not now", refund=False)
            assert take(holder).job.id == job_id
            new = other.reclaim(QUEUE, new_lease(), dead)
            assert new is not None
            assert new.job.id == job_id
            other.ack(new, signed_report(new, State.ERROR, reason="enough"))
            assert bench.submitter.status(DEVICE, job_id).state is State.ERROR

    # --- late writers -----------------------------------------------------------------------

    def test_progress_is_shown_while_it_runs(self, bench: Bench) -> None:
        (job_id,) = bench.submit()
        backend = bench.backend()
        claim = backend.start(take(backend), 600.0)
        backend.show(claim, "shot 3 of 10")
        status = bench.submitter.status(DEVICE, job_id)
        assert status.state is State.RUNNING
        assert status.reason in {"", "shot 3 of 10"}

    def test_progress_that_comes_late_leaves_a_final_status_alone(self, bench: Bench) -> None:
        (job_id,) = bench.submit()
        holder, other = bench.backend(), bench.backend()
        claim = holder.start(take(holder), 600.0)
        holder.ack(claim, signed_report(claim))
        for backend in (holder, other):
            backend.show(claim, "still at it")
        assert bench.submitter.status(DEVICE, job_id).state is State.DONE
        assert bench.submitter.result(DEVICE, job_id).data == {"value": 1}

    def test_progress_of_who_lost_the_lease_is_not_shown(self, bench: Bench) -> None:
        (job_id,) = bench.submit()
        holder, other = bench.backend(), bench.backend()
        old = holder.start(take(holder), 600.0)
        new = other.reclaim(QUEUE, new_lease(), dead)
        assert new is not None
        other.ack(new, signed_report(new, State.ERROR, reason="the first one died"))
        holder.show(old, "still at it")
        status = bench.submitter.status(DEVICE, job_id)
        assert (status.state, status.reason) == (State.ERROR, "the first one died")

    def test_progress_and_the_end_at_once(self, bench: Bench) -> None:
        """However a word of progress and the end overlap, the end is what stays."""
        backend = bench.backend()
        for job_id in bench.submit(5):
            claim = backend.start(take(backend), 600.0)
            over = threading.Event()

            def show(claim: object = claim, over: threading.Event = over) -> None:
                for number in range(100):
                    backend.show(claim, f"step {number}")  # type: ignore[arg-type]
                    if over.is_set():
                        return

            def end(claim: object = claim, over: threading.Event = over) -> None:
                backend.ack(claim, signed_report(claim))  # type: ignore[arg-type]
                over.set()

            with hurried():
                at_once(show, end)
            assert bench.submitter.status(DEVICE, job_id).state is State.DONE

    def test_a_renewal_may_overlap_the_end(self, bench: Bench) -> None:
        """The thread that renews does not wait for who delivers; either may come first."""
        backend = bench.backend()
        if backend.traits.fence is not Fence.ATOMIC:
            return
        for job_id in bench.submit(5):
            claim = backend.start(take(backend), 600.0)
            over = threading.Event()

            def renew(claim: object = claim, over: threading.Event = over) -> None:
                newest = claim
                while not over.is_set():
                    try:
                        newest = backend.renew(newest)  # type: ignore[arg-type]
                    except LeaseLost:
                        return

            def end(claim: object = claim, over: threading.Event = over) -> None:
                try:
                    backend.ack(claim, signed_report(claim))  # type: ignore[arg-type]
                finally:
                    over.set()

            with hurried():
                at_once(renew, end)
            assert bench.submitter.status(DEVICE, job_id).state is State.DONE

    def test_of_two_who_take_over_at_once_one_has_it(self, bench: Bench) -> None:
        bench.submit()
        take(bench.backend())
        found = []
        others = [bench.backend() for _ in range(4)]

        def reclaim(number: int) -> None:
            claim = others[number].reclaim(QUEUE, new_lease(), dead)
            if claim is not None:
                found.append((number, claim))

        with hurried():
            at_once(*[lambda number=number: reclaim(number) for number in range(4)])
        kept = []
        for number, claim in found:
            try:
                others[number].renew(claim)
            except LeaseLost:
                continue
            kept.append(number)
        assert len(kept) == 1

    # --- sizes ------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [0, 1000, _MIB])
    def test_reports_of_every_size(self, bench: Bench, size: int) -> None:
        (job_id,) = bench.submit()
        backend = bench.backend()
        claim, data = take(backend), {"value": "x" * size}
        largest = backend.traits.largest_report
        if largest is not None and size + len('{"value":""}') > largest:
            with pytest.raises(ReportRefused):
                backend.ack(claim, signed_report(claim, data=data))
            no_result(bench, job_id)
            small = signed_report(claim, State.ERROR, reason="the result is too large")
            backend.ack(claim, small)
            assert bench.submitter.status(DEVICE, job_id).state is State.ERROR
            return
        backend.ack(claim, signed_report(claim, data=data))
        assert bench.submitter.result(DEVICE, job_id).data == data

    # --- deletion ---------------------------------------------------------------------------

    def test_a_job_that_its_owner_deletes_is_lost(self, bench: Bench) -> None:
        if bench.delete is None:
            return
        (job_id,) = bench.submit()
        backend = bench.backend()
        claim = backend.start(take(backend), 600.0)
        bench.delete(job_id)
        with pytest.raises(LeaseLost):
            backend.renew(claim)
        with pytest.raises(LeaseLost):
            backend.ack(claim, signed_report(claim))
        assert backend.reclaim(QUEUE, new_lease(), dead) is None

    def test_a_job_deleted_in_its_queue_is_not_handed_out(self, bench: Bench) -> None:
        if bench.delete is None:
            return
        gone, stays = bench.submit(2)
        bench.delete(gone)
        backend = bench.backend()
        assert take(backend).job.id == stays
        assert backend.claim(QUEUE, new_lease()) is None
