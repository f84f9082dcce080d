"""A report that waits alone stops nobody; one that is refused for good is parked and answered."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from spooler import durable
from spooler.clock import SystemClock
from spooler.daemon.claims.records import Phase, Record
from spooler.errors import BackendUnavailable, JobGone, ReportRefused, Scope
from spooler.model.claim import Claim
from spooler.model.job import Queue
from spooler.model.result import Report, SignedReport
from spooler.model.state import State
from spooler.observe.events import EventName
from spooler.testing.bench import DEVICE, QUEUE, TTL, leased, new_lease, other_owner
from tests.daemon.parts import Killed, Parts, opener

WHY = "a folder is where the result belongs"


def trouble_with(job: str, error: Exception) -> Callable[[Claim, SignedReport], None]:
    def ack(claim: Claim, _: SignedReport) -> None:
        if claim.job.id == job:
            raise error

    return ack


def alone() -> BackendUnavailable:
    return BackendUnavailable(WHY, scope=Scope.JOB)


# --- it waits alone --------------------------------------------------------------------------


def test_trouble_of_one_report_is_no_outage(parts: Parts) -> None:
    first, second = parts.submit(), parts.submit()
    parts.backend.before["ack"] = trouble_with(first, alone())
    parts.execute()
    parts.execute()
    assert [parts.state_of(job) for job in (first, second)] == [State.RUNNING, State.DONE]
    assert EventName.STORAGE_UNAVAILABLE not in parts.events()
    assert EventName.QUEUE_UNAVAILABLE not in parts.events()
    assert not parts.outage.lasts
    assert parts.delivery.keeps_up(DEVICE)
    assert len(parts.leases.tokens()) == 1, "its lease is kept"
    parts.claim_of_the_dead()
    assert parts.desk.recover() == 1, "recovery goes on at once, it is not after an outage"


def test_it_is_told_once_and_the_reason_stands_in_its_record(parts: Parts) -> None:
    job = parts.submit()
    parts.backend.before["ack"] = trouble_with(job, alone())
    parts.execute()
    for _ in range(50):
        parts.clock.advance(10.0)
        parts.delivery.retry()
    (told,) = parts.told(EventName.REPORT_DELAYED)
    assert (told["job"], told["reason"], told["waiting"]) == (job, WHY, 1)
    assert parts.written()["reason"] == WHY
    assert parts.written()["phase"] == "report"


def test_it_is_tried_with_growing_pauses_and_then_taken(parts: Parts) -> None:
    job = parts.submit()
    parts.backend.before["ack"] = trouble_with(job, alone())
    parts.execute()
    waits = []
    for _ in range(9):
        wait = parts.delivery.retry()
        assert wait is not None
        asked = parts.backend.calls.count("ack")
        parts.clock.advance(wait * 0.9)
        parts.delivery.retry()
        assert parts.backend.calls.count("ack") == asked, "not before its time"
        parts.clock.advance(wait * 0.1 + 0.001)
        parts.delivery.retry()
        assert parts.backend.calls.count("ack") == asked + 1
        waits.append(wait)
    assert waits[-1] > 10 * waits[0]
    parts.backend.before.clear()
    parts.clock.advance(60.0)
    assert parts.delivery.retry() is None
    assert parts.state_of(job) is State.DONE
    assert parts.delivery.waiting == 0


def test_a_storage_that_says_when_is_asked_then_and_nobody_is_told(parts: Parts) -> None:
    job = parts.submit()
    busy = BackendUnavailable("busy", scope=Scope.JOB, retry_after=7.0)
    parts.backend.before["ack"] = trouble_with(job, busy)
    parts.execute()
    assert parts.delivery.retry() == 7.0
    assert EventName.REPORT_DELAYED not in parts.events()
    assert parts.written()["reason"] == ""


def test_another_queue_is_not_kept_from_its_jobs(parts: Parts) -> None:
    jobs = [parts.submit() for _ in range(5)]

    def ack(claim: Claim, _: SignedReport) -> None:
        raise alone()

    parts.backend.before["ack"] = ack
    for _ in jobs:
        parts.execute()
    assert not parts.delivery.keeps_up(DEVICE)
    assert parts.delivery.keeps_up("another")


def test_each_queue_keeps_up_for_itself(tmp_path: Path) -> None:
    """Five reports of the first are not taken, and one of the second."""
    queues = (Queue("first", "one"), Queue("second", "two"))
    parts = Parts(tmp_path, queues=queues)

    def ack(*_: object) -> None:
        raise alone()

    def one_more(queue: Queue) -> None:
        parts.submitter.submit(queue.name, {})
        parts.executor.execute(parts.feed, parts.desk.claim(queue=queue), parts.rules, "1")

    parts.backend.before["ack"] = ack
    for queue in (queues[0],) * 5 + (queues[1],):
        one_more(queue)
    assert [parts.delivery.keeps_up(each.name) for each in queues] == [False, True]
    for _ in range(4):
        one_more(queues[1])
    assert [parts.delivery.keeps_up(each.name) for each in queues] == [False, False]
    parts.clock.advance(61.0)
    assert [parts.delivery.keeps_up(each.name) for each in queues] == [True, True], "one more each"
    assert [parts.delivery.keeps_up(each.name) for each in queues] == [False, False]


def test_a_queue_with_trouble_is_not_its_storage(parts: Parts) -> None:
    """Its reports wait with pauses of their own, and the storage counts as well."""
    job = parts.submit()
    error = BackendUnavailable("no permission", scope=Scope.QUEUE)
    parts.backend.before["ack"] = trouble_with(job, error)
    parts.execute()
    assert not parts.outage.lasts
    assert [each["queue"] for each in parts.told(EventName.QUEUE_UNAVAILABLE)] == [QUEUE.name]
    assert parts.delivery.retry() is not None
    parts.backend.before.clear()
    parts.clock.advance(60.0)
    parts.delivery.retry()
    assert parts.state_of(job) is State.DONE
    (told,) = parts.told(EventName.QUEUE_RECOVERED)
    assert (told["queue"], told["storage"]) == (QUEUE.name, "lab")


def test_when_its_job_is_gone_nothing_is_left_to_wait_for(parts: Parts) -> None:
    """Else the feed's thread would look for it again at once, and for ever."""
    job = parts.submit()
    parts.backend.before["ack"] = trouble_with(job, alone())
    parts.execute()
    parts.backend.before["ack"] = trouble_with(job, JobGone("its owner has deleted it"))
    parts.clock.advance(60.0)
    assert parts.delivery.retry() is None
    assert parts.delivery.waiting == 0
    (parked,) = parts.parked()
    assert json.loads(parked.read_text())["reason"] == "its owner has deleted it"


