"""The form that each value of a handler has in JSON, one for each type.

| value | form |
|---|---|
| complex number | the list [real part, imaginary part] |
| numpy.datetime64, datetime, date, time | ISO 8601 text with all its digits |
| numpy array, pandas series, any `tolist()` | lists of what is in them |
| set, tuple, deque, generator | a list |
| dataclass, any mapping | an object |
| Enum | its value |
| Decimal, UUID, Path | text |
| pydantic model | what the model itself writes |

Refused with the name of the type: bytes, longdouble, timedelta64, NaT, and what is not listed.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from types import GeneratorType
from typing import Any

from pydantic_core import to_jsonable_python

from spooler.devices.sentences import DEPTH, one_line

_SCALARS = {str, int, float, bool, type(None)}
_CONTAINERS = {dict, list, tuple}
_PLAIN = _SCALARS | _CONTAINERS
_BYTES = "; decode it where it is text, or publish it as a file"
#: Bytes of the widest numpy numbers that are numbers of Python too.
_WIDEST = {"f": 8, "c": 16}
_LISTS = (list, tuple, set, frozenset, deque, GeneratorType)


class NotJson(ValueError):
    """A value that JSON cannot represent; the message names the place and the problem."""


def is_plain(value: object) -> bool:
    """Return True for plain JSON values whose keys are all text: these need no second look."""
    level, seen, depth = [value], set[int](), 0
    while level:
        if (depth := depth + 1) > DEPTH:
            return False
        below: list[object] = []
        for each in level:
            inner = _containers_in(each)
            if inner is None:
                return False
            for item in inner:
                if id(item) not in seen:
                    seen.add(id(item))
                    below.append(item)
        level = below
    return True


def _containers_in(value: Any) -> list[object] | None:
    """Return the plain containers directly in `value`, or None when not all in it is plain.

    The types of a whole list are looked at in one step: a Python loop over a long list of numbers
    would take longer than writing it as JSON.
    """
    kind = type(value)
    if kind not in _CONTAINERS or (kind is dict and not set(map(type, value)) <= {str}):
        return None
    items = value.values() if kind is dict else value
    kinds = set(map(type, items))
    if kinds <= _SCALARS:
        return []
    return [each for each in items if type(each) in _CONTAINERS] if kinds <= _PLAIN else None


class Forms:
    """Turns the values of one result into plain ones. Raises NotJson with the place."""

    def __init__(self) -> None:
        #: Two keys may have become one text: keys that are not all text, or not all integers.
        self.doubtful = False
        #: What `fallback` has refused inside a model: pydantic loses the exception's type.
        self.refused: NotJson | None = None
        #: An Enum may be a number or a text as well, and a numpy number one of Python's.
        self._forms: tuple[tuple[Any, Callable[[Any, str, int], Any]], ...] = (
            (Enum, lambda value, place, depth: self.of(value.value, place, depth)),
            ((str, int, float), lambda value, _place, _depth: value),
            (Mapping, self._mapping),
            (_LISTS, self._list),
            (complex, self._complex),
            ((bytes, bytearray, memoryview), self._bytes),
            ((date, timedelta, Decimal), self._exact),
        )

    def of(self, value: Any, place: str = "", depth: int = 1) -> Any:
        """Return `value` with all that is not plain replaced by its form."""
        if type(value) in _SCALARS:
            return value
        if depth > DEPTH:
            raise NotJson(f"is nested more than {DEPTH} levels deep, or contains itself")
        for kinds, form in self._forms:
            if isinstance(value, kinds):
                return form(value, place, depth)
        return self._other(value, place, depth)

    def fallback(self, value: Any) -> Any:
        """Return the form of what pydantic does not know, inside a model; TypeError for none."""
        try:
            turned = self.of(value)
        except NotJson as error:
            self.refused = self.refused or error
            raise
        if turned is value:
            raise TypeError(f"Unable to serialize unknown type: {type(value)}")
        return turned

    def _mapping(self, value: Mapping[Any, Any], place: str, depth: int) -> dict[Any, Any]:
        kinds = set(map(type, value))
        if not (kinds <= {str} or kinds <= {int}):
            self.doubtful = True
        found: dict[Any, Any] = {}
        for key, item in value.items():
            turned = key if type(key) in _SCALARS else self._key(key, f"{place}.{key}")
            if turned in found:
                raise collision(place, str(turned))
            found[turned] = self.of(item, f"{place}.{key}", depth + 1)
        return found

    def _key(self, key: Any, place: str) -> Any:
        if isinstance(key, Enum):
            return self._key(key.value, place)
        if isinstance(key, tuple):
            return tuple(self._key(each, place) for each in key)
        turned = self.of(key, f"{place} (a key)") if _of_numpy(key) else key
        if isinstance(turned, complex | bytes | list):
            raise refusal(f"{place} (a key)", key)
        return turned

    def _other(self, value: Any, place: str, depth: int) -> Any:
        if hasattr(type(value), "__pydantic_serializer__"):
            self.doubtful = True
            self._check_model(value, place)
            return value
        if dataclasses.is_dataclass(value):
            fields = [field.name for field in dataclasses.fields(value)]
            return self._mapping({name: getattr(value, name) for name in fields}, place, depth)
        if _of_numpy(value):
            return self._numpy(value, place, depth)
        if callable(turned := getattr(value, "tolist", None)):
            return self._turned(value, turned(), place, depth)
        return value  # pydantic knows it, or says that it does not

    def _list(self, value: Iterable[Any], place: str, depth: int) -> list[Any]:
        return [self.of(each, f"{place}.{index}", depth + 1) for index, each in enumerate(value)]

    def _bytes(self, value: Any, place: str, _depth: int) -> Any:
        raise refusal(place, value, _BYTES)

    def _complex(self, value: complex, place: str, _depth: int) -> list[float]:
        if not (math.isfinite(value.real) and math.isfinite(value.imag)):
            raise NotJson(f"{_at(place)}is not a finite number, which JSON cannot represent")
        return [float(value.real), float(value.imag)]

    def _exact(self, value: Any, place: str, _depth: int) -> Any:
        """Return times and decimals; pandas' own have digits that datetime has not."""
        if isinstance(value, Decimal):
            if not value.is_finite():
                raise NotJson(f"{_at(place)}is not a finite number, which JSON cannot represent")
            return value
        if value != value:  # noqa: PLR0124 - pandas.NaT, which is a datetime and has no year
            raise refusal(place, value)
        if isinstance(value, datetime) and getattr(value, "nanosecond", False):
            return value.isoformat()
        if isinstance(value, timedelta) and getattr(value, "nanoseconds", False):
            raise refusal(place, value, "; give its seconds as a number")
        return value

    def _numpy(self, value: Any, place: str, depth: int) -> Any:
        dtype = value.dtype
        if dtype.itemsize > _WIDEST.get(dtype.kind, dtype.itemsize):
            raise refusal(place, dtype.type, "; turn it into float64 or complex128")
        if dtype.kind == "m":
            raise refusal(place, dtype.type, "; give its seconds as a number")
        if dtype.kind == "S" or (dtype.kind == "V" and dtype.names is None):
            raise refusal(place, bytes, _BYTES)
        if dtype.kind == "V":
            return self._rows(value, place, depth)
        if dtype.kind == "M":
            text = value.astype(str).tolist()
            if "NaT" in str(text):
                raise NotJson(f"{_at(place)}contains a numpy.datetime64 that is NaT (not a time)")
            return text
        turned = value.tolist()
        return turned if dtype.kind in "biufU" else self._turned(value, turned, place, depth)

    def _rows(self, value: Any, place: str, depth: int) -> list[Any]:
        """Return numpy's rows with named columns: a list for each row, in the columns' order."""
        if value.ndim:
            return self._list(value, place, depth)
        names = value.dtype.names
        return [self.of(value[name], f"{place}.{name}", depth + 1) for name in names]

    def _turned(self, value: Any, turned: Any, place: str, depth: int) -> Any:
        if type(turned) is type(value):
            raise refusal(place, value)
        return self.of(turned, place, depth + 1)

    def _check_model(self, value: Any, place: str) -> None:
        """Refuse what pydantic would change: NaN becomes null, bytes text by luck.

        Both of its forms are looked at side by side: where the model's author has chosen a form of
        his own, it differs from the one that pydantic takes by itself.
        """
        serializer = type(value).__pydantic_serializer__
        python = serializer.to_python(value, by_alias=True)
        try:
            written = to_jsonable_python(
                value, by_alias=True, inf_nan_mode="constants", fallback=self.fallback
            )
        except ValueError as error:
            if self.refused is not None:
                raise NotJson(f"{_at(place)}{self.refused}") from None
            for at, item in leaves(python, place):
                if isinstance(item, bytes | bytearray):
                    raise refusal(at, item, _BYTES) from None
            raise NotJson(
                f"{_at(place)}cannot be written as JSON: {one_line(str(error))}"
            ) from None
        _compare(python, written, place)


