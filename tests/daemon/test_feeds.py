"""One device serves queues of several storages; trouble of one is not trouble of another."""

from __future__ import annotations

from pathlib import Path

import pytest

from spooler.daemon.feeds.housekeeper import Duty
from spooler.daemon.schedule.drain import Drain, Policy
from spooler.daemon.schedule.turns import Source, Turns
from spooler.errors import BackendUnavailable, ReportRefused, Scope
from spooler.model.claim import Lease
from spooler.model.job import Queue
from spooler.model.state import State
from spooler.observe.board import Board
from spooler.observe.events import EventName
from spooler.storage.memory import MemoryStorage
from spooler.testing.bench import DEVICE, TTL, other_owner
from tests.daemon.parts import Desk, Looks, Parts


@pytest.fixture
def frb(parts: Parts) -> Desk:
    """A second storage of the same daemon."""
    return parts.add("frb", MemoryStorage("frb"))


def fill(desk: Desk, count: int = 1) -> list[str]:
    return [desk.submitter.submit(DEVICE, {}) for _ in range(count)]


def look(parts: Parts, looks: int = 1, policy: Policy | None = None) -> None:
    """Have the worker look so many times at queues that are empty, or away."""
    parts.worker(policy or Looks(parts.clock, looks, lambda: None)).run()


def ran(parts: Parts, *desks: Desk) -> list[str]:
    """The storages of the jobs that ran, in their order."""
    where = {job: desk.feed.name for desk in desks for _, job in desk.storage.entries}
    return [where[each.job_id] for each in parts.runner.requests]


def test_a_storage_that_goes_away_before_the_start_keeps_the_device_from_no_other(
    parts: Parts, frb: Desk
) -> None:
    fill(parts.desk)
    fill(frb, 2)
    parts.desk.backend.refused = {"start"}
    look(parts)
    assert ran(parts, parts.desk, frb) == ["frb", "frb"]
    assert parts.waits == []
    parts.desk.backend.refused = set()
    parts.desk.housekeeper.round()
    look(parts)
    assert ran(parts, parts.desk, frb) == ["frb", "frb", "lab"]


# --- turns -----------------------------------------------------------------------------------


def test_queues_take_turns(parts: Parts, frb: Desk) -> None:
    fill(parts.desk, 3)
    fill(frb, 3)
    policy = Looks(parts.clock, 1, lambda: None)
    look(parts, policy=policy)
    assert ran(parts, parts.desk, frb) == ["lab", "frb"] * 3
    assert policy.jobs == 6, "who decides when the work is over hears of each job"


def test_who_was_served_least_recently_goes_first(parts: Parts, frb: Desk) -> None:
    """A queue that was empty for long is not asked last because of it."""
    third = parts.add("third", MemoryStorage("third"))
    fill(parts.desk, 2)
    look(parts)
    fill(third)
    fill(frb)
    fill(parts.desk)
    look(parts)
    assert ran(parts, parts.desk, frb, third) == ["lab", "lab", "lab", "frb", "third"]


def test_a_busy_queue_does_not_starve_one_that_gets_a_job_now_and_then(
    parts: Parts, frb: Desk
) -> None:
    fill(parts.desk, 6)
    worker = parts.worker(Looks(parts.clock, 1, lambda: None))
    act = parts.runner.act

    def also(*args):  # type: ignore[no-untyped-def]
        if len(parts.runner.requests) == 3:
            fill(frb)
        return act(*args)

    parts.runner.act = also
    worker.run()
    assert ran(parts, parts.desk, frb)[:4] == ["lab", "lab", "lab", "frb"]


def test_priority_goes_first(parts: Parts, frb: Desk) -> None:
    fill(parts.desk, 2)
    fill(frb, 2)
    worker = parts.worker(Looks(parts.clock, 1, lambda: None))
    worker.serve([parts.source(parts.desk, worker), parts.source(frb, worker, priority=5)])
    worker.run()
    assert ran(parts, parts.desk, frb) == ["frb", "frb", "lab", "lab"]


def test_the_order_of_turns(parts: Parts) -> None:
    """Priority first; among equals the one served least recently, and at first as written."""
    worker = parts.worker(Looks(parts.clock, 1, lambda: None))
    desks = [parts.add(f"s{n}", MemoryStorage(f"s{n}")) for n in range(5)]
    priorities = (0, 1, 0, 1, 0)
    sources = [
        parts.source(desk, worker, priority)
        for desk, priority in zip(desks, priorities, strict=True)
    ]
    turns = Turns(sources)

    def order() -> list[str]:
        return [each.feed.name for each in turns.order()]

    assert order() == ["s1", "s3", "s0", "s2", "s4"]
    turns.served(sources[0])
    assert order() == ["s1", "s3", "s2", "s4", "s0"]
    turns.served(sources[1])
    assert order() == ["s3", "s1", "s2", "s4", "s0"]
    turns.served(sources[4])
    assert order() == ["s3", "s1", "s2", "s0", "s4"]


