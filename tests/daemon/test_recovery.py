from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from spooler.daemon.claims.recovery import verdict
from spooler.errors import BackendUnavailable, Scope
from spooler.model.claim import Attempt, Claim
from spooler.model.device import Rerun
from spooler.model.job import Limits, Queue
from spooler.model.result import Outcome
from spooler.model.state import State
from spooler.observe.events import EventName
from spooler.testing.bench import DEVICE, QUEUE, TTL, new_lease, other_owner
from tests.daemon.parts import Parts

POLICIES = [
    (Rerun.NEVER, False, False),
    (Rerun.NEVER, True, False),
    (Rerun.IF_NOT_STARTED, False, True),
    (Rerun.IF_NOT_STARTED, True, False),
    (Rerun.ALWAYS, False, True),
    (Rerun.ALWAYS, True, True),
]


@pytest.mark.parametrize(("rerun", "started", "runs_again"), POLICIES)
def test_the_policy(parts: Parts, rerun: Rerun, *, started: bool, runs_again: bool) -> None:
    parts.rules = replace(parts.rules, rerun=rerun)
    job_id = parts.submit()
    claim = parts.claim(other_owner())
    if started:
        parts.backend.start(claim, 600.0)
    parts.clock.advance(TTL + 1)
    assert parts.desk.recover() == 1
    status = parts.submitter.status(DEVICE, job_id)
    assert status.state is (State.QUEUED if runs_again else State.ERROR)
    assert parts.woken == 1, "its worker is told that something may be had"
    if not runs_again:
        assert "the daemon was killed" in status.reason
        assert "Submit the job again" in status.reason


def test_a_job_that_kills_its_worker_is_given_up_with_its_history(parts: Parts) -> None:
    parts.rules = replace(parts.rules, rerun=Rerun.ALWAYS, max_attempts=3)
    job_id = parts.submit()
    for attempt in (1, 2, 3):
        claim = parts.claim(other_owner())
        assert claim.attempt == attempt
        parts.backend.start(claim, 600.0)
        parts.clock.advance(TTL + 1)
        assert parts.desk.recover() == 1
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
    parts.desk.recover()
    assert parts.backend.claim(QUEUE, new_lease()) is None
    parts.clock.advance(60)
    assert parts.claim().attempt == 2


def test_a_cancelled_job_is_cancelled(parts: Parts) -> None:
    job_id = parts.submit()
    parts.claim(other_owner())
    parts.submitter.cancel(DEVICE, job_id)
    parts.clock.advance(TTL + 1)
    parts.desk.recover()
    assert parts.state_of(job_id) is State.CANCELLED
    assert EventName.JOB_CANCELLED in parts.events()


@pytest.mark.parametrize("verb", ["reclaim", "release"])
@pytest.mark.parametrize("done", [True, False])
def test_what_an_outage_interrupts_is_settled_later(parts: Parts, verb: str, *, done: bool) -> None:
    """Whether the storage did what was asked and the answer was lost, or did nothing."""
    job_id = parts.submit()
    parts.claim(other_owner())
    parts.clock.advance(TTL + 1)
    (parts.backend.deaf if done else parts.backend.refused).add(verb)
    with pytest.raises(BackendUnavailable):
        parts.desk.recover()
    parts.backend.deaf, parts.backend.refused = set(), set()
    parts.desk.recover()
    assert parts.state_of(job_id) is State.QUEUED
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


def test_a_job_may_allow_fewer_runs_than_the_device(parts: Parts) -> None:
    """What counts are the runs that have touched the instrument."""
    parts.submit()
    claim = parts.claim()
    job = replace(claim.job, limits=Limits(attempts=2))
    rules = replace(parts.rules, rerun=Rerun.ALWAYS, max_attempts=10)
    past = tuple(Attempt(n, "x", parts.clock.now(), "died", started=n == 1) for n in (1, 2, 3))
    fourth = replace(claim, job=job, attempt=4, history=past)
    assert verdict(fourth, rules) is None, "one run so far"
    ended = verdict(replace(fourth, started=True), rules)
    assert isinstance(ended, Outcome)
    assert "given up" in ended.reason


