from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest

from spooler.durable import Disk, Place
from spooler.errors import BackendUnavailable, DeviceUnusable, PayloadInvalid, RunStopped, Scope
from spooler.model.artifact import REFUSED, Artifact
from spooler.model.device import Rerun
from spooler.model.result import Outcome, Result
from spooler.model.run import RunRequest, StopReason
from spooler.model.state import State
from spooler.observe.events import EventName
from spooler.protocols import RunControl
from spooler.signing.jws import KeySet
from spooler.testing.bench import DEVICE, QUEUE, TTL, leased, new_lease
from tests.daemon.parts import KEY, Parts


def test_a_job_goes_its_way(parts: Parts) -> None:
    job_id = parts.submit(a=1)
    parts.execute()
    assert parts.state_of(job_id) is State.DONE
    (request,) = parts.runner.requests
    assert (request.job_id, request.attempt, request.payload) == (job_id, 1, {"a": 1})
    expected = [EventName.JOB_CLAIMED, EventName.JOB_STARTED, EventName.REPORT_DELIVERED]
    assert parts.events() == [*expected, EventName.JOB_FINISHED]
    assert parts.leases.tokens() == set()
    assert len(parts.records) == 0


def test_the_report_is_a_jws_that_says_everything(parts: Parts) -> None:
    job_id = parts.submit()
    parts.execute()
    signed = parts.storage.entries[DEVICE, job_id].signed
    assert signed is not None
    said = json.loads(KeySet([KEY.public()]).verify_jws(signed.jws))
    assert said["job_id"] == job_id
    assert said["status"]["state"] == "done"
    assert said["result"]["data"] == {"value": 1}
    assert said["owner"] == str(parts.owner)
    assert (said["device"], said["queue"], said["attempt"]) == (DEVICE, QUEUE.name, 1)


def test_started_is_noted_before_the_handler_runs(parts: Parts) -> None:
    def act(*_: object) -> Outcome:
        (entry,) = parts.storage.entries.values()
        assert entry.claim is not None
        assert entry.claim.started
        return Outcome(State.DONE)

    parts.runner.act = act
    parts.submit()
    parts.execute()


@pytest.mark.parametrize(
    ("trouble", "state", "word"),
    [
        (PayloadInvalid("shots must be a number"), State.ERROR, "shots must be a number"),
        (RunStopped(StopReason.TIMEOUT), State.ERROR, "timed out after 600 s (device limit)"),
        (RunStopped(StopReason.CANCELLED), State.CANCELLED, "while it ran"),
        (RunStopped(StopReason.SHUTDOWN), State.ERROR, "Submit the job again"),
    ],
)
def test_how_a_run_may_end(parts: Parts, trouble: Exception, state: State, word: str) -> None:
    def act(*_: object) -> Outcome:
        raise trouble

    parts.runner.act = act
    job_id = parts.submit()
    parts.execute()
    status = parts.submitter.status(DEVICE, job_id)
    assert status.state is state
    assert word in status.reason


def test_a_stopped_run_of_a_device_that_repeats_goes_back(parts: Parts) -> None:
    def act(*_: object) -> Outcome:
        raise RunStopped(StopReason.SHUTDOWN)

    parts.runner.act = act
    parts.rules = replace(parts.rules, rerun=Rerun.ALWAYS)
    job_id = parts.submit()
    parts.execute()
    assert parts.state_of(job_id) is State.QUEUED
    assert parts.claim().attempt == 1, "the attempt is refunded"


def _dies(*_: object) -> Outcome:
    return Outcome(State.ERROR, "the handler process ended with SIGKILL", died=True)


def test_a_worker_that_is_killed_is_covered_by_the_policy(parts: Parts) -> None:
    """Within `max_attempts`, and with what became of each attempt in the reason."""
    parts.runner.act = _dies
    parts.rules = replace(parts.rules, rerun=Rerun.ALWAYS, max_attempts=3)
    job_id = parts.submit()
    for _ in range(2):
        parts.execute()
        assert parts.state_of(job_id) is State.QUEUED
        assert parts.backend.claim(QUEUE, new_lease()) is None, "not made in a row"
        parts.clock.advance(3600)
    parts.execute()
    status = parts.submitter.status(DEVICE, job_id)
    assert status.state is State.ERROR
    assert "given up after 3 attempts" in status.reason
    for attempt in (1, 2, 3):
        assert f"attempt {attempt}: the handler process ended with SIGKILL" in status.reason
    assert parts.events().count(EventName.JOB_REQUEUED) == 2
    assert parts.leases.tokens() == set()


