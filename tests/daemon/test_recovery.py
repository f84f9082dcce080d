from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from spooler.daemon.announcer import Announcer
from spooler.daemon.claims.recovery import verdict
from spooler.errors import BackendUnavailable
from spooler.model.claim import Attempt, Claim
from spooler.model.device import DeviceCard, Rerun
from spooler.model.state import State
from spooler.testing.bench import DEVICE, TTL, other_owner, signed_report
from tests.daemon.parts import Parts


@pytest.mark.parametrize(
    ("rerun", "started", "runs_again"),
    [
        (Rerun.NEVER, False, False),
        (Rerun.NEVER, True, False),
        (Rerun.IF_NOT_STARTED, False, True),
        (Rerun.IF_NOT_STARTED, True, False),
        (Rerun.ALWAYS, False, True),
        (Rerun.ALWAYS, True, True),
    ],
)
def test_the_policy(parts: Parts, rerun: Rerun, *, started: bool, runs_again: bool) -> None:
    parts.rules = replace(parts.rules, rerun=rerun)
    job_id = parts.submit()
    claim = parts.claim(other_owner())
    if started:
        parts.backend.renew(claim, TTL, started=True)
    parts.clock.advance(TTL + 1)
    assert parts.recovery.recover(parts.rules, "1") == 1
    status = parts.submitter.status(DEVICE, job_id)
    assert status.state is (State.QUEUED if runs_again else State.ERROR)
    if not runs_again:
        assert "died" in status.reason
        assert "submit it again" in status.reason


def test_a_job_that_kills_its_worker_is_given_up_with_its_history(parts: Parts) -> None:
    parts.rules = replace(parts.rules, rerun=Rerun.ALWAYS, max_attempts=3)
    job_id = parts.submit()
    for attempt in (1, 2, 3):
        claim = parts.claim(other_owner())
        assert claim.attempt == attempt
        parts.backend.renew(claim, TTL, started=True)
        parts.clock.advance(TTL + 1)
        assert parts.recovery.recover(parts.rules, "1") == 1
        parts.clock.advance(3600)
    status = parts.submitter.status(DEVICE, job_id)
    assert status.state is State.ERROR
    assert "given up after 3 attempts" in status.reason
    for attempt in (1, 2, 3):
        assert f"attempt {attempt}:" in status.reason


def test_attempts_are_not_made_in_a_row(parts: Parts) -> None:
    parts.rules = replace(parts.rules, rerun=Rerun.ALWAYS)
    parts.submit()
    parts.claim(other_owner())
    parts.clock.advance(TTL + 1)
    parts.recovery.recover(parts.rules, "1")
    assert parts.backend.claim(DEVICE, parts.owner, TTL, "1") is None
    parts.clock.advance(60)
    assert parts.claim().attempt == 2


def test_a_cancelled_job_is_cancelled(parts: Parts) -> None:
    job_id = parts.submit()
    parts.claim(other_owner())
    parts.submitter.cancel(DEVICE, job_id)
    parts.clock.advance(TTL + 1)
    parts.recovery.recover(parts.rules, "1")
    assert parts.submitter.status(DEVICE, job_id).state is State.CANCELLED


@pytest.mark.parametrize("verb", ["reclaim", "release"])
@pytest.mark.parametrize("done", [True, False])
def test_what_an_outage_interrupts_is_settled_later(parts: Parts, verb: str, *, done: bool) -> None:
    """Whether the storage did what was asked and the answer was lost, or did nothing."""
    job_id = parts.submit()
    parts.claim(other_owner())
    parts.clock.advance(TTL + 1)
    (parts.backend.deaf if done else parts.backend.refused).add(verb)
    with pytest.raises(BackendUnavailable):
        parts.recovery.recover(parts.rules, "1")
    parts.backend.deaf, parts.backend.refused = set(), set()
    parts.recovery.recover(parts.rules, "1")
    assert parts.submitter.status(DEVICE, job_id).state is State.QUEUED
    parts.clock.advance(3600)
    assert parts.claim().attempt == 2


def test_the_verdict_counts_attempts(parts: Parts) -> None:
    parts.submit()
    claim = parts.claim()
    past = tuple(Attempt(n, "x", parts.clock.now(), "crashed") for n in (1, 2))
    last = replace(claim, attempt=3, history=past)
    rules = replace(parts.rules, max_attempts=3)
    assert isinstance(last, Claim)
    assert verdict(replace(last, attempt=2), rules) is None
    assert verdict(last, rules) is not None


def test_nothing_is_taken_over_right_after_an_outage(parts: Parts, tmp_path: Path) -> None:
    """Its owner was cut off as well: it is alive, and has the result of an hour in its outbox."""
    job_id = parts.submit()
    held = parts.keeper.hold(parts.claim(), lambda _: None)
    other = Parts(tmp_path / "other", storage=parts.storage, clock=parts.clock)
    for each in (parts, other):
        each.backend.away = True
        each.outage.noticed(BackendUnavailable("away"))
    parts.delivery.finish(held, signed_report(held.claim, data={"value": 7}), parts.patience)
    parts.clock.advance(TTL + 1)
    assert other.recovery.recover(other.rules, "1") == 0
    for each in (parts, other):
        each.backend.away = False
        each.outage.over()
    assert other.recovery.recover(other.rules, "1") == 0, "it has had no chance yet"
    parts.clock.advance(2)
    parts.delivery.retry()
    parts.clock.advance(4)
    assert other.recovery.recover(other.rules, "1") == 0
    assert parts.submitter.result(DEVICE, job_id).data == {"value": 7}


def test_what_a_daemon_that_died_in_an_outage_left_is_taken_over_all_the_same(
    parts: Parts, tmp_path: Path
) -> None:
    job_id = parts.submit()
    parts.claim(other_owner())
    parts.outage.noticed(BackendUnavailable("away"))
    parts.clock.advance(TTL + 1)
    assert parts.recovery.recover(parts.rules, "1") == 0
    announcer = Announcer(
        parts.backend,
        [SimpleNamespace(rules=parts.rules, card=DeviceCard(DEVICE))],  # type: ignore[list-item]
        parts.clock,
        parts.executor._observer,
        parts.outage,
    )
    assert announcer.announce(), "a storage that takes an announcement is back"
    parts.clock.advance(6)
    assert parts.recovery.recover(parts.rules, "1") == 1
    assert parts.submitter.status(DEVICE, job_id).state is State.QUEUED
