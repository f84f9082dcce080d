"""Storages that know no delays, or forget who holds what: then the daemon does it for them."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spooler import durable
from spooler.daemon.claims.records import Phase, Record
from spooler.daemon.feeds.housekeeper import Duty
from spooler.daemon.supervisor import OK
from spooler.errors import BackendUnavailable, LeaseLost, RunStopped, Scope
from spooler.model.claim import Claim
from spooler.model.device import Rerun
from spooler.model.job import Limits
from spooler.model.result import Outcome
from spooler.model.run import RunRequest, StopReason
from spooler.model.state import State
from spooler.model.storage import Traits
from spooler.observe.events import EventName
from spooler.protocols import RunControl
from spooler.testing.bench import DEVICE, QUEUE, TTL, leased, new_lease
from tests.daemon.parts import Killed, Looks, Parts
from tests.daemon.test_recovery import POLICIES
from tests.daemon.test_supervisor import Stubborn, supervisor_of

NO_DELAYS = Traits(delays=False)
FORGETFUL = Traits(keeps_claims=False, delays=False)


def no_reclaim(parts: Parts) -> Parts:
    """Have the storage forget: nobody finds in it what somebody else has claimed."""
    parts.backend.inner.reclaim = lambda *_: None  # type: ignore[method-assign]
    return parts


@pytest.fixture
def forgetful(tmp_path: Path) -> Parts:
    return no_reclaim(Parts(tmp_path, traits=FORGETFUL))


def work(parts: Parts, looks: int = 1) -> None:
    """Have the device's worker look at its queue."""
    parts.worker(Looks(parts.clock, looks, lambda: None)).run()


def later(parts: Parts, **changes: Any) -> Parts:
    return no_reclaim(parts.later(**changes))


# --- without delays --------------------------------------------------------------------------


@pytest.fixture
def hasty(tmp_path: Path) -> Parts:
    """A daemon on a storage without delays, that has just taken over a dead one's job."""
    parts = Parts(tmp_path, traits=NO_DELAYS)
    parts.claim_of_the_dead()
    assert parts.desk.recover() == 1
    return parts


def test_the_claim_is_held_for_the_delay_and_then_released(hasty: Parts) -> None:
    (job,) = [each.job.id for each in hasty.storage.entries.values()]
    assert hasty.told(EventName.JOB_REQUEUED)[0]["job"] == job
    pause = hasty.desk.housekeeper.round()
    assert 2.5 <= pause <= 7.5, "it comes back when the delay is over"
    assert hasty.state_of(job) is State.RUNNING
    assert hasty.backend.claim(QUEUE, new_lease()) is None, "not before"
    hasty.clock.advance(pause - 0.01)
    hasty.desk.housekeeper.round()
    assert hasty.state_of(job) is State.RUNNING
    hasty.clock.advance(0.02)
    hasty.desk.housekeeper.round()
    assert hasty.state_of(job) is State.QUEUED
    assert hasty.claim().attempt == 2, "the attempt of the dead counts"
    assert hasty.leases.tokens() == set()


def test_its_lease_is_renewed_meanwhile(tmp_path: Path) -> None:
    """A sixth attempt waits for minutes."""
    parts = Parts(tmp_path, traits=NO_DELAYS)
    parts.submit()
    parts.returns.give_back(parts.claim(), "later", refund=False, delay=10 * TTL)
    for _ in range(18):
        parts.clock.advance(TTL / 2)
        parts.leases.renew_due()
        assert parts.backend.inner.reclaim(QUEUE, new_lease(), leased) is None
        assert parts.desk.recover() == 0, "nor do we take it from ourselves"


def test_at_the_end_it_is_released_at_once(hasty: Parts) -> None:
    (job,) = [each.job.id for each in hasty.storage.entries.values()]
    supervisor = supervisor_of(hasty, [Stubborn()])
    supervisor.stop()
    supervisor.stop()
    assert supervisor.run(lambda: None) == OK
    assert hasty.state_of(job) is State.QUEUED


def test_at_the_end_a_storage_that_is_away_is_no_trouble(hasty: Parts) -> None:
    hasty.backend.away = True
    hasty.returns.try_all()
    assert hasty.returns.holds(hasty.leases.all()[0].claim.token)