def test_reports_are_counted_under_their_storage(parts: Parts) -> None:
    job = parts.submit()
    parts.backend.before["ack"] = trouble_with(job, alone())
    parts.execute()
    parts.backend.before.clear()
    parts.clock.advance(60.0)
    parts.delivery.retry()
    for name in (EventName.REPORT_DELAYED, EventName.REPORT_DELIVERED):
        assert [each["storage"] for each in parts.told(name)] == ["lab"]


def test_at_the_end_a_moment_is_waited_for_and_no_longer(tmp_path: Path) -> None:
    parts = Parts(tmp_path, clock=SystemClock())  # type: ignore[arg-type]
    busy = [BackendUnavailable("busy", scope=Scope.JOB, retry_after=0.02) for _ in range(3)]

    def ack(*_: object) -> None:
        if busy:
            raise busy.pop()

    parts.backend.before["ack"] = ack
    job = parts.submit()
    parts.execute()
    parts.delivery.retry_for(20.0)
    assert parts.state_of(job) is State.DONE
    busy.append(BackendUnavailable("busy", scope=Scope.JOB, retry_after=3600.0))
    parts.submit()
    parts.execute()
    parts.delivery.retry_for(20.0)
    assert parts.delivery.waiting == 1
    assert busy == []


def test_at_the_end_a_storage_that_is_away_is_asked_once(parts: Parts) -> None:
    parts.submit()
    parts.backend.refused = {"ack"}
    parts.execute()
    asked = parts.backend.calls.count("ack")
    parts.delivery.retry_for(20.0)
    assert parts.backend.calls.count("ack") == asked + 1


