"""Cron expressions: refused at start rather than at three in the morning.

Five fields: minute, hour, day of month, month, day of week. Days of the week are normalised to
names, because schedulers disagree on which day 0 is: here, as in crontab(5), 0 and 7 are Sunday.
Steps are written out, because schedulers disagree on how large they may be. Unlike in crontab(5),
a time fits when day of month and day of week both fit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_LENGTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ITEM = re.compile(r"(?:\*|(?P<a>\w+)(?:-(?P<b>\w+))?)(?:/(?P<step>\d+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: dict[str, int] = field(default_factory=dict)

    def number(self, text: str) -> int:
        value = self.names.get(text.lower(), -1)
        if text.isdecimal():
            value = int(text)
        if not self.low <= value <= self.high:
            raise ValueError(f"its {self.name} {text!r} is not between {self.low} and {self.high}")
        return value

    def normalised(self, part: str) -> str:
        """`part` as every scheduler reads it: no steps, days of the week by name."""
        values = {value for item in part.split(",") for value in self.values(item)}
        if self.name == "day of week" and part != "*":
            return ",".join(_DAYS[day] for day in sorted({value % 7 for value in values}))
        return ",".join(map(str, sorted(values))) if "/" in part else part.lower()

    def values(self, item: str) -> list[int]:
        """The numbers that one item of a list stands for, in order."""
        match = _ITEM.fullmatch(item)
        step = int(match["step"] or 1) if match else 0
        if match is None or step == 0:
            raise ValueError(f"its {self.name} {item!r} is none of *, 5, 1-5, */10, 1,15")
        if match["a"] is None:
            return list(range(self.low, self.high + 1, step))
        first = self.number(match["a"])
        last = self.number(match["b"]) if match["b"] else first
        if match["step"] and not match["b"]:
            last = self.high
        if last < first:
            raise ValueError(f"its {self.name} {item!r} runs backwards")
        return list(range(first, last + 1, step))


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, {name: at for at, name in enumerate(_MONTHS, 1)}),
    _Field("day of week", 0, 7, {name: at for at, name in enumerate(_DAYS)}),
)


def _demand_a_day(days: str, months: str) -> None:
    """Refuse the 30th of February: such a time never comes, and nobody would notice."""
    day, month = _FIELDS[2], _FIELDS[3]
    first = min(value for item in days.split(",") for value in day.values(item))
    longest = max(_LENGTHS[value - 1] for item in months.split(",") for value in month.values(item))
    if first > longest:
        raise ValueError(f"no month {months!r} has a day {first}")


def normalised(text: str) -> str:
    """`text` with days of the week as names; raises ValueError with what is wrong."""
    parts = text.split()
    if len(parts) != len(_FIELDS):
        raise ValueError(
            f'expected five fields (minute hour day month weekday) such as "0 3 * * *",'
            f" and got {text!r}"
        )
    try:
        _demand_a_day(parts[2], parts[3])
        return " ".join(kind.normalised(part) for part, kind in zip(parts, _FIELDS, strict=True))
    except ValueError as error:
        raise ValueError(f"{text!r} is no cron expression: {error}") from None