def test_one_that_somebody_else_has_taken_is_forgotten(hasty: Parts) -> None:
    (held,) = hasty.leases.all()
    hasty.clock.advance(TTL + 1)
    assert hasty.backend.inner.reclaim(QUEUE, new_lease(), leased) is not None
    assert hasty.returns.release_due() is None
    assert not hasty.returns.holds(held.claim.token)
    assert hasty.leases.tokens() == set()


@pytest.mark.parametrize("scope", [Scope.JOB, Scope.QUEUE])
def test_one_that_cannot_be_given_back_keeps_no_other_waiting(tmp_path: Path, scope: Scope) -> None:
    parts = Parts(tmp_path, traits=NO_DELAYS)
    jobs = [parts.submit(), parts.submit()]
    for _ in jobs:
        parts.returns.give_back(parts.claim(), "later", refund=True, delay=5.0)

    def trouble(claim: Claim, *_: object, **__: object) -> None:
        if claim.job.id == jobs[0]:
            raise BackendUnavailable("permission denied", scope=scope)

    parts.backend.before["release"] = trouble
    parts.clock.advance(6.0)
    parts.desk.housekeeper.round()
    assert [parts.state_of(job) for job in jobs] == [State.RUNNING, State.QUEUED]
    assert not parts.outage.lasts
    parts.backend.before.clear()
    parts.clock.advance(6.0)
    parts.desk.housekeeper.round()
    assert parts.state_of(jobs[0]) is State.QUEUED


def test_a_storage_that_goes_away_is_told_of_and_gets_it_later(hasty: Parts) -> None:
    (job,) = [each.job.id for each in hasty.storage.entries.values()]
    hasty.backend.refused = {"release"}
    hasty.clock.advance(10.0)
    hasty.desk.housekeeper.round()
    assert hasty.outage.lasts
    hasty.backend.refused = set()
    hasty.clock.advance(60.0)
    hasty.desk.housekeeper.round()
    assert hasty.state_of(job) is State.QUEUED


# --- and forgetting --------------------------------------------------------------------------


def test_what_is_claimed_is_on_the_disk_before_anything_else(forgetful: Parts) -> None:
    seen: list[dict[str, Any]] = []

    def look(*_: object) -> None:
        seen.append(forgetful.written())

    forgetful.observer.subscribe(lambda each: look() if each.name == "job.claimed" else None)
    forgetful.backend.before["start"] = look
    job = forgetful.submit(shots=3)
    work(forgetful)
    assert forgetful.state_of(job) is State.DONE
    assert len(seen) == 2
    for said in seen:
        assert (said["phase"], said["held"]["payload"]) == ("held", {"shots": 3})
        assert (said["claim"]["job_id"], said["claim"]["started"]) == (job, False)
    assert len(forgetful.records) == 0, "and gone when it is delivered"
    assert list(forgetful.records.folder.glob("*.json")) == []


def test_that_it_has_started_is_on_the_disk_before_the_handler_runs(forgetful: Parts) -> None:
    def act(*_: object) -> Outcome:
        said = forgetful.written()
        assert said["claim"]["started"] is True
        assert said["held"]["payload"] == {"shots": 3}
        return Outcome(State.DONE)

    forgetful.runner.act = act
    forgetful.submit(shots=3)
    work(forgetful)
    assert len(forgetful.runner.requests) == 1


def test_a_storage_that_keeps_claims_costs_no_file(parts: Parts) -> None:
    def act(*_: object) -> Outcome:
        assert list(parts.records.folder.glob("*.json")) == []
        return Outcome(State.DONE)

    parts.runner.act = act
    job = parts.submit()
    work(parts)
    assert parts.state_of(job) is State.DONE


