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
from spooler.daemon.schedule.windows import Window
from spooler.daemon.tickets import Tickets
from spooler.daemon.worker import Worker
from spooler.errors import ConfigError, DeviceUnusable
from spooler.model.device import DeviceCard
from spooler.model.result import Outcome
from spooler.model.state import State
from spooler.observe.events import EventName
from spooler.testing.bench import DEVICE, TTL
from tests.daemon.parts import Parts

PATIENCE = 20.0


class Loop:
    """A worker in its thread, on the real clock."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.parts = Parts(folder, clock=SystemClock())  # type: ignore[arg-type]
        self.finished = threading.Semaphore(0)
        self.parts.runner.act = self.act
        self.parts.rules = replace(self.parts.rules, poll_interval=options.pop("poll", 0.05))
        self.worker = Worker(
            rules=self.parts.rules,
            backend=self.parts.backend,
            runner=self.parts.runner,
            executor=self.parts.executor,
            owner=self.parts.owner,
            ttl=TTL,
            clock=self.parts.clock,
            observer=self.parts.executor._observer,
            tickets=options.pop("tickets", Tickets()),
            hurry=threading.Event(),
            outage=self.parts.outage,
            room=self.parts.room,
            **options,
        )
        self.thread = threading.Thread(target=self.worker.run)

    def act(self, *_: object) -> Outcome:
        self.finished.release()
        return Outcome(State.DONE)

    def start(self) -> None:
        self.worker.open()
        self.thread.start()

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
    assert EventName.PUSH_SILENT in loop.parts.events()
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
    loop = make(poll=0.05)
    loop.parts.backend.away = True
    loop.parts.submit()
    loop.worker.wake()
    away = threading.Event()
    while not away.wait(0.01):
        if loop.parts.backend.calls.count("claim") > 4:
            away.set()
    loop.parts.backend.away = False
    assert loop.finished.acquire(timeout=PATIENCE)
    assert loop.parts.events().count(EventName.STORAGE_AWAY) == 1
    assert EventName.STORAGE_BACK in loop.parts.events()


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
    assert EventName.DEVICE_UNUSABLE in events
    assert events.count(EventName.DEVICE_OPEN) == 2


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
    assert loop.worker.left == 1


def test_tickets_are_not_burnt_by_empty_queues(make: Make) -> None:
    loop = make(poll=0.05, tickets=Tickets(2))
    for _ in range(5):
        loop.worker.wake()
    for _ in range(3):
        loop.parts.submit()
    loop.thread.join(PATIENCE)
    assert not loop.thread.is_alive()
    assert len(loop.parts.runner.requests) == 2
    assert loop.parts.backend.depth(DEVICE) == 1
    assert loop.worker.card == DeviceCard(DEVICE)


@pytest.mark.parametrize("trouble", [ConfigError("no calibrate"), OSError(28, "No space left")])
def test_a_calibration_that_cannot_be_made_stops_nobody(make: Make, trouble: Exception) -> None:
    """A reload has brought its window, or the disk for its scratch folder is full."""

    def refuse(*_: object) -> Outcome:
        raise trouble

    noted = threading.Event()
    loop = make(news=noted.set)
    loop.parts.runner.calibrate = refuse  # type: ignore[method-assign]
    window = Window.of("calibration", "* * * * *", 3600.0, "", "UTC")
    loop.worker.rules = replace(loop.worker.rules, windows=(window,))
    loop.worker.wake()
    assert noted.wait(PATIENCE)
    loop.parts.submit()
    assert loop.finished.acquire(timeout=PATIENCE), "the device goes on"
    assert loop.thread.is_alive()
    assert "calibration failed" in loop.worker.card.note


def test_no_claim_while_the_storage_does_not_keep_up(make: Callable[..., Loop]) -> None:
    asked, keeps_up = threading.Semaphore(0), threading.Event()

    def asking() -> bool:
        asked.release()
        return keeps_up.is_set()

    loop = make(keeps_up=asking)
    job = loop.parts.submit()
    for _ in range(2):
        assert asked.acquire(timeout=30), "it asks again and again"
    assert "claim" not in loop.parts.backend.calls
    keeps_up.set()
    assert loop.finished.acquire(timeout=30)
    loop.stop()
    assert loop.parts.submitter.status(DEVICE, job).state is State.DONE