def test_at_the_end_nobody_waits_for_a_storage_that_is_away(tmp_path: Path) -> None:
    """Not for the report either that was to be brought again in a moment."""
    parts = Parts(tmp_path, clock=SystemClock())  # type: ignore[arg-type]
    job = parts.submit()
    busy = BackendUnavailable("busy", scope=Scope.JOB, retry_after=0.5)
    parts.backend.before["ack"] = trouble_with(job, busy)
    parts.execute()
    parts.outage.noticed(BackendUnavailable("away"))
    parts.delivery.retry_for(3.0)
    assert parts.backend.calls.count("ack") == 1


# --- it is refused for good ------------------------------------------------------------------


def data_refused(_: Claim, signed: SignedReport) -> None:
    if signed.report.result is not None:
        raise ReportRefused("it has a key that starts with $")


def everything_refused(*_: object) -> None:
    raise ReportRefused("it has a key that starts with $")


def check_answered(parts: Parts, job: str) -> None:
    status = parts.submitter.status(DEVICE, job)
    assert status.state is State.ERROR
    assert "it has a key that starts with $" in status.reason
    (parked,) = parts.parked()
    said = json.loads(parked.read_text())
    assert b'"value":7' in opener()(said["jws"], "")
    assert "starts with $" in said["reason"]
    assert said["answered"] is True
    assert parts.delivery.waiting == 0
    assert parts.leases.tokens() == set()


def test_it_is_parked_and_answered_on_the_same_claim(parts: Parts) -> None:
    job = parts.submit()
    parts.backend.before["ack"] = data_refused
    claim = parts.hold().claim
    parts.finish(claim, {"value": 7})
    check_answered(parts, job)
    signed = parts.storage.entries[DEVICE, job].signed
    assert signed is not None
    assert opener()(signed.jws, ""), "the answer is signed like any other"
    assert signed.report.attempt == claim.attempt
    assert signed.report.result is None
    assert len(parts.told(EventName.REPORT_PARKED)) == 1
    assert parts.backend.claim(QUEUE, new_lease()) is None, "it is not measured again"


def test_refused_too_it_waits_alone_with_its_lease(parts: Parts) -> None:
    job = parts.submit()
    parts.backend.before["ack"] = everything_refused
    claim = parts.hold().claim
    parts.finish(claim, {"value": 7})
    for _ in range(30):
        parts.clock.advance(TTL / 2)
        parts.leases.renew_due()
        parts.delivery.retry()
        assert parts.backend.inner.reclaim(QUEUE, new_lease(), leased) is None
    assert parts.delivery.waiting == 1
    assert not parts.outage.lasts
    assert len(parts.told(EventName.REPORT_PARKED)) == 1, "and the first one is parked once"
    assert len(parts.told(EventName.REPORT_DELAYED)) == 1
    said = parts.written()
    assert said["substitute"] is True
    assert "starts with $" in said["reason"]
    assert b'"value":7' not in opener()(said["jws"], ""), "what waits is the answer"
    parts.backend.before["ack"] = data_refused
    parts.clock.advance(60.0)
    parts.delivery.retry()
    check_answered(parts, job)


def test_an_answer_that_comes_too_late_leaves_the_refused_report_where_it_is(parts: Parts) -> None:
    """Refused, then away until somebody else has ended the job: two reports, of which one counts.

    What was measured lies in the parked one; the answer in its place holds no data.
    """
    parts.submit()
    claim = parts.hold().claim
    parts.backend.before["ack"] = everything_refused
    parts.finish(claim, {"value": 7})
    parts.clock.advance(TTL + 1)
    other = parts.backend.inner.reclaim(QUEUE, new_lease(), leased)
    assert other is not None
    parts.backend.inner.ack(other, parts.report(other))
    del parts.backend.before["ack"]
    parts.clock.advance(60.0)
    parts.delivery.retry()
    assert parts.delivery.waiting == 0
    (kept,) = parts.parked()
    said = json.loads(kept.read_bytes())
    assert b'"value":7' in opener()(said["jws"], "")
    assert said["substitute"] is False