@pytest.mark.parametrize(("rerun", "started", "runs_again"), POLICIES)
def test_what_the_dead_held_is_settled_by_the_policy_of_its_device(
    forgetful: Parts, rerun: Rerun, *, started: bool, runs_again: bool
) -> None:
    forgetful.rules = replace(forgetful.rules, rerun=rerun)
    killed_in(forgetful, started=started)
    job = forgetful.submit(shots=3)
    with pytest.raises(Killed):
        work(forgetful)
    next_one = later(forgetful)
    next_one.desk.housekeeper.begin()
    if runs_again:
        assert next_one.state_of(job) is State.RUNNING, "it is held for the delay"
        next_one.clock.advance(10.0)
        next_one.desk.housekeeper.round()
        assert next_one.state_of(job) is State.QUEUED
        work(next_one)
        assert next_one.state_of(job) is State.DONE
        assert next_one.runner.requests[0].payload == {"shots": 3}
    else:
        status = next_one.submitter.status(DEVICE, job)
        assert status.state is State.ERROR
        assert "the daemon was killed" in status.reason
    next_one.recovery.run(next_one.desk.served)
    assert not forgetful.records.folder.exists(), "nothing is left to be known"
    assert next_one.estates.tokens() == set()


@pytest.mark.parametrize("allowed", [1, 2])
def test_the_runs_that_a_job_allows_are_counted_over_all_that_died(
    forgetful: Parts, allowed: int
) -> None:
    forgetful.rules = replace(forgetful.rules, rerun=Rerun.ALWAYS, max_attempts=9)
    job, at_work = forgetful.submit_with(Limits(attempts=allowed)), forgetful
    for _ in range(allowed):
        assert at_work.state_of(job) is State.QUEUED
        killed_in(at_work, started=True)
        with pytest.raises(Killed):
            work(at_work)
        at_work = later(at_work)
        at_work.desk.housekeeper.begin()
        at_work.clock.advance(20.0)
        at_work.desk.housekeeper.round()
        at_work.recovery.run(at_work.desk.served)  # what the dead have left is let go
    status = at_work.submitter.status(DEVICE, job)
    assert status.state is State.ERROR
    assert f"given up after {allowed} attempts" in status.reason


def killed_in(parts: Parts, *, started: bool) -> None:
    def act(*_: object) -> Outcome:
        raise Killed

    def start(*_: object) -> None:
        raise Killed

    if started:
        parts.runner.act = act
    else:
        parts.backend.before["start"] = start


def test_who_dies_during_the_delay_leaves_it_to_the_next(forgetful: Parts) -> None:
    killed_in(forgetful, started=False)
    job = forgetful.submit()
    with pytest.raises(Killed):
        work(forgetful)
    second = later(forgetful)
    second.desk.housekeeper.begin()
    second.desk.housekeeper.round()
    second.recovery.run(second.desk.served)
    assert len(second.told(EventName.JOB_REQUEUED)) == 1, "decided once, and then it waits"
    for records in (forgetful.records, second.records):
        if list(records.folder.glob("*.json")):
            break
    else:
        pytest.fail("nobody knows of the claim any more")
    second.kill_also(forgetful)
    third = no_reclaim(second.later_of_the_dead())
    third.desk.housekeeper.begin()
    third.clock.advance(10.0)
    third.desk.housekeeper.round()
    assert third.state_of(job) is State.QUEUED


def test_a_report_decides_before_what_was_held(forgetful: Parts) -> None:
    """Its settler has died between the report and the end of the record that it settled."""
    forgetful.rules = replace(forgetful.rules, rerun=Rerun.NEVER)
    killed_in(forgetful, started=True)
    job = forgetful.submit()
    with pytest.raises(Killed):
        work(forgetful)
    second = later(forgetful)
    second.backend.refused = {"ack"}
    second.die_at(EventName.JOB_FAILED)
    with pytest.raises(Killed):
        second.recovery.run(second.desk.served)
    second.kill_also(forgetful)
    third = no_reclaim(second.later_of_the_dead())
    third.rules = replace(third.rules, rerun=Rerun.ALWAYS)

    def wait(*_: object) -> None:
        raise BackendUnavailable("not now", scope=Scope.JOB)

    third.backend.before["ack"] = wait
    third.recovery.run(third.desk.served)
    assert "release" not in third.backend.calls
    assert third.told(EventName.JOB_REQUEUED) == []
    third.backend.before.clear()
    third.clock.advance(60.0)
    third.recovery.run(third.desk.served)
    assert third.state_of(job) is State.ERROR
    third.recovery.run(third.desk.served)
    assert third.estates.tokens() == set()


