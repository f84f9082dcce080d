"""What a handler returns, as JSON: checked, bounded, and refused where JSON has no form for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

from spooler.devices.forms import Forms, NotJson, demand_distinct_keys, is_plain, leaves
from spooler.devices.sentences import DEPTH, one_line

__all__ = ["NotJson", "as_it_is", "decode", "encode"]


def encode(value: object) -> bytes:
    """`value` as JSON (UTF-8), each type in its form (spooler.devices.forms).

    Nothing is lost on the way: NotJson is raised for what has no form, for NaN and infinities, and
    for two keys that become one text.
    """
    forms = None if is_plain(value) else Forms()
    try:
        if forms is not None:
            value = forms.of(value)
        fallback = None if forms is None else forms.fallback
        text = to_json(value, inf_nan_mode="constants", fallback=fallback)
    except (PydanticSerializationError, RecursionError) as error:
        if forms is not None and forms.refused is not None:
            raise forms.refused from None
        raise NotJson(_why(value, error)) from None
    if (b"NaN" in text or b"Infinity" in text) and (place := _not_finite(value)) is not None:
        raise NotJson(f"{place}is not a finite number, which JSON cannot represent")
    if forms is not None and forms.doubtful:
        demand_distinct_keys(text)
    return text


def decode(text: bytes) -> Any:
    """Return the JSON value of `text`; raises NotJson with the reason."""
    try:
        return from_json(text, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        if "recursion" in str(error):
            raise NotJson(f"is nested more than {DEPTH} levels deep") from None
        raise NotJson(f"is not JSON: {one_line(str(error))}") from None


def as_it_is(value: object) -> bytes:
    """`value` as text for people to mend: JSON with NaN and Infinity, Python's words for the rest.

    For what `encode` has refused. Empty when it cannot be written in any way.
    """
    try:
        return to_json(value, inf_nan_mode="constants", bytes_mode="base64", fallback=_in_words)
    except Exception:  # noqa: BLE001 - whatever is in it
        with suppress(Exception):
            return repr(value).encode("utf-8", "backslashreplace")
    return b""


def _in_words(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    lists = getattr(value, "tolist", None)
    turned = lists() if callable(lists) else value
    return turned if isinstance(turned, list | int | float | str) else repr(value)


def _why(value: object, error: Exception) -> str:
    text = str(error)
    if "depth" in text or "recursion" in text.lower() or "ircular" in text:
        return f"is nested more than {DEPTH} levels deep, or contains itself"
    for place, item in _places(value):
        try:
            to_json(item, fallback=Forms().fallback)
        except PydanticSerializationError:
            kind = type(item)
            if isinstance(item, str | bytes):
                return f"{place}is text that is not valid Unicode"
            return f"{place}is a {kind.__module__}.{kind.__qualname__}, which JSON cannot represent"
    return f"cannot be written as JSON: {one_line(text)}"


def _not_finite(value: object) -> str | None:
    """Return the place of the first NaN or infinity, or None where the words stood in a string."""
    for place, item in _places(value):
        if isinstance(item, float) and not math.isfinite(item):
            return place
        # Models are leaves here; their JSON shows whether one hides inside.
        if not isinstance(item, str | int | float | None):
            text = to_json(item, inf_nan_mode="constants", fallback=Forms().fallback)
            try:
                from_json(text, allow_inf_nan=False, cache_strings="keys")
            except ValueError:
                return place
    return None


def _places(value: object) -> list[tuple[str, object]]:
    return [(f"{at.lstrip('.')} " if at else "", item) for at, item in leaves(value)]