def test_nothing_is_taken_over_right_after_an_outage(parts: Parts) -> None:
    """Its owner was cut off as well: it is alive, and has the result of an hour in its records."""
    job_id = parts.submit()
    held = parts.hold()
    other = parts.beside(state_name="other")
    for each in (parts, other):
        each.backend.away = True
        each.outage.noticed(BackendUnavailable("away"))
    parts.finish(held.claim, {"value": 7})
    parts.clock.advance(TTL + 1)
    assert other.desk.recover() == 0
    for each in (parts, other):
        each.backend.away = False
        each.outage.over()
    assert other.desk.recover() == 0, "it has had no chance yet"
    parts.clock.advance(2)
    parts.delivery.retry()
    parts.clock.advance(4)
    assert other.desk.recover() == 0
    assert parts.submitter.result(DEVICE, job_id).data == {"value": 7}


def test_what_a_daemon_that_died_in_an_outage_left_is_taken_over_all_the_same(
    parts: Parts,
) -> None:
    job_id = parts.submit()
    parts.claim(other_owner())
    parts.outage.noticed(BackendUnavailable("away"))
    parts.clock.advance(TTL + 1)
    assert parts.desk.recover() == 0
    parts.desk.housekeeper.begin()
    assert parts.told(EventName.DEVICE_ANNOUNCED) == [], "the storage is away, as far as is known"
    assert parts.desk.housekeeper.round() > 0
    assert EventName.STORAGE_RECOVERED in parts.events(), "a storage that answers is back"
    parts.clock.advance(6)
    assert parts.desk.recover() == 1
    assert parts.state_of(job_id) is State.QUEUED


def test_each_take_over_has_a_token_of_its_own(parts: Parts) -> None:
    """The reports of both wait under it, each in a record of its own."""
    parts.rules = replace(parts.rules, rerun=Rerun.NEVER)
    jobs = [parts.submit(), parts.submit()]
    for _ in jobs:
        parts.claim(other_owner())
    parts.clock.advance(TTL + 1)

    def wait(*_: object) -> None:
        raise BackendUnavailable("not now", scope=Scope.JOB)

    parts.backend.before["ack"] = wait
    assert parts.desk.recover() == 2
    assert parts.delivery.waiting == 2
    assert len(parts.leases.tokens()) == 2
    parts.backend.before.clear()
    parts.clock.advance(60.0)
    parts.delivery.retry()
    assert [parts.state_of(job) for job in jobs] == [State.ERROR] * 2


def test_the_order_of_a_pass(tmp_path: Path) -> None:
    """Adopt, deliver, settle what was held, and only then take over."""
    parts = Parts(tmp_path)
    parts.submit(n=1)
    parts.submit(n=2)
    parts.backend.away = True
    parts.finish(parts.hold().claim)
    parts.claim()
    later = parts.later()
    later.recovery.run(later.desk.served)
    asked = [verb for verb in later.backend.calls if verb in {"ack", "reclaim", "release"}]
    assert asked == ["ack", "reclaim", "release", "reclaim"]


def test_trouble_of_one_queue_does_not_keep_the_others(tmp_path: Path) -> None:
    queues = (Queue("first", DEVICE), Queue("second", DEVICE))
    parts = Parts(tmp_path, queues=queues)
    for queue in queues:
        parts.submitter.submit(queue.name, {})
        parts.desk.claim(other_owner(), queue)
    parts.clock.advance(TTL + 1)

    def trouble(queue: Queue, *_: object) -> None:
        if queue.name == "first":
            raise BackendUnavailable("no permission", scope=Scope.QUEUE)

    parts.backend.before["reclaim"] = trouble
    parts.recovery.run(parts.desk.served)
    states = [parts.submitter.devices() and parts.backend.depth(queue) for queue in queues]
    assert states == [0, 1]
    (told,) = parts.told(EventName.QUEUE_UNAVAILABLE)
    assert (told["queue"], told["storage"]) == ("first", "lab")
    assert EventName.STORAGE_UNAVAILABLE not in parts.events()