class _Refusing:
    """`os` as durable.py sees it, on a full disk."""

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def write(self, *_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_what_cannot_be_written_down_is_not_kept(
    forgetful: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = forgetful.submit()
    forgetful.backend.after["claim"] = lambda *_: monkeypatch.setattr(durable, "os", _Refusing())
    work(forgetful)
    assert forgetful.state_of(job) is State.QUEUED
    assert forgetful.runner.requests == []
    assert EventName.DISK_FULL in forgetful.events()
    monkeypatch.undo()
    forgetful.backend.after.clear()
    work(forgetful)
    assert forgetful.state_of(job) is State.DONE
    assert forgetful.runner.requests[0].attempt == 1, "the attempt is refunded"


def test_what_can_be_neither_written_down_nor_given_back_is_held_until_it_can(
    forgetful: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = forgetful.submit()

    def full_and_away(*_: object) -> None:
        monkeypatch.setattr(durable, "os", _Refusing())
        forgetful.backend.refused = {"release", "ping"}

    forgetful.backend.after["claim"] = full_and_away
    work(forgetful)
    assert forgetful.returns.waiting(DEVICE) == 1
    assert forgetful.runner.requests == []
    monkeypatch.undo()
    forgetful.backend.after.clear()
    forgetful.backend.refused = set()
    forgetful.desk.housekeeper.round()
    assert forgetful.state_of(job) is State.QUEUED
    work(forgetful)
    assert forgetful.state_of(job) is State.DONE


def test_a_report_that_only_the_storage_takes_ends_its_record(
    forgetful: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our disk is full at the end of the run: nothing is left that has the job run once more."""
    job = forgetful.submit()

    def act(*_: object) -> Outcome:
        monkeypatch.setattr(durable, "os", _Refusing())
        return Outcome(State.DONE)

    forgetful.runner.act = act
    forgetful.execute()
    monkeypatch.undo()
    assert forgetful.state_of(job) is State.DONE
    assert forgetful.records.tokens() == set()
    assert list(forgetful.records.folder.glob("*.json")) == []


def test_a_report_that_nobody_takes_leaves_its_record_to_the_next(
    forgetful: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither disk nor storage, and the daemon is stopped: the policy of the device decides."""
    forgetful.submit()

    def act(*_: object) -> Outcome:
        monkeypatch.setattr(durable, "os", _Refusing())
        forgetful.backend.refused = {"ack"}
        return Outcome(State.DONE)

    forgetful.runner.act = act
    forgetful.execute()
    monkeypatch.undo()
    assert forgetful.written()["phase"] == "held"


def test_a_verdict_that_could_not_be_kept_is_given_again(
    forgetful: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The own disk is full, the storage takes no reports, and the daemon is stopped."""
    forgetful.rules = replace(forgetful.rules, rerun=Rerun.NEVER)
    killed_in(forgetful, started=True)
    job = forgetful.submit()
    with pytest.raises(Killed):
        work(forgetful)
    second = later(forgetful)
    second.patience = lambda _: False  # type: ignore[method-assign]
    second.backend.refused = {"ack"}
    second.recovery.adopt()
    with monkeypatch.context() as full:
        full.setattr(durable, "os", _Refusing())
        assert second.desk.recover() == 0
    second.backend.refused = set()
    second.clock.advance(60.0)
    second.outage.over()
    second.clock.advance(60.0)
    second.recovery.run(second.desk.served)
    assert second.state_of(job) is State.ERROR


def lose(parts: Parts, verb: str) -> None:
    def lost(*_: object, **__: object) -> None:
        raise LeaseLost("another site has it")

    parts.backend.before[verb] = lost


@pytest.mark.parametrize("verb", ["start", "renew", "release"])
def test_what_is_lost_is_written_down_no_more(forgetful: Parts, verb: str) -> None:
    """The next process must not decide about somebody else's job."""

    def act(_: RunRequest, control: RunControl) -> Outcome:
        forgetful.clock.advance(TTL)
        forgetful.leases.renew_due()
        raise RunStopped(control.stop_reason or StopReason.SHUTDOWN)

    forgetful.rules = replace(forgetful.rules, rerun=Rerun.ALWAYS)
    forgetful.runner.act = act
    lose(forgetful, verb)
    forgetful.submit()
    work(forgetful)
    (told,) = forgetful.told(EventName.JOB_LOST)
    assert told["reason"] == "another site has it"
    assert len(forgetful.records) == 0
    assert list(forgetful.records.folder.glob("*.json")) == []


class _Stuck:
    """`os` as durable.py sees it, on a disk from which nothing can be removed."""

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def unlink(self, *_: object, **folder: object) -> None:
        raise OSError(errno.EIO, "Input/output error")


def test_trouble_with_our_own_disk_is_no_outage_of_the_storage(
    forgetful: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of a job that is given back cannot be removed: other jobs go on."""
    job = forgetful.submit()
    claim = forgetful.claim()
    forgetful.records.keep(Record(claim, DEVICE))
    forgetful.returns.give_back(claim, "later", refund=True, delay=5.0)
    monkeypatch.setattr(durable, "os", _Stuck())
    forgetful.clock.advance(6.0)
    forgetful.desk.housekeeper.round()
    assert forgetful.state_of(job) is State.QUEUED
    assert not forgetful.outage.lasts
    assert EventName.STORAGE_UNAVAILABLE not in forgetful.events()
    monkeypatch.undo()
    forgetful.clock.advance(6.0)
    forgetful.desk.housekeeper.round()
    assert len(forgetful.records) == 0


def test_what_is_left_to_the_next_process_stays_written_down(forgetful: Parts) -> None:
    """Stopped while its storage is away: whether the job is ours is not known."""
    forgetful.backend.refused = {"start", "release"}
    forgetful.submit()
    work(forgetful)
    forgetful.returns.try_all()
    assert len(forgetful.told(EventName.JOB_RELEASED)) == 1
    assert forgetful.written()["phase"] == "held"


def test_a_parked_report_leaves_no_record(forgetful: Parts) -> None:
    lose(forgetful, "ack")
    forgetful.submit()
    work(forgetful)
    assert len(forgetful.parked()) == 1
    assert len(forgetful.records) == 0


def test_what_a_living_process_holds_is_not_settled_by_itself(forgetful: Parts) -> None:
    def act(*_: object) -> Outcome:
        forgetful.clock.advance(3600.0)
        forgetful.recovery.run(forgetful.desk.served)
        assert len(forgetful.records.of(Phase.HELD)) == 1
        return Outcome(State.DONE)

    forgetful.runner.act = act
    job = forgetful.submit()
    work(forgetful)
    assert forgetful.state_of(job) is State.DONE
    assert forgetful.told(EventName.JOB_REQUEUED) == []


def test_claims_are_not_counted_as_reports(forgetful: Parts) -> None:
    """A slow storage is served by the feed's thread, however many devices hold a claim."""
    forgetful.backend.after["ack"] = lambda *_: forgetful.clock.advance(0.02)
    forgetful.submit()
    work(forgetful)
    for _ in range(6):
        forgetful.submit()
        forgetful.records.keep(Record(forgetful.claim(), DEVICE))
    forgetful.bell_answer()
    forgetful.submit()
    work(forgetful)
    assert forgetful.delivery.waiting == 1
    assert Duty.DELIVER in forgetful.bell_answer()


def test_a_record_of_the_executor_is_read_by_the_next(forgetful: Parts) -> None:
    """Everything that a claim's end needs is in its file."""
    killed_in(forgetful, started=True)
    job = forgetful.submit(shots=3)
    with pytest.raises(Killed):
        work(forgetful)
    said = json.loads(next(forgetful.records.folder.glob("*.json")).read_text())
    next_one = later(forgetful)
    next_one.recovery.adopt()
    (record,) = [each for some in next_one.estates for each in some.of(Phase.HELD)]
    assert record.claim.job.id == job
    assert record.claim.job.payload == {"shots": 3}
    assert record.token == said["claim"]["token"]
    assert record.claim.owner == forgetful.owner
