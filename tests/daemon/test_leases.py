from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from spooler.errors import JobGone
from spooler.model.run import StopReason
from spooler.testing.bench import DEVICE, QUEUE, TTL, leased, new_lease
from tests.daemon.parts import PATIENCE, Parts


def taken_over(parts: Parts) -> bool:
    return parts.backend.inner.reclaim(QUEUE, new_lease(), leased) is not None


def test_what_is_held_does_not_run_out(parts: Parts) -> None:
    parts.submit()
    held = parts.hold()
    for _ in range(30):
        parts.clock.advance(TTL / 4)
        parts.leases.renew_due()
        assert not taken_over(parts)
    parts.leases.drop(held.claim.token)
    parts.clock.advance(TTL + 1)
    parts.leases.renew_due()
    assert taken_over(parts)


def test_the_next_pass_is_said_in_time(parts: Parts) -> None:
    parts.submit()
    parts.hold()
    assert 0 < parts.leases.renew_due() <= TTL / 3


def test_a_lost_lease_stops_the_run(parts: Parts) -> None:
    parts.submit()
    reasons: list[StopReason] = []
    parts.leases.hold(parts.claim(), reasons.append)
    parts.clock.advance(TTL + 1)
    assert taken_over(parts)
    parts.leases.renew_due()
    assert reasons == [StopReason.LEASE_LOST]
    assert parts.leases.tokens() == set()


def test_a_job_that_its_owner_deletes_stops_the_run(parts: Parts) -> None:
    parts.submit()
    reasons: list[StopReason] = []

    def gone(*_: object) -> None:
        raise JobGone("its owner has deleted it")

    parts.leases.hold(parts.claim(), reasons.append)
    parts.backend.before["renew"] = gone
    parts.clock.advance(TTL)
    parts.leases.renew_due()
    assert reasons == [StopReason.LEASE_LOST]
    assert parts.leases.tokens() == set()


def test_a_cancellation_stops_the_run_and_keeps_the_lease(parts: Parts) -> None:
    job_id = parts.submit()
    reasons: list[StopReason] = []
    held = parts.leases.hold(parts.claim(), reasons.append)
    parts.submitter.cancel(DEVICE, job_id)
    parts.clock.advance(TTL / 2)
    parts.leases.renew_due()
    assert reasons == [StopReason.CANCELLED]
    assert parts.leases.tokens() == {held.claim.token}


def test_a_storage_that_is_away_does_not_stop_the_run(parts: Parts) -> None:
    parts.submit()
    reasons: list[StopReason] = []
    parts.leases.hold(parts.claim(), reasons.append)
    parts.backend.away = True
    for _ in range(10):
        parts.clock.advance(TTL)
        parts.leases.renew_due()
    assert reasons == []
    parts.backend.away = False
    parts.clock.advance(TTL)
    parts.leases.renew_due()
    assert not taken_over(parts)


def test_a_start_is_noted_in_the_storage_for_as_long_as_it_says(parts: Parts) -> None:
    parts.submit()
    held, asked = parts.hold(), list[float]()
    parts.backend.before["start"] = lambda _, seconds: asked.append(seconds)
    parts.leases.started(held, 660.0)
    assert held.claim.started
    assert asked == [660.0]


def test_a_renewal_that_comes_late_does_not_undo_the_start(parts: Parts) -> None:
    """It was asked before the start, and its answer comes after it."""
    parts.submit()
    held = parts.hold()
    under_way, answer = threading.Event(), threading.Event()
    before = held.claim

    def stand_still(*_: object) -> None:
        under_way.set()
        assert answer.wait(PATIENCE)

    parts.backend.after["renew"] = stand_still
    parts.clock.advance(TTL)
    renewing = threading.Thread(target=parts.leases.renew_due)
    renewing.start()
    assert under_way.wait(PATIENCE)
    parts.leases.started(held, 660.0)
    answer.set()
    renewing.join(PATIENCE)
    assert not before.started
    assert held.claim.started


@pytest.mark.parametrize("late", [{}, {"until": 1500.0}], ids=["none", "earlier"])
def test_what_is_known_of_a_claim_stays_known(parts: Parts, late: dict[str, float]) -> None:
    """An answer that was given before the start knows less than we do."""
    job_id = parts.submit()
    reasons: list[StopReason] = []
    held = parts.leases.hold(parts.claim(), reasons.append)
    older = held.claim
    parts.submitter.cancel(DEVICE, job_id)
    held.update(replace(parts.backend.start(older, 660.0), until=2000.0))
    held.update(replace(older, handle="newer", **late))  # type: ignore[arg-type]
    assert held.claim.started
    assert held.claim.cancelled
    assert held.claim.until == 2000.0
    assert held.claim.handle == "newer"
    assert set(reasons) == {StopReason.CANCELLED}


def test_progress_is_not_shown_by_the_thread_that_renews(parts: Parts) -> None:
    """A word that is slow to be written must not cost a lease."""
    parts.submit()
    held = parts.hold()
    parts.leases.show(held, "shot 3 of 10")
    parts.clock.advance(TTL / 2)
    parts.leases.renew_due()
    assert parts.backend.calls == ["renew"]
    assert held.progress == "shot 3 of 10", "it waits for the feed's thread"
    assert parts.bell_answer() == {"show"}, "which has been asked"
