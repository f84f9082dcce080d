"""Cron expressions: refused at start rather than at three in the morning.

Five fields: minute, hour, day of month, month, day of week. They mean what crontab(5) says, as
cronsim reads it: 0, 7 and sun are Sunday; where day of month and day of week are both restricted,
a day fits when either does. `mon#1` is the first Monday of a month. cronsim decides; what is here
says in a sentence what is wrong, and refuses what cronsim knows and crontab(5) does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_ITEM = re.compile(r"(?:\*|(?P<a>\w+)(?:-(?P<b>\w+))?)(?:/(?P<step>\d+))?", re.ASCII)
_NTH = re.compile(r"(?P<day>\w+)#[1-5]", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def check(self, item: str) -> None:
        """Raise ValueError when `item`, one of a list, does not stand for numbers of this field."""
        nth = _NTH.fullmatch(item)
        if nth and self.name == "day of week":
            self._number(nth["day"])
            return
        match = _ITEM.fullmatch(item)
        if match is None or int(match["step"] or 1) == 0:
            raise ValueError(f"its {self.name} {item!r} is none of *, 5, 1-5, */10, 1,15")
        if match["a"] is None:
            return
        first = self._number(match["a"])
        last = self._number(match["b"]) if match["b"] else self.high
        if last < first:
            raise ValueError(f"its {self.name} {item!r} runs backwards")
        if match["b"] and match["step"] and last == first:  # cronsim would read 4-4/2 as 4/2
            raise ValueError(f"its {self.name} {item!r} has a step and a single value")

    def _number(self, text: str) -> int:
        value = int(text) if text.isdecimal() else -1
        if text.lower() in self.names:
            value = self.low + self.names.index(text.lower())
        if not self.low <= value <= self.high:
            raise ValueError(f"its {self.name} {text!r} is not between {self.low} and {self.high}")
        return value


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _DAYS),
)


def checked(text: str) -> str:
    """Return `text` with single spaces; raise ValueError with what is wrong."""
    parts = text.split()
    if len(parts) != len(_FIELDS):
        raise ValueError(
            f'expected five fields (minute hour day month weekday) such as "0 3 * * *",'
            f" and got {text!r}"
        )
    try:
        for part, kind in zip(parts, _FIELDS, strict=True):
            for item in part.split(","):
                kind.check(item)
        _demand_a_day(parts)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a cron expression: {error}") from None
    return " ".join(parts)


def _demand_a_day(parts: list[str]) -> None:
    """Refuse the 30th of February: such a time never comes, and nobody would notice."""
    try:
        CronSim(" ".join(parts), datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError:
        raise ValueError(f"no month {parts[3]!r} has a day {parts[2]}") from None
