"""A stepped wall clock neither stops nor floods the ticks: APScheduler 3 would do both."""

from __future__ import annotations

import datetime as real
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from apscheduler.schedulers import base
from hypothesis import given
from hypothesis import strategies as st

from spooler.clock import SystemClock
from spooler.daemon.schedule.timers import SteadyTrigger, Timers
from spooler.daemon.schedule.windows import Window

PATIENCE = 20.0


class StepClock(SystemClock):
    """The real clock with a wall clock that can be stepped, for APScheduler too."""

    def __init__(self) -> None:
        self.offset = real.timedelta()

    def now(self) -> real.datetime:
        return super().now() + self.offset


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[StepClock]:
    stepped = StepClock()

    class Datetime(real.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> real.datetime:
            return (real.datetime.now(tz) + stepped.offset).astimezone(tz)

    monkeypatch.setattr(base, "datetime", Datetime)
    yield stepped


class Ticks:
    """Counts ticks and lets a test wait for one more."""

    def __init__(self) -> None:
        self.count = 0
        self.came = threading.Event()

    def __call__(self) -> None:
        self.count += 1
        self.came.set()

    def next(self, patience: float = PATIENCE) -> bool:
        self.came.clear()
        return self.came.wait(patience)


@pytest.fixture
def ticking(clock: StepClock) -> Iterator[tuple[Timers, Ticks, StepClock]]:
    timers, ticks = Timers(clock), Ticks()
    timers.every("poll", 0.05, ticks)
    timers.start()
    assert ticks.next()
    yield timers, ticks, clock
    timers.close()


def test_set_back_it_goes_on_when_revived(ticking: tuple[Timers, Ticks, StepClock]) -> None:
    timers, ticks, clock = ticking
    clock.offset -= real.timedelta(hours=20)
    ticks.next(0.2)  # one tick may be under way
    assert not ticks.next(0.5), "without help the ticks have stopped"
    timers.revive()
    assert ticks.next()
    assert ticks.next()


def test_set_forward_it_does_not_flood(ticking: tuple[Timers, Ticks, StepClock]) -> None:
    _, ticks, clock = ticking
    before = ticks.count
    begin = time.monotonic()
    clock.offset += real.timedelta(days=30)
    assert ticks.next()
    assert ticks.next()
    passed = time.monotonic() - begin
    assert ticks.count - before <= 4 + passed / 0.05, "ticks were made up for"


def test_a_new_interval_replaces_the_old(ticking: tuple[Timers, Ticks, StepClock]) -> None:
    timers, ticks, _ = ticking
    others = Ticks()
    timers.every("poll", 0.05, others)
    assert others.next()
    ticks.next(0.2)
    assert not ticks.next(0.3)


@given(
    interval=st.floats(0.01, 3600),
    late=st.floats(-86400 * 365, 86400 * 365),
)
def test_the_next_tick_is_near(interval: float, late: float) -> None:
    """Whatever the clock did: the next tick is ahead, or one interval away, never in the past."""
    now = real.datetime(2026, 6, 1, tzinfo=real.UTC)
    previous = now - real.timedelta(seconds=late)
    due = SteadyTrigger(interval).get_next_fire_time(previous, now)
    assert due > now
    if late >= 0:
        assert due - now <= real.timedelta(seconds=interval)


def window(cron: str = "0 3 * * *", duration: float = 1800) -> Window:
    return Window.of("maintenance", cron, duration, "", "UTC")


@pytest.mark.parametrize(
    ("hour", "minute", "is_open"),
    [(2, 59, False), (3, 0, True), (3, 15, True), (3, 29, True), (3, 30, False), (15, 0, False)],
)
def test_a_window_is_open_when_it_says(hour: int, minute: int, *, is_open: bool) -> None:
    now = real.datetime(2026, 6, 1, hour, minute, tzinfo=real.UTC)
    assert (window().opened_at(now) is not None) == is_open


def test_a_window_over_midnight_and_one_longer_than_its_period() -> None:
    late = window("30 23 * * *", 3600)
    assert late.opened_at(real.datetime(2026, 6, 2, 0, 15, tzinfo=real.UTC)) == real.datetime(
        2026, 6, 1, 23, 30, tzinfo=real.UTC
    )
    always = window("* * * * *", 120)
    for second in range(0, 180, 7):
        moment = real.datetime(2026, 6, 1, 5, 0, tzinfo=real.UTC) + real.timedelta(seconds=second)
        assert always.opened_at(moment) is not None


@given(st.datetimes(real.datetime(2026, 1, 1), real.datetime(2027, 1, 1)))  # noqa: DTZ001
def test_windows_against_arithmetic(moment: real.datetime) -> None:
    now = moment.replace(tzinfo=real.UTC)
    seconds = (now.hour * 60 + now.minute) * 60 + now.second + now.microsecond / 1e6
    assert (window().opened_at(now) is not None) == (3 * 3600 <= seconds < 3.5 * 3600)
