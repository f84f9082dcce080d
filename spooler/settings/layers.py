"""The layers above the file: environment variables and systemd credentials, both text.

`SPOOLER_DAEMON__POLL_INTERVAL=0.5` stands for `[daemon] poll_interval = 0.5`: a double underscore
between section and key. A credential named `spooler.storage.name` stands for `[storage] name`.
Text becomes what the option at that place takes.
"""

from __future__ import annotations

import tomllib
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from spooler.errors import ConfigError

PREFIX = "SPOOLER_"
CREDENTIAL_PREFIX = "spooler."
#: Variables that are no settings: which file to read.
_OTHER = {"SPOOLER_CONFIG"}
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True)
class Given:
    """A setting that did not come from the file: who gave it, its place, its text."""

    by: str
    place: tuple[str, ...]
    text: str


def from_environment(environ: Mapping[str, str], root: type[BaseModel]) -> Iterator[Given]:
    """The settings in `environ`; a variable with one underscore too few is refused.

    Other variables of the same prefix are left alone: a container platform makes some for a
    service that is called spooler.
    """
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or name in _OTHER:
            continue
        rest = name.removeprefix(PREFIX).lower()
        place = tuple(rest.split("__"))
        section = next((key for key in root.model_fields if rest.startswith(f"{key}_")), None)
        if len(place) > 1 or rest in root.model_fields:
            yield Given(f"environment variable {name}", place, text)
        elif section is not None:
            key = rest.removeprefix(f"{section}_")
            if any(True for _ in _taken(root.model_fields[section].annotation, (key,))):
                raise ConfigError(
                    f"the environment variable {name} is not a setting;"
                    f" did you mean {PREFIX}{section.upper()}__{key.upper()}?"
                )


def from_credentials(folder: Path) -> Iterator[Given]:
    """The settings among the systemd credentials in `folder`."""
    try:
        files = sorted(folder.glob(f"{CREDENTIAL_PREFIX}*.*"))
        for file in files:
            place = tuple(file.name.removeprefix(CREDENTIAL_PREFIX).split("."))
            text = file.read_text(encoding="utf-8").removesuffix("\n")
            yield Given(f"credential {file.name}", place, text)
    except UnicodeDecodeError:
        raise ConfigError(f"the credential {file} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"the credentials in {folder} cannot be read: {error.strerror}") from None


def lay_over(tree: dict[str, Any], given: Iterable[Given], root: type[BaseModel]) -> None:
    """Put each of `given` at its place in `tree`, in order."""
    for one in given:
        where = tree
        for key in one.place[:-1]:
            where = where.setdefault(key, {})
            if not isinstance(where, dict):
                raise ConfigError(f"the {one.by} goes deeper than [{key}], which is not a section")
        where[one.place[-1]] = _value(one.text, list(_taken(root, one.place)))


def _taken(kind: Any, place: tuple[str, ...]) -> Iterator[Any]:
    """The types that the option at `place` takes; nothing when there is no such option."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        yield from _taken(inner[0], place)
    elif origin in {Union, types.UnionType}:
        for one in inner:
            yield from _taken(one, place)
    elif not place:
        yield origin or kind
    elif origin is dict:
        yield from _taken(inner[1], place[1:])
    elif isinstance(kind, type) and issubclass(kind, BaseModel) and place[0] in kind.model_fields:
        yield from _taken(kind.model_fields[place[0]].annotation, place[1:])
    elif kind is Any:
        yield Any


def _value(text: str, taken: list[Any]) -> Any:
    """`text` as one of the types in `taken`; the text itself when it is none of them."""
    if bool in taken:
        return _WORDS.get(text.strip().lower(), text)
    if {int, float, dict, list, tuple, Any}.intersection(taken):
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except (tomllib.TOMLDecodeError, RecursionError):
            return text
    return text
