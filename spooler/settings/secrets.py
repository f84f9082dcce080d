"""Which values of the settings are never shown.

A secret is known by the name of its option, by the company it keeps (a token behind `--token`, a
password inside a URL), or by its place (all variables of an environment). It is hidden as a whole:
a mask that is put over part of a text tells how long the rest is, or, of a short one, all of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

HIDDEN: Final = "(hidden)"

_NAME = re.compile(
    r"passw|passphrase|pwd|secret|token|jwk|uri|dsn|credential|cookie|authorization|bearer"
    r"|(api|auth|access|private|account|shared|storage)[_-]?key|(^|[_-])pass($|[_-])",
    re.IGNORECASE,
)
#: An option of [signing] that is named like a secret: it is the name of one.
_PUBLIC = frozenset({"credential"})
#: `scheme://user:password@host`, and a bare token in its place.
_LOGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s]*@", re.IGNORECASE)
#: A word of a command line that says that the next one, or what stands behind its =, is a secret.
_FLAG = re.compile(r"-{1,2}([A-Za-z][\w-]*)\Z")
_ASSIGNED = re.compile(r"-{0,2}([A-Za-z][\w-]*)[=:]", re.DOTALL)
#: Short for a password in many programs.
_SHORT = frozenset({"p", "P"})


def is_secret(name: str) -> bool:
    """Return whether the value of an option of this name is never shown."""
    return name not in _PUBLIC and _NAME.search(name) is not None


def hidden(value: Any, name: str = "") -> Any:
    """`value`, of JSON's or TOML's types, with everything that may be secret hidden."""
    if name and is_secret(name):
        return HIDDEN
    if isinstance(value, Mapping):
        all_of_it = name.lower() in {"env", "environ", "environment"}
        return {key: HIDDEN if all_of_it else hidden(one, str(key)) for key, one in value.items()}
    if isinstance(value, list | tuple):
        before = ["", *value][:-1] if value else []
        return [
            HIDDEN if _announces(word) else hidden(one)
            for word, one in zip(before, value, strict=True)
        ]
    if isinstance(value, str) and _holds_one(value):
        return HIDDEN
    return value


def _announces(word: object) -> bool:
    """Return whether what follows this word of a command line is a secret."""
    found = _FLAG.match(word) if isinstance(word, str) else None
    return found is not None and (found[1] in _SHORT or is_secret(found[1]))


def _holds_one(text: str) -> bool:
    assigned = _ASSIGNED.match(text)
    return _LOGIN.search(text) is not None or (assigned is not None and is_secret(assigned[1]))
