"""What a handler returns, as JSON: checked, bounded, and told apart from what JSON cannot carry."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

from spooler.devices.sentences import DEPTH, one_line


class NotJson(ValueError):
    """A value that JSON cannot carry; the message names the place and the problem."""


def encode(value: object) -> bytes:
    """`value` as JSON (UTF-8).

    Whatever pydantic writes as JSON is taken, other mappings become objects, and what has a
    `tolist()` (numpy) becomes lists and numbers. Raises NotJson for the rest, NaN and
    infinities included.
    """
    try:
        text = to_json(value, inf_nan_mode="constants", fallback=_plain)
    except (PydanticSerializationError, RecursionError) as error:
        raise NotJson(_why(value, error)) from None
    if (b"NaN" in text or b"Infinity" in text) and (place := _not_finite(value)) is not None:
        raise NotJson(f"{place}is not a finite number, which JSON cannot carry")
    return text


def decode(text: bytes) -> Any:
    """The JSON value of `text`; raises NotJson with the reason."""
    try:
        return from_json(text, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        if "recursion" in str(error):
            raise NotJson(f"is nested more than {DEPTH} levels deep") from None
        raise NotJson(f"is not JSON: {one_line(str(error))}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if callable(turned := getattr(value, "tolist", None)):
        return turned()
    raise TypeError(f"Unable to serialize unknown type: {type(value)}")


def _why(value: object, error: Exception) -> str:
    text = str(error)
    if "depth" in text or "recursion" in text.lower() or "ircular" in text:
        return f"is nested more than {DEPTH} levels deep, or contains itself"
    for place, item in _leaves(value):
        try:
            to_json(item, fallback=_plain)
        except PydanticSerializationError:
            kind = type(item)
            if isinstance(item, str | bytes):
                return f"{place}is text that is not valid Unicode"
            return f"{place}is a {kind.__module__}.{kind.__qualname__}, which JSON cannot carry"
    return f"cannot be written as JSON: {one_line(text)}"


def _not_finite(value: object) -> str | None:
    """The place of the first NaN or infinity, or None where the words stood in a string."""
    for place, item in _leaves(value):
        if isinstance(item, float) and not math.isfinite(item):
            return place
        # Arrays and models are leaves here; their JSON shows whether one hides inside.
        if not isinstance(item, str | int | float | None):
            text = to_json(item, inf_nan_mode="constants", fallback=_plain)
            try:
                from_json(text, allow_inf_nan=False, cache_strings="keys")
            except ValueError:
                return place
    return None


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Everything in mappings and lists with its place; only asked when something is wrong."""
    stack = [(path, value)]
    while stack:
        place, item = stack.pop()
        if isinstance(item, Mapping):
            stack += [(f"{place}.{key}", inner) for key, inner in reversed(list(item.items()))]
        elif isinstance(item, list | tuple):
            stack += [(f"{place}.{index}", item[index]) for index in reversed(range(len(item)))]
        else:
            yield (f"{place.lstrip('.')} " if place else ""), item
