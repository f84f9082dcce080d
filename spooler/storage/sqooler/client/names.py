"""What may be called what: the only place where paths and ids of a storage are judged.

A name that passes cannot leave the base folder of a local storage, cannot be one of the hidden
files that are being written there, and means the same in every storage.
"""

from __future__ import annotations

import re

_PROVIDER = re.compile(r"[a-z0-9]+")
_DEVICE = re.compile(r"[a-z0-9]{1,100}")
_SEGMENT = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_ID = re.compile(r"(?!\.)[A-Za-z0-9_.-]{1,128}")


class NoSuchName(FileNotFoundError, ValueError):
    """No device can have this name, so that nothing is found under it either."""


def check_provider(name: str) -> str:
    """`name` in small letters, when a storage may be called so; else ValueError."""
    small = name.lower()
    if not _PROVIDER.fullmatch(small):
        raise ValueError(f"the storage name {name!r} is not usable: use letters and digits only")
    return small


def is_device(name: str | None) -> bool:
    """Return whether a device may have this name."""
    return name is not None and _DEVICE.fullmatch(name) is not None


def check_device(name: str | None) -> str:
    """`name` when a device may have it; else NoSuchName."""
    if name is None or not is_device(name):
        raise NoSuchName(
            f"the display name {name!r} is not usable: use lower-case letters and digits only"
        )
    return name


def carries(name: str) -> str:
    """Return why a storage cannot have a queue of this name; "" when it can."""
    if _DEVICE.fullmatch(name):
        return ""
    return "sqooler knows names of 1 to 100 lower-case letters and digits"


def check_path(path: str) -> tuple[str, ...]:
    """The segments of a storage path, slashes at its ends ignored; ValueError for a bad one."""
    segments = tuple(path.strip("/").split("/"))
    for segment in segments:
        if segment in {".", ".."} or not _SEGMENT.fullmatch(segment):
            raise ValueError(
                f"the storage path {path!r} is not usable: between slashes use letters, digits "
                "and _ . - only, and neither '.' nor '..'"
            )
    return segments


def is_id(name: str) -> bool:
    """Return whether a document may have this id."""
    return _ID.fullmatch(name) is not None


def check_id(name: str) -> str:
    """`name` when a document may have it as its id; else ValueError."""
    if not is_id(name):
        raise ValueError(
            f"the id {name!r} is not usable: use 1 to 128 letters, digits and _ . - and no dot "
            "in front"
        )
    return name