def _compare(python: Any, written: Any, place: str) -> None:
    if isinstance(python, Mapping) and isinstance(written, dict):
        for (key, item), (_, other) in zip(python.items(), written.items(), strict=False):
            _compare(item, other, f"{place}.{key}")
    elif isinstance(python, _LISTS) and isinstance(written, list):
        for index, (item, other) in enumerate(zip(python, written, strict=False)):
            _compare(item, other, f"{place}.{index}")
    else:
        _compare_leaves(python, written, place)


def _compare_leaves(python: Any, written: Any, place: str) -> None:
    if isinstance(python, float) and not math.isfinite(python):
        if written is None or (isinstance(written, float) and not math.isfinite(written)):
            raise NotJson(f"{_at(place)}is not a finite number, which JSON cannot represent")
    elif isinstance(python, complex) and isinstance(written, str):
        raise refusal(place, python, " from a model; give its two parts")
    elif isinstance(python, bytes | bytearray):
        with suppress(UnicodeDecodeError):
            if written == bytes(python).decode():
                raise refusal(place, python, _BYTES)


def demand_distinct_keys(text: bytes) -> None:
    """Raise NotJson when an object in a JSON text has a key twice: one of them would be lost."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        if len(dict(pairs)) != len(pairs):
            raise _Twice

    try:
        json.loads(text, object_pairs_hook=check, parse_int=str, parse_float=str)
    except _Twice:
        whole = json.loads(text, object_pairs_hook=_Pairs, parse_int=str, parse_float=str)
        raise _found_twice(whole) from None


class _Twice(Exception):
    """A key was there twice."""


class _Pairs(list[tuple[str, Any]]):
    """An object of JSON with all its keys."""


def _found_twice(whole: Any) -> NotJson:
    stack = [("", whole)]
    while stack:
        place, item = stack.pop()
        if isinstance(item, _Pairs):
            seen = set()
            for key, inner in item:
                if key in seen:
                    return collision(place, key)
                seen.add(key)
                stack.append((f"{place}.{key}", inner))
        elif isinstance(item, list):
            stack += [(f"{place}.{index}", inner) for index, inner in enumerate(item)]
    return NotJson("has two keys of one text")


def leaves(value: object, path: str = "") -> Iterable[tuple[str, object]]:
    """Yield everything in mappings and lists with its place; for when something is wrong."""
    stack = [(path, value)]
    while stack:
        place, item = stack.pop()
        if isinstance(item, Mapping):
            stack += [(f"{place}.{key}", inner) for key, inner in reversed(list(item.items()))]
        elif isinstance(item, list | tuple):
            stack += [(f"{place}.{index}", item[index]) for index in reversed(range(len(item)))]
        else:
            yield place, item


def collision(place: str, key: str) -> NotJson:
    """Return the refusal of a mapping in which two keys are the same text."""
    shown = one_line(key, 80)
    return NotJson(f'{_at(place)}has two keys that are both "{shown}" in JSON; rename one of them')


def refusal(place: str, value: Any, way_out: str = "") -> NotJson:
    """Return the refusal of a value (or type) at a place, with the name of its type."""
    kind = value if isinstance(value, type) else type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else _full(kind)
    return NotJson(f"{_at(place)}is a {name}, which JSON cannot represent{way_out}")


def _full(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _at(place: str) -> str:
    return f"{place.lstrip('.')} " if place else ""


def _of_numpy(value: object) -> bool:
    """Return True for numpy's arrays and scalars; pandas has dtypes too, and values of its own."""
    return hasattr(value, "dtype") and any(
        kind.__module__ == "numpy" for kind in type(value).__mro__
    )
