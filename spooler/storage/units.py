"""Durations and sizes as people write them."""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    "": 1, "B": 1,
    "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_LETTERS = {name.lower(): factor for name, factor in _BYTES.items()}
_STEP = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|min|[smhd])\s*", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", re.ASCII)
_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)
_LONGEST = 366 * 86400.0
_LARGEST = 2**50

DURATION_HINT = 'a number of seconds or a text such as "10s", "1h30m", "500ms"'
SIZE_HINT = 'a number of bytes or a text such as "512 KiB", "4 MiB"'


def duration(value: object) -> float:
    """Seconds of `value`; raises ValueError with what is expected."""
    seconds = _seconds(value)
    if not 0 <= seconds <= _LONGEST:
        raise ValueError(f"expected {DURATION_HINT}, up to one year, and got {value!r}")
    return seconds


def _seconds(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if -1 < value <= _LONGEST else math.nan
    if not isinstance(value, str):
        return math.nan
    text = value.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    total, at = 0.0, 0
    while match := _STEP.match(text, at):
        total, at = total + float(match[1]) * _SECONDS[match[2]], match.end()
    return total if text and at == len(text) else math.nan


def size(value: object) -> int:
    """Bytes of `value`; raises ValueError with what is expected."""
    number = _bytes(value)
    if number is None or not 0 < number <= _LARGEST:
        raise ValueError(f"expected {SIZE_HINT}, and got {value!r}")
    return number


def _bytes(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match[2].lower() not in _LETTERS:
        return None
    number = float(match[1]) * _LETTERS[match[2].lower()]
    return int(number) if number <= _LARGEST else None


def as_duration(seconds: float) -> str:
    """`seconds` as a person writes them; `duration` reads it back exactly."""
    for unit in ("d", "h", "m", "s"):
        number = seconds / _SECONDS[unit]
        if number >= 1 and number.is_integer():
            return f"{int(number)}{unit}"
    return f"{seconds!r}s"


def as_size(number: int) -> str:
    """`number` bytes as a person writes them; `size` reads it back exactly."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if number % _BYTES[unit] == 0:
            return f"{number // _BYTES[unit]} {unit}"
    return f"{number} B"


Duration = Annotated[
    float,
    BeforeValidator(duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {
                    "type": "string",
                    "pattern": r"^\s*(\d+(\.\d+)?|(\d+(\.\d+)?\s*(ms|min|s|m|h|d)\s*)+)\s*$",
                },
            ]
        }
    ),
]
Size = Annotated[
    int,
    BeforeValidator(size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*([kKMGT]i?B|B)?\s*$"},
            ]
        }
    ),
]