# --- one is away -----------------------------------------------------------------------------


def test_one_storage_away_the_other_goes_on(parts: Parts, frb: Desk) -> None:
    waiting, jobs = fill(parts.desk, 3), fill(frb, 3)
    parts.backend.away = True
    look(parts, 20)
    assert [frb.submitter.status(DEVICE, job).state for job in jobs] == [State.DONE] * 3
    assert [parts.state_of(job) for job in waiting] == [State.QUEUED] * 3
    assert not frb.outage.lasts
    (told,) = parts.told(EventName.STORAGE_UNAVAILABLE)
    assert told["storage"] == "lab"
    parts.backend.away = False
    parts.clock.advance(60.0)
    parts.desk.housekeeper.round()
    look(parts)
    assert [parts.state_of(job) for job in waiting] == [State.DONE] * 3
    (back,) = parts.told(EventName.STORAGE_RECOVERED)
    assert back["storage"] == "lab"


def test_a_device_waits_for_one_timeout_per_outage(parts: Parts, frb: Desk) -> None:
    """Only the feed's thread asks a storage that is away; the worker passes it by."""
    fill(parts.desk)
    jobs = fill(frb, 5)
    parts.backend.away = True
    timeouts: list[str] = []

    def hold_up() -> None:
        timeouts.append("round")
        parts.desk.housekeeper.round()

    look(parts, policy=Looks(parts.clock, 50, hold_up))
    assert parts.backend.calls.count("subscribe") + parts.backend.calls.count("claim") == 1
    assert set(parts.backend.calls) <= {"subscribe", "claim", "ping"}
    assert parts.backend.calls.count("ping") >= 3
    assert len(timeouts) == 50
    assert [frb.submitter.status(DEVICE, job).state for job in jobs] == [State.DONE] * 5


def test_reports_of_one_storage_wait_while_the_other_takes_its_own(parts: Parts, frb: Desk) -> None:
    """Away when the run ends: the report is on the disk, below that storage."""
    (first,), (second,) = fill(parts.desk), fill(frb)
    parts.backend.refused = {"ack"}
    look(parts)
    assert parts.state_of(first) is State.RUNNING
    assert frb.submitter.status(DEVICE, second).state is State.DONE
    assert (parts.delivery.waiting, frb.delivery.waiting) == (1, 0)
    assert len(list(parts.records.folder.glob("*.json"))) == 1
    assert list(frb.records.folder.glob("*.json")) == []
    assert parts.records.folder.parent == frb.records.folder.parent, "one estate"


def test_one_storage_away_keeps_recovery_and_announcements_of_the_other(
    parts: Parts, frb: Desk
) -> None:
    (job,) = fill(frb)
    frb.claim(other_owner())
    parts.clock.advance(TTL + 1)
    parts.outage.noticed(BackendUnavailable("away"))
    parts.backend.away = True
    for desk in parts.desks.values():
        desk.housekeeper.begin()
        desk.bell.ring(Duty.RECOVER)
        desk.housekeeper.round()
    assert parts.told(EventName.JOB_REQUEUED)[0]["job"] == job
    assert [each["storage"] for each in parts.told(EventName.DEVICE_ANNOUNCED)] == ["frb"]


def test_the_board_counts_the_reports_of_all_storages(parts: Parts, frb: Desk) -> None:
    board = Board()
    parts.observer.subscribe(board)
    fill(parts.desk, 2)
    fill(frb)
    parts.backend.refused = {"ack"}
    look(parts)
    assert parts.delivery.waiting >= 1
    assert board.snapshot().waiting == parts.delivery.waiting
    assert list(board.snapshot().away) == ["lab"]
    parts.backend.refused = set()
    parts.delivery.retry()
    assert board.snapshot().waiting == 0
    assert board.snapshot().healthy


