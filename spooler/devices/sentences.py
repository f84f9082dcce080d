"""Reasons for people: one line, bounded, without the paths of this machine."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import ValidationError

#: Characters of a reason that a submitter gets to read.
LIMIT = 500
#: Problems of one payload that are named; the rest is counted.
NAMED = 3
#: Levels of nesting that the JSON parser reads.
DEPTH = 200

_QUOTED_PATH = re.compile(r"(?P<quote>['\"])/(?:[^'\"/]+/)+(?P<name>[^'\"/]+)(?P=quote)")
_PATH = re.compile(r"(?<![\w.:/~-])/(?:[\w.+@~-]+/)+(?P<name>[\w.+@~-]+)")
_SHOWN = 40


def one_line(text: str, limit: int = LIMIT) -> str:
    """`text` with all white space made single blanks, at most `limit` characters.

    What cannot be shown is spelled out: it may steer the terminal of whoever reads it, and half
    of a surrogate pair cannot even be written down.
    """
    line = " ".join(text[: 8 * limit].split())
    if not line.isprintable():
        spelled = (each if each.isprintable() else ascii(each)[1:-1] for each in line)
        line = "".join(spelled)
    return line if len(line) <= limit else line[: limit - 3] + "..."


def without_paths(text: str) -> str:
    """`text` with absolute paths shortened to their last part; URLs are left alone."""
    text = _QUOTED_PATH.sub(lambda m: f"{m['quote']}{m['name']}{m['quote']}", text)
    return _PATH.sub(lambda m: m["name"], text)


def said(error: BaseException) -> str:
    """Return what `error` says, on one line; its type where it says nothing or cannot."""
    if isinstance(error, ValidationError):
        return problems(error)
    try:
        text = one_line(str(error))
    except Exception:  # noqa: BLE001 - handler boundary: __str__ is the handler's code too
        text = ""
    return text or type(error).__name__


def accident(error: BaseException) -> str:
    """Return the reason of a job whose handler raised `error`: `TypeName: message`."""
    name, text = type(error).__name__, without_paths(said(error))
    return name if text == name else one_line(f"{name}: {text}")


def problems(error: ValidationError) -> str:
    """One sentence that names place and problem of the first errors of a payload."""
    found = error.errors(include_url=False, include_context=False)
    parts = []
    for item in found[:NAMED]:
        place, text = _place(item["loc"]), _problem(item["type"], item["msg"], item.get("input"))
        parts.append(f"{place}: {text}" if place else text)
    more = len(found) - NAMED
    if more > 0:
        parts.append(f"and {more} more")
    return one_line("; ".join(parts))


def _place(location: Sequence[int | str]) -> str:
    """Return the keys of the payload; what pydantic adds about its own schema is left out."""
    return ".".join(str(key) for key in location if not re.search(r"[\[(]", str(key)))


def _problem(kind: str, message: str, value: object) -> str:
    if kind == "missing":
        return "is missing"
    if kind == "json_invalid" and "recursion" in message:
        return f"is nested more than {DEPTH} levels deep"
    if kind in {"value_error", "assertion_error"}:
        return message.partition(", ")[2] or message
    text = message[:1].lower() + message[1:]
    if isinstance(value, bool | int | float | str) and len(shown := repr(value)) <= _SHOWN:
        return f"{text}, got {shown}"
    return text
