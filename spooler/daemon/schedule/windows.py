"""Times in which a device takes no jobs, said in cron and a duration.

Whether a window is open is computed from the wall clock each time it is asked, so that no missed
tick, restart or clock step can leave a device closed. A window lasts its duration in real seconds,
also on a night on which the clock changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from spooler.daemon.schedule.openings import Openings


@dataclass(frozen=True, slots=True)
class Window:
    """A recurring window: `cron` in `timezone` says when it opens; `duration` in seconds."""

    kind: str
    cron: str
    duration: float
    note: str
    timezone: str
    openings: Openings = field(compare=False, repr=False)

    @classmethod
    def of(cls, kind: str, cron: str, duration: float, note: str, timezone: str) -> Window:
        """Make a window from its settings."""
        # A machine without a time zone database still knows this one.
        zone = UTC if timezone == "UTC" else ZoneInfo(timezone)
        return cls(kind, cron, duration, note, timezone, Openings(cron, zone, duration))

    def opened_at(self, now: datetime) -> datetime | None:
        """Return when the window that is open at `now` opened; None when it is closed.

        Where a window opens again before it has closed, the later opening counts.
        """
        latest = self.openings.latest(now)
        if latest is None or (now - latest).total_seconds() >= self.duration:
            return None
        return latest

    def opens_after(self, moment: datetime) -> datetime | None:
        """Return the next opening after `moment`; None when it never opens again."""
        return self.openings.following(moment)
