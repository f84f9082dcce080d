"""Times in which a device takes no jobs, said in cron and a duration.

Whether a window is open is computed from the wall clock each time it is asked, so that no missed
tick, restart or clock step can leave a device closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apscheduler.triggers.cron import CronTrigger


@dataclass(frozen=True)
class Window:
    """A recurring window. `trigger` says when it starts; `duration` in seconds."""

    kind: str
    trigger: CronTrigger
    duration: float
    note: str = ""

    @classmethod
    def of(cls, kind: str, cron: str, duration: float, note: str, timezone: str) -> Window:
        """A window from its settings."""
        # A machine without a time zone database knows this one all the same.
        zone = UTC if timezone == "UTC" else timezone
        return cls(kind, CronTrigger.from_crontab(cron, timezone=zone), duration, note)

    def opened_at(self, now: datetime) -> datetime | None:
        """When the window that is open at `now` began; None when it is closed."""
        length = timedelta(seconds=self.duration)
        start: datetime | None = self.trigger.get_next_fire_time(None, now - length)
        while start is not None and start <= now:
            if now < start + length:
                return start
            start = self.trigger.get_next_fire_time(start, start)
        return None

    def closes_at(self, opened: datetime) -> datetime:
        """The end of the window that began at `opened`."""
        return opened + timedelta(seconds=self.duration)
