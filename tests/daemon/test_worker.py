from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from spooler.clock import SystemClock
from spooler.daemon.schedule.drain import Drain, Serve, Tickets
from spooler.daemon.schedule.windows import Window
from spooler.daemon.worker import Standing
from spooler.errors import BackendUnavailable, ConfigError, DeviceUnusable, RunStopped, Scope
from spooler.model.device import DeviceCard
from spooler.model.result import Outcome
from spooler.model.state import State
from spooler.observe.events import EventName
from spooler.protocols import RunControl
from spooler.testing.bench import DEVICE, QUEUE
from tests.daemon.parts import PATIENCE, Looks, Parts


class Loop:
    """A worker in its thread, on the real clock."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.parts = Parts(folder, clock=SystemClock())  # type: ignore[arg-type]
        self.finished = threading.Semaphore(0)
        self.parts.runner.act = self.act
        poll = options.pop("poll", 0.05)
        self.parts.rules = replace(self.parts.rules, poll_interval=poll)
        late = options.pop("late", lambda: None)
        once = options.pop("once", False)
        policy = Drain(self.parts.clock) if once else Serve(lambda: 2 * poll)
        self.worker = self.parts.worker(policy, **options)
        self.worker.late = late
        self.thread = threading.Thread(target=self.worker.run)

    def act(self, *_: object) -> Outcome:
        self.finished.release()
        return Outcome(State.DONE)

    def start(self) -> None:
        self.thread.start()
        deadline = time.monotonic() + PATIENCE
        while self.worker.standing is Standing.UNKNOWN and time.monotonic() < deadline:
            time.sleep(0.002)

    def deafen(self) -> None:
        """Take the push away, once the worker has looked at its queue and waits."""
        looks = self.parts.backend.calls.count("claim")
        deadline = time.monotonic() + PATIENCE
        while not looks and time.monotonic() < deadline:
            time.sleep(0.005)
            looks = self.parts.backend.calls.count("claim")
        self.parts.storage.wakers.clear()

    def stop(self) -> None:
        self.worker.stop()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def make(tmp_path: Path) -> Any:
    made: list[Loop] = []

    def loop(**options: Any) -> Loop:
        made.append(Loop(tmp_path / str(len(made)), **options))
        made[-1].start()
        return made[-1]

    yield loop
    for each in made:
        each.stop()


Make = Callable[..., Loop]


def test_a_push_is_enough(make: Make) -> None:
    loop = make(poll=3600)
    loop.parts.submit()
    assert loop.finished.acquire(timeout=PATIENCE)


def test_a_tick_is_enough(make: Make) -> None:
    loop = make(poll=3600)
    loop.deafen()
    loop.parts.submit()
    assert not loop.finished.acquire(timeout=0.2)
    loop.worker.wake()
    assert loop.finished.acquire(timeout=PATIENCE)


def test_without_push_and_without_ticks_it_looks_all_the_same(make: Make) -> None:
    """The scheduler has fallen silent: the worker makes up for it, and tells."""
    late = threading.Event()
    loop = make(poll=0.05, late=late.set)
    loop.deafen()
    loop.parts.submit()
    assert loop.finished.acquire(timeout=PATIENCE)
    assert late.wait(PATIENCE)


def test_a_push_that_has_gone_silent_is_renewed(make: Make) -> None:
    loop = make(poll=0.05)
    loop.deafen()
    with loop.parts.storage.lock:
        job_id = loop.parts.submit()
        entry = loop.parts.storage.entries[DEVICE, job_id]
        entry.job = replace(entry.job, submitted_at=loop.parts.clock.now() - timedelta(seconds=60))
    assert loop.finished.acquire(timeout=PATIENCE)
    loop.parts.submit()
    assert loop.finished.acquire(timeout=PATIENCE)
    assert EventName.PUSH_LOST in loop.parts.events()
    assert loop.parts.storage.wakers[DEVICE], "a new subscription"


def test_a_backlog_is_drained_without_waiting(make: Make) -> None:
    loop = make(poll=3600)
    loop.deafen()
    for _ in range(50):
        loop.parts.submit()
    loop.worker.wake()
    for _ in range(50):
        assert loop.finished.acquire(timeout=PATIENCE)


def test_an_outage_is_told_once_and_outlived(make: Make) -> None:
    """Once it is noticed the worker passes the storage by, until the feed's thread has it back."""
    loop = make(poll=0.01)
    loop.deafen()
    loop.parts.backend.away = True
    loop.parts.submit()
    while not loop.parts.outage.lasts:
        time.sleep(0.005)
    asked, looked = loop.parts.backend.calls.count("claim"), threading.Semaphore(0)
    loop.worker.late = looked.release  # it looks, and looks again
    for _ in range(5):
        assert looked.acquire(timeout=PATIENCE)
    assert loop.parts.backend.calls.count("claim") == asked
    loop.parts.backend.away = False
    loop.parts.desk.housekeeper.round()
    assert loop.finished.acquire(timeout=PATIENCE)
    assert loop.parts.events().count(EventName.STORAGE_UNAVAILABLE) == 1
    assert loop.parts.events().count(EventName.STORAGE_RECOVERED) == 1


