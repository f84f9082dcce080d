"""What is wrong with settings, in sentences: place, what is expected, the nearest known name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from spooler.settings.secrets import hidden, is_secret
from spooler.storage.settings import STORAGES

_LONGEST = 60
#: Parts of a place before the type and the key of a storage's setting.
_DEPTH = {"storage": 1, "storages": 2}

_EXPECTED = {
    "bool_type": "true or false",
    "string_type": "a text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "dict_type": "a table of keys and values",
    "model_type": "a section with keys, such as [log]",
    "model_attributes_type": "a section with keys, such as [log]",
    "tuple_type": "a list",
    "path_type": "a path in quotes",
    "extra_forbidden": "",
}


def problems(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """One sentence for each thing that is wrong, in the order of the settings."""
    found = error.errors(include_url=False)
    return list(dict.fromkeys(_sentence(one, root) for one in found))


def _sentence(one: ErrorDetails, root: type[BaseModel]) -> str:
    place, kind = _place(one["loc"]), one["type"]
    context: Mapping[str, Any] = one.get("ctx", {})
    if kind == "extra_forbidden":
        return _of_another_storage(one["loc"]) or _unknown(place, root)
    if kind == "missing":
        return _missing(place)
    if kind.startswith("union_tag"):
        known = ", ".join(f"'{tag}'" for tag in STORAGES)
        return f"{_name([*place, 'type'])}: expected one of {known}{_got(one, context.get('tag'))}"
    if kind == "value_error":
        return _own(place, str(context.get("error", one["msg"])))
    if place and place[-1] == "[key]":
        return (
            f"the name {place[-2]!r} must begin with a letter or digit and hold only letters,"
            " digits, - and _, at most 64 of them"
        )
    got = "" if any(map(is_secret, place)) or "env" in place else _got(one, one["input"])
    expected = _expected(kind, one, context)
    if place[-1] == "windows":
        expected = f"a table of its own for each, [[{'.'.join(place)}]]"
    return f"{_name(place)}: expected {expected}{got}"


def _place(location: tuple[int | str, ...]) -> list[str]:
    """Return the location without the tag that pydantic puts in for the chosen type of storage."""
    place = [str(part) for part in location]
    if place[:1] == ["storage"]:
        del place[1:2]
    if place[:1] == ["storages"]:
        del place[2:3]
    return place


def _name(place: list[str]) -> str:
    """`[devices.a.windows, number 2] cron`."""
    return f"'{place[0]}'" if len(place) == 1 else f"{_section(place[:-1])} {place[-1]}"


def _section(place: list[str]) -> str:
    words = [f", number {int(part) + 1}" if part.isdecimal() else f".{part}" for part in place]
    return f"[{''.join(words).removeprefix('.')}]"


def _own(place: list[str], message: str) -> str:
    """Our own validators' sentences; those of a whole section go on after its name."""
    if not place:
        return message
    if message.startswith("has "):
        return f"{_section(place)} {message}"
    return f"{_name(place)}: {message}"


def _missing(place: list[str]) -> str:
    return f"{_section(place[:-1])} lacks the key '{place[-1]}'"


def _expected(kind: str, one: ErrorDetails, context: Mapping[str, Any]) -> str:
    limits = {"greater_than_equal": "at least", "greater_than": "more than"}
    limits |= {"less_than_equal": "at most", "less_than": "less than"}
    if kind in limits:
        return f"{limits[kind]} {next(iter(context.values())):g}"
    if kind in {"literal_error", "enum"}:
        return f"one of {context['expected']}"
    if kind == "string_pattern_mismatch":
        return "small letters and digits only" if "a-z0-9]+" in context["pattern"] else "a name"
    return _EXPECTED.get(kind) or one["msg"]


def _got(one: ErrorDetails, value: object) -> str:
    """Return what was there instead; never a secret, never a whole section."""
    if isinstance(value, SecretStr | dict | list) or value is None or one["type"] == "missing":
        return ""
    text = repr(hidden(value))
    return f", and got {text if len(text) <= _LONGEST else text[:_LONGEST] + '...'}"


def _unknown(place: list[str], root: type[BaseModel]) -> str:
    *section, key = place
    known = sorted(set(_keys(root, section)))
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    where = f"{_section(section)} has no key" if section else "there is no key or section"
    if near:
        return f"{where} '{key}'; did you mean '{near[0]}'?"
    return f"{where} '{key}'; known are {', '.join(known)}"


def _of_another_storage(location: tuple[int | str, ...]) -> str:
    """Return what to say of a key of [storage] that only another type of storage has."""
    if len(location) - 2 != _DEPTH.get(str(location[0])):
        return ""
    *section, kind, key = location
    having = [tag for tag, model in STORAGES.items() if key in model.model_fields]
    if not having:
        return ""
    where = _section([str(each) for each in section])
    return f"{where} of type '{kind}' has no key '{key}'; '{having[0]}' has"


def _keys(kind: Any, place: list[str]) -> Iterator[str]:
    """The keys of the section at `place`, of every type of storage where that is open."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = {name: field for name, field in kind.model_fields.items() if visible(kind, name)}
        if not place:
            yield from fields
        elif place[0] in fields:
            yield from _keys(fields[place[0]].annotation, place[1:])
        return
    inner = [one for one in get_args(kind) if one is not str]
    is_table = getattr(kind, "__origin__", None) in {dict, tuple}
    for one in inner:
        yield from _keys(one, place[1:] if is_table else place)


def visible(model: type[BaseModel], name: str) -> bool:
    """Return whether a person may write this option; the others are filled in by `load`."""
    return name not in _FILLED_IN.get(model.__name__, ())


_FILLED_IN = {
    "Settings": ("file",),
    "SigningSettings": ("private_jwk", "dotenv", "credentials_folder"),
}