STEPS = ["bringing", "parked", "signing", "answering", "answered", "told"]


@pytest.mark.parametrize("step", STEPS)
def test_who_dies_while_answering_has_it_done_by_the_next(parts: Parts, step: str) -> None:
    job = parts.submit()
    real, asked = parts.sign, list[str]()

    def ack(claim: Claim, signed: SignedReport) -> None:
        asked.append(claim.token)
        if step == "bringing" or (step == "answering" and len(asked) == 2):
            raise Killed
        data_refused(claim, signed)

    def sign(report: Report) -> SignedReport:
        raise Killed

    def answered(*_: object) -> None:
        raise Killed

    claim = parts.hold().claim
    parts.backend.before["ack"] = ack
    if step == "answered":
        parts.backend.after["ack"] = answered
    if step == "parked":
        parts.die_at(EventName.REPORT_PARKED)
    if step == "told":
        parts.die_at(EventName.REPORT_DELIVERED)
    with pytest.raises(Killed):
        finish_with(parts, claim, sign if step == "signing" else real)
    later = parts.later()
    later.backend.before["ack"] = data_refused
    later.recovery.run(later.desk.served)
    later.clock.advance(TTL + 60.0)
    later.recovery.run(later.desk.served)
    check_answered(later, job)
    assert later.backend.claim(QUEUE, new_lease()) is None


class DyingDisk:
    """`os` as durable.py sees it, in a process that ends before its step number `count`."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.over = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in {"rename", "unlink", "fsync", "open", "mkdir"}:
            return real

        def step(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            self.over = self.over or self.left < 0
            if self.over:
                raise Killed
            return real(*args, **kwargs)

        return step


def test_whatever_step_on_the_disk_was_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count in range(100):
        parts = Parts(tmp_path / str(count))
        job = parts.submit()
        parts.backend.before["ack"] = data_refused
        claim = parts.hold().claim
        record = Record(claim, DEVICE, Phase.REPORT, parts.report(claim, {"value": 7}))
        assert parts.delivery.keep(record, parts.patience)
        disk = DyingDisk(count)
        with monkeypatch.context() as dying:
            dying.setattr(durable, "os", disk)
            with suppress(Killed):
                parts.delivery.deliver(claim.token)
        later = parts.later()
        later.backend.before["ack"] = data_refused
        later.recovery.run(later.desk.served)
        check_answered(later, job)
        if not disk.over:
            break
    assert 10 < count < 99


def finish_with(parts: Parts, claim: Claim, sign: Callable[[Report], SignedReport]) -> None:
    """Finish a run; the substitute is signed by `sign`."""
    record = Record(claim, DEVICE, Phase.REPORT, parts.report(claim, {"value": 7}))
    assert parts.delivery.keep(record, parts.patience)
    parts.sign = sign
    parts.delivery.deliver(claim.token)


def test_a_refusal_of_one_device_leaves_the_other_alone(tmp_path: Path) -> None:
    queues = (Queue(DEVICE, DEVICE), Queue("other", "other"))
    parts = Parts(tmp_path, queues=queues)
    parts.submit()
    parts.submitter.submit("other", {})
    parts.backend.before["ack"] = lambda claim, signed: (
        everything_refused() if claim.job.queue == DEVICE else None
    )
    parts.execute()
    other = parts.desk.claim(other_owner(), queues[1])
    parts.clock.advance(TTL + 1)
    parts.leases.renew_due()
    parts.recovery.run(parts.desk.served)
    assert parts.told(EventName.JOB_REQUEUED)[0]["job"] == other.job.id
    parts.announce()
    announced = [each["device"] for each in parts.told(EventName.DEVICE_ANNOUNCED)]
    assert announced == [DEVICE, "other"]