@pytest.mark.parametrize("rerun", [Rerun.NEVER, Rerun.IF_NOT_STARTED])
def test_a_worker_that_is_killed_costs_the_job_where_nothing_is_repeated(
    parts: Parts, rerun: Rerun
) -> None:
    parts.runner.act = _dies
    parts.rules = replace(parts.rules, rerun=rerun)
    job_id = parts.submit()
    parts.execute()
    status = parts.submitter.status(DEVICE, job_id)
    assert (status.state, len(parts.runner.requests)) == (State.ERROR, 1)
    assert "SIGKILL" in status.reason


def test_a_killed_worker_counts_as_an_attempt_though_the_storage_is_away(parts: Parts) -> None:
    parts.runner.act = _dies
    parts.rules = replace(parts.rules, rerun=Rerun.ALWAYS)
    parts.submit()
    parts.backend.refused = {"release"}
    parts.execute()
    parts.backend.refused = set()
    parts.clock.advance(60)
    parts.desk.housekeeper.round()
    parts.clock.advance(60)
    assert parts.claim().attempt == 2


def test_a_device_that_cannot_be_used_gives_the_job_back_and_rests(parts: Parts) -> None:
    def act(*_: object) -> Outcome:
        raise DeviceUnusable("the laser is locked")

    parts.runner.act = act
    job_id = parts.submit()
    with pytest.raises(DeviceUnusable):
        parts.execute()
    assert parts.state_of(job_id) is State.QUEUED


def test_a_lost_lease_publishes_nothing(parts: Parts) -> None:
    def act(_: RunRequest, control: RunControl) -> Outcome:
        parts.clock.advance(TTL + 1)
        assert parts.backend.reclaim(QUEUE, new_lease(), leased) is not None
        parts.leases.renew_due()
        assert control.stop_reason is StopReason.LEASE_LOST
        raise RunStopped(control.stop_reason)

    parts.runner.act = act
    job_id = parts.submit()
    parts.execute()
    assert parts.state_of(job_id) is State.RUNNING
    assert EventName.JOB_LOST in parts.events()
    assert len(parts.records) == 0


def test_a_cancelled_or_broken_job_never_reaches_the_handler(parts: Parts) -> None:
    cancelled = parts.submit()
    parts.submitter.cancel(DEVICE, cancelled)
    parts.execute()
    assert parts.submitter.status(DEVICE, cancelled).state is State.CANCELLED
    broken = parts.submit()
    entry = parts.storage.entries[DEVICE, broken]
    entry.job = replace(entry.job, payload=None, defect="the job is cut off")
    parts.execute()
    assert parts.submitter.status(DEVICE, broken).reason == "the job is cut off"
    assert parts.runner.requests == []


def test_nothing_starts_while_the_storage_is_away(parts: Parts) -> None:
    """The device is free at once; the claim is kept, and its job goes back with the storage."""
    job_id = parts.submit()
    claim = parts.claim()
    parts.backend.away = True
    parts.executor.execute(parts.feed, claim, parts.rules, "1")
    assert parts.runner.requests == []
    assert parts.waits == [], "nobody waits for the storage"
    assert "could not be recorded" in parts.told(EventName.JOB_RELEASED)[0]["reason"]
    parts.clock.advance(TTL - 1)
    parts.desk.housekeeper.round()
    assert parts.returns.waiting(DEVICE) == 1
    parts.backend.away = False
    parts.leases.renew_due()
    parts.clock.advance(TTL - 1)
    assert parts.backend.inner.reclaim(QUEUE, new_lease(), leased) is None, "the lease is renewed"
    parts.desk.housekeeper.round()
    assert parts.returns.waiting(DEVICE) == 0
    assert parts.leases.tokens() == set()
    parts.execute()
    assert parts.state_of(job_id) is State.DONE
    assert len(parts.runner.requests) == 1


def test_a_start_whose_answer_was_lost_runs_once(parts: Parts) -> None:
    """The storage has noted it; the job goes back all the same, for nothing has run."""
    job_id = parts.submit()
    parts.backend.deaf = {"start"}
    parts.execute()
    assert parts.runner.requests == []
    parts.backend.deaf = set()
    parts.desk.housekeeper.round()
    parts.execute()
    assert parts.state_of(job_id) is State.DONE
    assert len(parts.runner.requests) == 1


