"""From the bytes of a job to its payload, or to one sentence for its submitter."""

from __future__ import annotations

import math
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from pydantic_core import from_json

from spooler.model.json import Json, JsonObject

#: Only such a number can overflow to infinity; everything else need not be walked through.
_HUGE = re.compile(rb"[eE]\+?[0-9]{3}|[0-9]{300}")
_NOT_FINITE = "the job contains NaN or Infinity, or a number that large; send finite numbers"
_EMPTY, _CUT_OFF = "the job is empty", "the job is cut off"


@dataclass(frozen=True, slots=True)
class Decoded:
    """A payload, or why there is none."""

    payload: JsonObject | None = None
    defect: str = ""


def incomplete(defect: str) -> bool:
    """Return whether a job has this defect because more of it may be about to come."""
    return defect.startswith((_EMPTY, _CUT_OFF))


def too_large(size: int, limit: int) -> Decoded:
    """Return the answer to a job of `size` bytes where `limit` are allowed."""
    return Decoded(
        defect=f"the job has {size} bytes and at most {limit} are accepted; "
        "send fewer experiments in one job"
    )


def decode(content: bytes) -> Decoded:
    """Decode a job strictly: UTF-8 JSON, one object, no NaN or infinity, sane nesting."""
    content = content.removeprefix(BOM_UTF8)  # as some editors begin a file
    try:
        value = from_json(content, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        return Decoded(defect=_reason(content, str(error)))
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a string", type(None): "null"}.get(type(value), "a number")
        return Decoded(defect=f"the job is {kind}; send a JSON object")
    if _HUGE.search(content) and not _finite(value):
        return Decoded(defect=_NOT_FINITE)
    return Decoded(payload=cast("JsonObject", value))


def _finite(value: Json) -> bool:
    """Return whether every number below `value` is finite; the decoder has bounded the depth."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):
        return True
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    return not isinstance(value, list) or all(map(_finite, value))


def _reason(content: bytes, error: str) -> str:
    if not content.strip():
        return f"{_EMPTY}; send a JSON object"
    if encoding := _wide_encoding(content):
        return f"the job is {encoding} text; save it as UTF-8 and send it again"
    if "recursion limit" in error:
        return "the job is nested too deeply; at most 200 levels are accepted"
    if b"NaN" in content or b"Infinity" in content:
        return _NOT_FINITE
    if error.startswith("EOF") or _ends_early(content):
        return f"{_CUT_OFF}: {error}; send it again"
    if not _is_utf_8(content):
        error = "not UTF-8 text"
    return f"the job is not valid JSON: {error}; correct it and send it again"


def _wide_encoding(content: bytes) -> str:
    """Return the encoding of two or four bytes per character that a text seems to have."""
    marked = content.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    return "UTF-16 or UTF-32" if marked or _looks_like_utf_16(content) else ""


def _looks_like_utf_16(content: bytes) -> bool:
    """Whether every other byte of the begin is zero; all from somewhere on are a file cut off."""
    return content[1:4:2] == b"\0\0" and b"\0" not in content[0:4:2]


def _is_utf_8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _ends_early(content: bytes) -> bool:
    """Whether the end is missing: within a character, or in a file made at its full length."""
    if content.endswith(b"\0"):
        return True
    try:
        content[-4:].decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False
