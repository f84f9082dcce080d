"""Find the moments at which a window opens; cronsim says which times a cron expression means.

On the nights when the clock changes, a time of day opens the window once: at the next instant that
exists when the clock skips it, at the first of the two when it comes twice. An expression with `*`
for the hour names no times of day: it goes on hour by hour, through a repeated hour too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from cronsim import CronSim

#: Longer than any change of the clocks: a search that begins so much earlier has left it behind.
_SHORTEST_LOOK_BACK = timedelta(hours=3)
#: cronsim looks no farther ahead than this either.
_LONGEST_LOOK_BACK = timedelta(days=50 * 365)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A time in which no window opens, from `since` to before `until`, the next opening.

    It begins with the opening `latest`; where a search found none, with the moment asked about.
    """

    since: datetime
    latest: datetime | None
    until: datetime | None

    def holds(self, moment: datetime) -> bool:
        """Return True when `moment` lies in it."""
        return self.since <= moment and (self.until is None or moment < self.until)


class Openings:
    """The openings of one window, in UTC.

    It is asked several times a second, by several threads, and remembers the stretch it was asked
    about last. A wall clock that leaves the stretch, forward or back, makes it search again.
    """

    def __init__(self, cron: str, zone: tzinfo, length: float) -> None:
        """`length` is how many seconds back an opening still matters."""
        self._cron = _times_of_day(cron)
        self._zone = zone
        longest = _LONGEST_LOOK_BACK.total_seconds()
        self._reach = max(timedelta(seconds=min(length, longest)), _SHORTEST_LOOK_BACK)
        self._known: _Stretch | None = None

    def latest(self, moment: datetime) -> datetime | None:
        """Return the last opening at or before `moment`; None when it is out of reach."""
        return self._around(moment).latest

    def following(self, moment: datetime) -> datetime | None:
        """Return the first opening after `moment`; None when there is none in the next 50 years."""
        return self._around(moment).until

    def _around(self, moment: datetime) -> _Stretch:
        known = self._known
        if known is None or not known.holds(moment):
            known = self._known = self._search(moment)
        return known

    def _search(self, moment: datetime) -> _Stretch:
        """Look back a little, then farther: a frequent opening is never counted up from far."""
        span = _SHORTEST_LOOK_BACK
        latest, until = self._walk(moment - span, moment)
        while latest is None and span < self._reach:
            span = min(8 * span, self._reach)
            latest, until = self._walk(moment - span, moment)
        return _Stretch(latest or moment, latest, until)

    def _walk(self, start: datetime, moment: datetime) -> tuple[datetime | None, datetime | None]:
        latest = None
        for each in CronSim(self._cron, start.astimezone(self._zone)):
            opening = each.astimezone(UTC)
            if opening > moment:
                return latest, opening
            latest = opening
        return latest, None


def _times_of_day(cron: str) -> str:
    """Write out the hours and minutes of `cron`, except where it means every hour.

    cronsim, like Debian's cron, looks at the text: where a `*` begins the hour or the minute, as in
    `*/15 2 * * *`, it skips the times that the clock skips and repeats those that come twice.
    """
    means = CronSim(cron, datetime(2000, 1, 1, tzinfo=UTC))
    minute, hour, *days = cron.split()
    if len(means.hours) == len(range(24)):
        hour = "*"
    else:
        minute, hour = (",".join(map(str, sorted(each))) for each in (means.minutes, means.hours))
    return " ".join((minute, hour, *days))
