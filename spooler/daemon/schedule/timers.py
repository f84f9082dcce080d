"""APScheduler decides when: it sets wake events and never does the work itself.

APScheduler 3 follows the wall clock. Set forward, it would make up for every tick in between;
set back, it would sleep until the old time comes again. The triggers here never make up, and
`revive` is called by whoever notices, on the monotonic clock, that a tick has not come.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from apscheduler.executors.debug import DebugExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from spooler.daemon.schedule.windows import Window
from spooler.protocols import Clock


class SteadyTrigger(BaseTrigger):  # type: ignore[misc] # APScheduler 3 has no types
    """Every `seconds`, beginning now; ticks that a clock step has left behind are not made up."""

    def __init__(self, seconds: float) -> None:
        self._interval = timedelta(seconds=seconds)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """Return the next tick: on the grid of the previous one, or `now` where that is gone by."""
        if previous_fire_time is None:
            return now
        due: datetime = previous_fire_time + self._interval
        return due if due > now else now + self._interval


class WindowTrigger(BaseTrigger):  # type: ignore[misc] # APScheduler 3 has no types
    """Whenever `window` opens."""

    def __init__(self, window: Window) -> None:
        self._window = window

    def get_next_fire_time(
        self, previous_fire_time: datetime | None, now: datetime
    ) -> datetime | None:
        """Return the next opening after `now`, also when the clock was set since the last one."""
        return self._window.opens_after(now)


class Timers:
    """Calls functions that only set events, in the scheduler's own thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._scheduler = BackgroundScheduler(
            executors={"default": DebugExecutor()},
            job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1},
            timezone=UTC,
        )

    def every(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        """Call now and then every `seconds`; a later call with the same name replaces this one."""
        self._scheduler.add_job(
            call, SteadyTrigger(seconds), id=name, replace_existing=True, name=name
        )

    def at_windows(self, name: str, windows: tuple[Window, ...], call: Callable[[], None]) -> None:
        """Call when one of the windows begins; replaces what had this name before."""
        for job in self._scheduler.get_jobs():
            if job.id.startswith(f"{name}#"):
                job.remove()
        for number, window in enumerate(windows):
            self._scheduler.add_job(call, WindowTrigger(window), id=f"{name}#{number}", name=name)

    def start(self) -> None:
        """Begin to call."""
        self._scheduler.start()

    def revive(self) -> None:
        """Compute every next tick from the present time: the wall clock was set back."""
        now = self._clock.now()
        for job in self._scheduler.get_jobs():
            job.modify(next_run_time=job.trigger.get_next_fire_time(None, now))

    def close(self) -> None:
        """Call no more."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