def test_a_device_that_rests_comes_back(make: Make) -> None:
    loop = make(poll=0.05)
    broken = threading.Event()
    broken.set()

    def act(*_: object) -> Outcome:
        if broken.is_set():
            broken.clear()
            raise DeviceUnusable("the laser is locked")
        loop.finished.release()
        return Outcome(State.DONE)

    loop.parts.runner.act = act
    loop.parts.submit()
    assert loop.finished.acquire(timeout=PATIENCE)
    events = loop.parts.events()
    assert EventName.DEVICE_RESTED in events
    assert events.count(EventName.DEVICE_OPENED) == 2
    assert loop.worker.card.last_seen is not None
    assert (loop.parts.clock.now() - loop.worker.card.last_seen).total_seconds() < PATIENCE


def test_a_device_that_opens_is_not_waited_for(tmp_path: Path) -> None:
    """Its opening is told to end as soon as no more is claimed."""
    loop = Loop(tmp_path)

    def hang(control: RunControl) -> DeviceCard:
        until = time.monotonic() + PATIENCE
        while control.stop_reason is None:
            assert time.monotonic() < until, "nobody has told it to end"
            time.sleep(0.005)
        raise RunStopped(control.stop_reason)

    loop.parts.runner.open = hang  # type: ignore[method-assign, assignment]
    loop.thread.start()
    loop.stop()
    assert not loop.thread.is_alive()
    assert loop.worker.standing is Standing.UNKNOWN
    assert EventName.DEVICE_RESTED not in loop.parts.events()


def test_a_device_that_rests_gets_older(tmp_path: Path) -> None:
    """Its users' programs take a device for operational that was seen in the last five minutes."""
    parts = Parts(tmp_path)
    worker, runner, clock = parts.worker(Serve(lambda: 1.0)), parts.runner, parts.clock
    worked = runner.open

    def fail(*_: object) -> DeviceCard:
        raise DeviceUnusable("the laser is locked")

    runner.open = fail  # type: ignore[method-assign]
    worker.open()
    assert (worker.card.last_seen, worker.card.note) == (None, "the laser is locked")
    runner.open = worked  # type: ignore[method-assign]
    worker.open()
    clock.advance(1000.0)
    last = clock.now()
    assert (worker.card.last_seen, worker.card.note) == (last, "")
    runner.open = fail  # type: ignore[method-assign]
    worker.open()
    clock.advance(1000.0)
    worker.open()
    assert worker.card.last_seen == last


def test_a_handler_that_was_broken_meanwhile_rests_its_device_alone(tmp_path: Path) -> None:
    """Somebody edits its file while the daemon runs; the other devices go on."""
    loop = Loop(tmp_path)
    openings, opened = [0], loop.parts.runner.open

    def reopen(*_: object) -> DeviceCard:
        openings[0] += 1
        if openings[0] == 2:
            raise ConfigError("module lab_laser cannot be imported: SyntaxError.")
        return opened()

    def act(*_: object) -> Outcome:
        if openings[0] == 1:
            raise DeviceUnusable("the laser is locked")
        loop.finished.release()
        return Outcome(State.DONE)

    loop.parts.runner.act = act
    loop.parts.runner.open = reopen  # type: ignore[method-assign]
    loop.parts.submit()
    loop.start()
    assert loop.finished.acquire(timeout=PATIENCE)
    loop.stop()
    told = [each["error"] for each in loop.parts.told(EventName.DEVICE_RESTED)]
    assert told == ["the laser is locked", "module lab_laser cannot be imported: SyntaxError."]


def test_nothing_is_claimed_before_the_device_is_open(tmp_path: Path) -> None:
    """Else a job would be noted as started that was never run."""
    loop = Loop(tmp_path)
    opened = threading.Event()

    def refuse(*_: object) -> DeviceCard:
        if not opened.is_set():
            raise DeviceUnusable("the laser is off")
        loop.parts.runner.ready = True
        return DeviceCard(DEVICE)

    loop.parts.runner.ready = False
    loop.parts.runner.open = refuse  # type: ignore[method-assign]
    job = loop.parts.submit()
    loop.start()
    until = time.monotonic() + PATIENCE
    while len(loop.parts.told(EventName.DEVICE_RESTED)) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert "claim" not in loop.parts.backend.calls
    assert loop.parts.state_of(job) is State.QUEUED
    opened.set()
    assert loop.finished.acquire(timeout=PATIENCE)
    loop.stop()
    assert loop.parts.state_of(job) is State.DONE


