"""A stepped wall clock neither stops nor floods the ticks: APScheduler 3 would do both."""

from __future__ import annotations

import datetime as real
import threading
import time
from collections.abc import Callable, Iterator
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


def midnight(day: int) -> real.datetime:
    """Shortly before the day begins in US/Pacific, where the clock went forward on the 8th."""
    hour = 8 if day <= 8 else 7
    return real.datetime(2026, 3, day, hour, tzinfo=real.UTC) - real.timedelta(seconds=0.2)


@pytest.fixture
def nightly(clock: StepClock) -> Iterator[Callable[[int], bool]]:
    """Set the clock to shortly before midnight of a day; return whether the window's tick comes."""
    timers, ticks = Timers(clock), Ticks()
    window = Window.of("maintenance", "0 0 * * *", 3600.0, "", "US/Pacific")
    timers.at_windows("window", (window,), ticks)

    def comes(day: int, *, revived: bool = False, patience: float = PATIENCE) -> bool:
        clock.offset = midnight(day) - SystemClock().now()
        ticks.came.clear()
        if revived:
            clock.offset -= real.timedelta(seconds=2)  # midnight must not pass before the next line
            timers.revive()
        else:
            timers.every("look", 0.05, lambda: None)  # the scheduler looks at the clock
        return ticks.came.wait(patience)

    clock.offset = midnight(7) - SystemClock().now() - real.timedelta(hours=1)
    timers.start()
    yield comes
    timers.close()


def test_the_tick_of_a_window_comes_on_the_day_after_the_clock_changes(
    nightly: Callable[..., bool],
) -> None:
    assert [day for day in (7, 8, 9, 10) if nightly(day, patience=5)] == [7, 8, 9, 10]


def test_the_tick_of_a_window_comes_again_when_the_clock_is_set_back(
    nightly: Callable[..., bool],
) -> None:
    assert nightly(9)
    assert nightly(7, revived=True)
