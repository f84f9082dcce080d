from __future__ import annotations

import threading

from spooler.model.run import StopReason
from spooler.testing.bench import DEVICE, TTL, new_token, other_owner
from tests.daemon.parts import Parts


def test_what_is_held_does_not_run_out(parts: Parts) -> None:
    parts.submit()
    held = parts.keeper.hold(parts.claim(), lambda _: None)
    for _ in range(30):
        parts.clock.advance(TTL / 4)
        parts.keeper.renew_due()
        assert parts.backend.reclaim(DEVICE, other_owner(), TTL, new_token()) is None
    parts.keeper.drop(held)
    parts.clock.advance(TTL + 1)
    parts.keeper.renew_due()
    assert parts.backend.reclaim(DEVICE, other_owner(), TTL, new_token()) is not None


def test_the_next_pass_is_said_in_time(parts: Parts) -> None:
    parts.submit()
    parts.keeper.hold(parts.claim(), lambda _: None)
    assert 0 < parts.keeper.renew_due() <= TTL / 3


def test_a_lost_lease_stops_the_run(parts: Parts) -> None:
    parts.submit()
    reasons: list[StopReason] = []
    parts.keeper.hold(parts.claim(), reasons.append)
    parts.clock.advance(TTL + 1)
    assert parts.backend.reclaim(DEVICE, other_owner(), TTL, new_token()) is not None
    parts.keeper.renew_due()
    assert reasons == [StopReason.LEASE_LOST]
    assert parts.keeper.held_tokens() == set()


def test_a_cancellation_stops_the_run_and_keeps_the_lease(parts: Parts) -> None:
    job_id = parts.submit()
    reasons: list[StopReason] = []
    held = parts.keeper.hold(parts.claim(), reasons.append)
    parts.submitter.cancel(DEVICE, job_id)
    parts.clock.advance(TTL / 2)
    parts.keeper.renew_due()
    assert reasons == [StopReason.CANCELLED]
    assert parts.keeper.held_tokens() == {held.claim.token}


def test_a_storage_that_is_away_does_not_stop_the_run(parts: Parts) -> None:
    parts.submit()
    reasons: list[StopReason] = []
    parts.keeper.hold(parts.claim(), reasons.append)
    parts.backend.away = True
    for _ in range(10):
        parts.clock.advance(TTL)
        parts.keeper.renew_due()
    assert reasons == []
    parts.backend.away = False
    parts.clock.advance(TTL)
    parts.keeper.renew_due()
    assert parts.backend.reclaim(DEVICE, other_owner(), TTL, new_token()) is None


def test_nobody_renews_what_is_being_written_about(parts: Parts) -> None:
    parts.submit()
    held = parts.keeper.hold(parts.claim(), lambda _: None)
    parts.clock.advance(TTL / 2)
    parts.backend.calls.clear()
    with held.lock:
        thread = threading.Thread(target=parts.keeper.renew_due)
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), "renewal waits for the writer, and all others with it"
    assert "renew" not in parts.backend.calls


def test_progress_goes_out_with_the_renewal(parts: Parts) -> None:
    job_id = parts.submit()
    held = parts.keeper.hold(parts.claim(), lambda _: None)
    held.progress = "shot 3 of 10"
    parts.clock.advance(TTL / 2)
    parts.keeper.renew_due()
    assert parts.submitter.status(DEVICE, job_id).reason == "shot 3 of 10"