def test_once_ends_with_the_queue(make: Make) -> None:
    loop = make(once=True)
    loop.thread.join(PATIENCE)
    assert not loop.thread.is_alive()


def test_once_says_what_a_device_that_rests_has_left(tmp_path: Path) -> None:
    loop = Loop(tmp_path, once=True)

    def act(*_: object) -> Outcome:
        raise DeviceUnusable("the laser is locked")

    loop.parts.runner.act = act
    loop.parts.submit()
    loop.start()
    loop.thread.join(PATIENCE)
    assert not loop.thread.is_alive()
    assert loop.worker.policy.left == 1


def test_once_looks_on_for_a_moment_at_jobs_that_cannot_be_had(parts: Parts) -> None:
    """A job in between begins that moment anew."""
    drain = Drain(parts.clock)
    for _ in range(2):
        assert drain.look_again(lambda: 2) is not None
        parts.clock.advance(2.9)
        assert drain.look_again(lambda: 2) is not None
        drain.worked()
    assert drain.look_again(lambda: 2) is not None
    parts.clock.advance(3.1)
    assert drain.look_again(lambda: 2) is None
    assert drain.left == 2


def test_once_waits_for_a_storage_that_does_not_answer_and_not_for_ever(parts: Parts) -> None:
    """Half a minute from the first silence; an answer in between begins another count."""
    drain = Drain(parts.clock)
    assert drain.look_again(lambda: None) is not None
    parts.clock.advance(29.0)
    assert drain.look_again(lambda: 1) is not None
    assert drain.look_again(lambda: None) is not None
    parts.clock.advance(29.0)
    assert drain.look_again(lambda: None) is not None
    assert not drain.unanswered
    parts.clock.advance(2.0)
    assert drain.look_again(lambda: None) is None
    assert drain.unanswered
    assert drain.left == 0


def test_tickets_are_not_burnt_by_empty_queues(make: Make) -> None:
    loop = make(poll=0.05, tickets=Tickets(2))
    for _ in range(5):
        loop.worker.wake()
    for _ in range(3):
        loop.parts.submit()
    loop.thread.join(PATIENCE)
    assert not loop.thread.is_alive()
    assert len(loop.parts.runner.requests) == 2
    assert loop.parts.backend.depth(QUEUE) == 1
    assert replace(loop.worker.card, last_seen=None) == DeviceCard(DEVICE)


@pytest.mark.parametrize("trouble", [ConfigError("no calibrate"), OSError(28, "No space left")])
def test_a_calibration_that_cannot_be_made_stops_nobody(make: Make, trouble: Exception) -> None:
    """A reload has brought its window, or the disk for its scratch folder is full."""

    def refuse(*_: object) -> Outcome:
        raise trouble

    noted = threading.Event()
    loop = make(news=noted.set)
    noted.clear()
    loop.parts.runner.calibrate = refuse  # type: ignore[method-assign]
    window = Window.of("calibration", "* * * * *", 3600.0, "", "UTC")
    loop.worker.rules = replace(loop.worker.rules, windows=(window,))
    loop.worker.wake()
    assert noted.wait(PATIENCE)
    loop.parts.submit()
    assert loop.finished.acquire(timeout=PATIENCE), "the device goes on"
    assert loop.thread.is_alive()
    assert "calibration failed" in loop.worker.card.note
    assert EventName.CALIBRATION_FAILED in loop.parts.events()
    assert EventName.DEVICE_CALIBRATED not in loop.parts.events()


def test_no_claim_while_the_storage_does_not_keep_up(parts: Parts) -> None:
    """Five reports of this queue are not taken; the next job waits in the queue, for a minute."""

    def refuse(*_: object) -> None:
        raise BackendUnavailable("the disk of the storage is full", scope=Scope.QUEUE)

    jobs = [parts.submit() for _ in range(6)]
    parts.backend.before["ack"] = refuse
    claimed: list[int] = []
    policy = Looks(parts.clock, 58, lambda: claimed.append(parts.backend.calls.count("claim")))
    parts.worker(policy).run()
    assert len(parts.runner.requests) == 5
    assert set(claimed) == {5}, "it looks on, and claims nothing"
    del parts.backend.before["ack"]
    parts.clock.advance(30.0)
    parts.delivery.retry()
    parts.worker(Looks(parts.clock, 2, lambda: None)).run()
    assert {parts.state_of(job) for job in jobs} == {State.DONE}