def test_one_queue_away_is_not_its_storage(tmp_path: Path) -> None:
    queues = (Queue("first", DEVICE), Queue("second", "other"))
    parts = Parts(tmp_path, queues=queues)
    first = parts.submitter.submit("first", {})
    second = parts.submitter.submit("second", {})

    asked: list[str] = []

    def trouble(queue: Queue, _: Lease) -> None:
        asked.append(queue.name)
        if queue.name == "first":
            raise BackendUnavailable("no permission", scope=Scope.QUEUE)

    parts.backend.before["claim"] = trouble
    worker = parts.worker(Looks(parts.clock, 40, lambda: None, step=0.25))
    sources = [worker_source(parts, worker, queue) for queue in queues]
    worker.serve(sources)
    worker.run()
    states = [
        parts.submitter.status(queue.name, job).state
        for queue, job in zip(queues, (first, second), strict=True)
    ]
    assert states == [State.QUEUED, State.DONE]
    assert not parts.outage.lasts
    assert parts.events().count(EventName.QUEUE_UNAVAILABLE) == 1
    assert EventName.STORAGE_UNAVAILABLE not in parts.events()
    assert asked.count("second") == 41
    assert 6 <= asked.count("first") <= 21, "it rests for a moment between two tries"
    parts.backend.before.clear()
    parts.clock.advance(60.0)
    again = parts.worker(Looks(parts.clock, 2, lambda: None))
    again.serve([worker_source(parts, again, queue) for queue in queues])
    again.run()
    assert parts.submitter.status("first", first).state is State.DONE
    assert parts.events().count(EventName.QUEUE_RECOVERED) == 1


def worker_source(parts: Parts, worker, queue: Queue) -> Source:  # type: ignore[no-untyped-def]
    source = parts.source(parts.desk, worker)
    return Source(source.feed, queue, source.ear)


def test_a_queue_that_says_when_is_left_alone_until_then(parts: Parts) -> None:
    def busy(*_: object) -> None:
        raise BackendUnavailable("slow down", scope=Scope.QUEUE, retry_after=30.0)

    parts.submit()
    parts.backend.before["claim"] = busy
    look(parts, 29)
    assert parts.backend.calls.count("claim") == 1
    assert len(parts.runner.requests) == 0


def test_a_refused_report_of_one_storage_does_not_hold_up_the_other(
    parts: Parts, frb: Desk
) -> None:
    def refuse(*_: object) -> None:
        raise ReportRefused("never")

    fill(parts.desk, 2)
    jobs = fill(frb, 2)
    parts.backend.before["ack"] = refuse
    look(parts, 5)
    assert [frb.submitter.status(DEVICE, job).state for job in jobs] == [State.DONE] * 2
    assert len(parts.parked()) == 2
    assert not frb.outage.lasts


def test_once_waits_for_a_storage_that_is_away(parts: Parts, frb: Desk) -> None:
    """What waits there is not known, so the work is not over."""
    fill(frb)
    drain = Drain(parts.clock)
    asked: list[int | None] = []

    class Impatient(Looks):
        def look_again(self, depth):  # type: ignore[no-untyped-def]
            asked.append(depth())
            assert drain.look_again(depth) is not None
            if len(asked) == 3:
                parts.backend.away = False
                parts.outage.over()
            return super().look_again(depth)

    parts.backend.away = True
    look(parts, policy=Impatient(parts.clock, 3, lambda: None))
    assert asked == [None, None, None]
    assert drain.look_again(lambda: 0) is None


def test_a_claim_whose_answer_was_lost_is_found_again(parts: Parts, frb: Desk) -> None:
    """The same token is asked for, in that storage alone."""
    (job,) = fill(parts.desk)
    parts.backend.deaf = {"claim"}
    tokens: list[str] = []
    parts.backend.before["claim"] = lambda _, lease: tokens.append(lease.token)
    worker = parts.worker(Looks(parts.clock, 3, heal(parts)))
    worker.run()
    assert parts.state_of(job) is State.DONE
    assert len(tokens) >= 3
    assert tokens[0] == tokens[1]
    assert tokens[2] != tokens[1], "one token for each job wanted"


def heal(parts: Parts):  # type: ignore[no-untyped-def]
    def again() -> None:
        parts.backend.deaf = set()
        parts.outage.over()
        parts.clock.advance(5.0)

    return again


def test_each_storage_renews_its_own_leases(parts: Parts, frb: Desk) -> None:
    fill(frb)
    fill(parts.desk)
    held = frb.leases.hold(frb.claim())
    parts.hold()
    parts.clock.advance(TTL / 2)
    frb.leases.renew_due()
    assert frb.backend.calls == ["renew"]
    assert parts.backend.calls == []
    assert frb.leases.tokens() == {held.claim.token}