def test_a_job_whose_start_alone_fails_waits_a_little(parts: Parts) -> None:
    """It is not claimed again and again meanwhile, and the storage is not away."""

    def alone(*_: object) -> None:
        raise BackendUnavailable("its file belongs to root", scope=Scope.JOB)

    job_id = parts.submit()
    parts.backend.before["start"] = alone
    parts.execute()
    assert not parts.outage.lasts
    parts.desk.housekeeper.round()
    assert parts.returns.waiting(DEVICE) == 1
    assert parts.backend.inner.claim(QUEUE, new_lease()) is None
    del parts.backend.before["start"]
    parts.clock.advance(5.0)
    parts.desk.housekeeper.round()
    parts.execute()
    assert parts.state_of(job_id) is State.DONE


def test_published_files_are_kept_and_the_rest_is_gone(parts: Parts) -> None:
    def act(request: RunRequest, _: RunControl) -> Outcome:
        folder = Path(request.scratch)
        (folder / "traces").mkdir(parents=True)
        (folder / "traces" / "one.h5").write_text("data")
        (folder / "junk.tmp").write_text("junk")
        return Outcome(State.DONE, "", Result({}, (Artifact("traces/one.h5", 4, "0" * 64),)))

    parts.runner.act = act
    job_id = parts.submit()
    parts.execute()
    kept = parts.state / "files" / DEVICE / f"{job_id}.1" / "traces" / "one.h5"
    assert kept.read_text() == "data"
    assert not list((parts.state / "scratch").iterdir())
    assert parts.submitter.result(DEVICE, job_id).artifacts[0].path == "traces/one.h5"


def test_what_no_report_can_carry_is_kept_and_named(parts: Parts) -> None:
    def act(request: RunRequest, _: RunControl) -> Outcome:
        Path(request.scratch).mkdir(parents=True)
        (Path(request.scratch) / REFUSED).write_text('{"counts": NaN}')
        return Outcome(State.ERROR, "the result's data counts is not a finite number")

    parts.runner.act = act
    job_id = parts.submit()
    parts.execute()
    place = f"files/{DEVICE}/{job_id}.1/{REFUSED}"
    assert (parts.state / place).read_text() == '{"counts": NaN}'
    said = parts.submitter.status(DEVICE, job_id)
    assert said.state is State.ERROR
    assert said.reason.endswith(f"is kept on its machine: {place}")
    assert not list((parts.state / "scratch").iterdir())


def test_a_published_file_that_is_gone_does_not_cost_the_result(parts: Parts) -> None:
    """A handler, or whoever cleans up, has deleted it: what was measured is reported."""

    def act(request: RunRequest, _: RunControl) -> Outcome:
        Path(request.scratch).mkdir(parents=True)
        (Path(request.scratch) / "there.h5").write_text("data")
        files = [Artifact(name, 4, "0" * 64) for name in ("gone.h5", "there.h5")]
        return Outcome(State.DONE, "", Result({"value": 7}, tuple(files)))

    parts.runner.act = act
    job_id = parts.submit()
    parts.execute()
    assert parts.waits == []
    assert parts.state_of(job_id) is State.DONE
    result = parts.submitter.result(DEVICE, job_id)
    assert result.data == {"value": 7}
    assert [each.path for each in result.artifacts] == ["there.h5"]
    assert "gone.h5" in parts.submitter.status(DEVICE, job_id).reason


def test_a_published_file_is_found_again_after_half_a_move(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was moved, and then the disk failed: the repeat finds it where it belongs."""

    def act(request: RunRequest, _: RunControl) -> Outcome:
        Path(request.scratch).mkdir(parents=True)
        (Path(request.scratch) / "a.h5").write_text("data")
        return Outcome(State.DONE, "", Result({}, (Artifact("a.h5", 4, "0" * 64),)))

    parts.runner.act = act
    job_id = parts.submit()
    real, failed = Disk.settle, []

    def settle(disk: Disk, *folders: Place) -> None:
        if (
            f"{job_id}.1" in str(folders)
            and not failed
            and list(parts.folder.rglob("files/**/a.h5"))
        ):
            failed.append(folders)
            raise OSError(errno.EIO, "Input/output error")
        real(disk, *folders)

    monkeypatch.setattr(Disk, "settle", settle)
    parts.execute()
    assert len(failed) == 1
    assert len(parts.waits) == 1
    assert len(parts.submitter.result(DEVICE, job_id).artifacts) == 1
