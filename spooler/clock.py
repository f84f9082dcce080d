"""The real clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial


class SystemClock:
    """The clock of this machine. Read several times per job, so nothing stands in between."""

    now = staticmethod(partial(datetime.now, UTC))
    monotonic = staticmethod(time.monotonic)


#: What a datetime can hold, with room for any time zone.
_FIRST, _LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


def moment(seconds: float) -> datetime:
    """Return the time so many seconds after 1970, in UTC; the nearest one that can be told.

    Times of files are what others, or a broken clock, have made them.
    """
    try:
        return min(max(datetime.fromtimestamp(seconds, UTC), _FIRST), _LAST)
    except (ValueError, OverflowError, OSError):
        return _LAST if seconds > 0 else _FIRST
