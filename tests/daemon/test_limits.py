"""What job, storage and storage's room allow a run, and a job that goes while it runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spooler.errors import JobGone, RunStopped
from spooler.model.artifact import Artifact
from spooler.model.claim import Claim
from spooler.model.job import Limits
from spooler.model.result import Outcome, Result
from spooler.model.run import RunRequest, StopReason
from spooler.model.state import State
from spooler.model.storage import Traits
from spooler.observe.events import EventName
from spooler.protocols import RunControl
from spooler.testing.bench import DEVICE, TTL
from tests.daemon.parts import Parts


def execute(parts: Parts, change: Callable[[Claim], Claim]) -> str:
    """Execute a job whose claim is a little different."""
    job = parts.submit()
    parts.executor.execute(parts.feed, change(parts.claim()), parts.rules, "1.0.0")
    return job


def remember_start(parts: Parts) -> list[float]:
    asked: list[float] = []
    parts.backend.before["start"] = lambda _, seconds: asked.append(seconds)
    return asked


# --- how long a run may take -----------------------------------------------------------------


@pytest.mark.parametrize(("limit", "allowed"), [(None, 600.0), (20.0, 20.0), (7200.0, 600.0)])
def test_a_job_may_allow_less_than_its_device(
    parts: Parts, limit: float | None, allowed: float
) -> None:
    asked = remember_start(parts)
    parts.submit_with(Limits(timeout=limit))
    parts.execute()
    (request,) = parts.runner.requests
    assert request.timeout == allowed
    assert asked == [allowed + 60.0], "and the storage is told, with what there is around a run"


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        (None, "timed out after 600 s (device limit)"),
        (20.0, "timed out after 20 s (job limit)"),
        (600.0, "timed out after 600 s (device limit)"),
    ],
)
def test_whose_limit_it_was_is_said(parts: Parts, limit: float | None, reason: str) -> None:
    job = parts.submit_with(Limits(timeout=limit))
    parts.runner.act = run_out(parts)
    parts.execute()
    status = parts.submitter.status(DEVICE, job)
    assert (status.state, status.reason) == (State.ERROR, reason)


def run_out(parts: Parts) -> Callable[[RunRequest, RunControl], Outcome]:
    def act(request: RunRequest, _: RunControl) -> Outcome:
        parts.clock.advance(request.timeout)
        raise RunStopped(StopReason.TIMEOUT)

    return act


class Extending:
    """A storage whose claims have a deadline, that a start moves, once."""

    def __init__(self, parts: Parts, *, extends: bool = True) -> None:
        self.parts, self.extends = parts, extends
        self.asked: list[float] = []
        self.real: Any = parts.backend.inner.start
        parts.backend.inner.start = self.start  # type: ignore[method-assign]

    def start(self, claim: Claim, seconds: float) -> Claim:
        self.asked.append(seconds)
        started: Claim = self.real(claim, seconds)
        until = self.parts.clock.monotonic() + seconds if self.extends else claim.until
        return replace(started, until=until)


def due_in(parts: Parts, seconds: float) -> Callable[[Claim], Claim]:
    return lambda claim: replace(claim, until=parts.clock.monotonic() + seconds)


def test_a_start_asks_for_the_whole_run_whatever_the_deadline_was(parts: Parts) -> None:
    storage = Extending(parts)
    execute(parts, due_in(parts, 90.0))
    assert storage.asked == [660.0]
    assert parts.runner.requests[0].timeout == 600.0


def test_a_deadline_that_does_not_move_bounds_the_run(parts: Parts) -> None:
    Extending(parts, extends=False)
    execute(parts, due_in(parts, 100.0))
    assert parts.runner.requests[0].timeout == 40.0, "and leaves time to deliver"


def test_a_deadline_that_is_over_leaves_no_time(parts: Parts) -> None:
    Extending(parts, extends=False)
    execute(parts, due_in(parts, 30.0))
    assert parts.runner.requests[0].timeout == 0.0


def test_a_run_that_the_deadline_has_ended_says_so(parts: Parts) -> None:
    Extending(parts, extends=False)
    parts.runner.act = run_out(parts)
    job = execute(parts, due_in(parts, 100.0))
    reason = parts.submitter.status(DEVICE, job).reason
    assert reason == "timed out after 40 s (storage limit)"


def test_a_slow_storage_costs_a_part_of_the_time(parts: Parts) -> None:
    """What was left when the run began is what it gets, not what was left at the claim."""
    Extending(parts, extends=False)
    parts.backend.before["start"] = lambda *_: parts.clock.advance(25.0)
    execute(parts, due_in(parts, 100.0))
    assert parts.runner.requests[0].timeout == 15.0


def test_an_error_says_whether_it_may_run_again(parts: Parts) -> None:
    parts.runner.act = lambda *_: Outcome(State.ERROR, "the cryostat was warm", again=True)
    job = parts.submit()
    parts.execute()
    signed = parts.storage.entries[DEVICE, job].signed
    assert signed is not None
    assert signed.report.again is True
    parts.runner.act = lambda *_: Outcome(State.ERROR, "bad parameters")
    job = parts.submit()
    parts.execute()
    signed = parts.storage.entries[DEVICE, job].signed
    assert signed is not None
    assert signed.report.again is False, "an error is final unless it says so"


# --- the job goes ----------------------------------------------------------------------------


def gone(*_: object, **__: object) -> None:
    raise JobGone("its owner has deleted it")


def test_deleted_while_it_runs(parts: Parts) -> None:
    def act(_: RunRequest, control: RunControl) -> Outcome:
        parts.backend.before["renew"] = gone
        parts.clock.advance(TTL)
        parts.leases.renew_due()
        assert control.stop_reason is StopReason.LEASE_LOST
        raise RunStopped(control.stop_reason)

    parts.runner.act = act
    parts.submit()
    parts.execute()
    (told,) = parts.told(EventName.JOB_LOST)
    assert told["reason"] == "its owner has deleted it"
    assert "ack" not in parts.backend.calls, "nothing is written about it"
    assert "release" not in parts.backend.calls
    assert parts.leases.tokens() == set()
    assert len(parts.records) == 0
    assert parts.parked() == []


def test_deleted_before_it_starts(parts: Parts) -> None:
    parts.backend.before["start"] = gone
    parts.submit()
    parts.execute()
    assert parts.runner.requests == []
    assert parts.told(EventName.JOB_LOST)[0]["reason"] == "its owner has deleted it"


def test_deleted_between_run_and_delivery(parts: Parts) -> None:
    """What was measured is kept, and nobody waits for it."""
    parts.backend.before["ack"] = gone
    parts.submit()
    parts.execute()
    (parked,) = parts.parked()
    assert json.loads(parked.read_text())["reason"] == "its owner has deleted it"
    assert parts.delivery.waiting == 0
    assert parts.leases.tokens() == set()
    assert not parts.outage.lasts


# --- a result that the storage cannot hold ---------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Parts:
    return Parts(tmp_path, traits=Traits(largest_report=100))


def measured(data: dict[str, Any], *files: Artifact) -> Callable[..., Outcome]:
    return lambda *_: Outcome(State.DONE, "", Result(data, files))


def test_a_result_that_fits_is_delivered(small: Parts) -> None:
    data = {"value": "x" * (100 - len('{"value":""}'))}
    small.runner.act = measured(data)
    job = small.submit()
    small.execute()
    assert small.submitter.result(DEVICE, job).data == data
    assert not (small.state / "files").exists()


def test_one_byte_more_stays_with_us_and_the_submitter_is_told_where(small: Parts) -> None:
    data = {"value": "x" * (101 - len('{"value":""}'))}
    small.runner.act = measured(data)
    job = small.submit()
    small.execute()
    status = small.submitter.status(DEVICE, job)
    assert status.state is State.ERROR
    (kept,) = (small.state / "files").rglob("result.json")
    assert json.loads(kept.read_text()) == data
    assert str(kept) in status.reason
    assert "101 bytes" in status.reason
    assert "at most 100" in status.reason
    assert small.told(EventName.JOB_FAILED)[0]["job"] == job
    assert small.delivery.waiting == 0


def test_it_lies_beside_the_files_of_its_run(small: Parts) -> None:
    def act(request: RunRequest, _: RunControl) -> Outcome:
        Path(request.scratch).mkdir(parents=True)
        (Path(request.scratch) / "a.h5").write_text("data")
        return Outcome(State.DONE, "", Result({"v": "x" * 200}, (Artifact("a.h5", 4, "0" * 64),)))

    small.runner.act = act
    job = small.submit()
    small.execute()
    folder = small.state / "files" / DEVICE / f"{job}.1"
    assert sorted(place.name for place in folder.iterdir()) == ["a.h5", "result.json"]


def test_ids_of_submitters_name_no_place(small: Parts) -> None:
    """An id with slashes and dots leaves no folder, here least of all."""
    small.runner.act = measured({"v": "x" * 200})
    for job in ("../../../x", "task/1", "..", "a" * 240, "line\nbreak"):
        small.submitter.submit(DEVICE, {}, job_id=job)
        small.execute()
        assert small.submitter.status(DEVICE, job).state is State.ERROR
    kept = list((small.state / "files" / DEVICE).iterdir())
    assert len(kept) == 5
    assert [len(list(each.glob("result.json"))) for each in kept] == [1] * 5
    outside = {each.name for each in small.folder.iterdir()}
    assert outside == {"state"}


def test_an_error_or_a_storage_without_a_limit_keeps_nothing(parts: Parts, small: Parts) -> None:
    parts.runner.act = measured({"v": "x" * 100_000})
    parts.submit()
    parts.execute()
    small.runner.act = lambda *_: Outcome(State.ERROR, "x" * 200)
    small.submit()
    small.execute()
    assert not (small.state / "files").exists()
