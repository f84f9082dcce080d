"""Every command of a process that changes a MongoDB server, as a point at which it can die.

Beside points.py: there the steps are file operations, here they are what the driver sends. What
only looks is no point: the server is the same before and after it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from pymongo import monitoring

from tests.faults.points import AFTER, BEFORE, Point, TracedOs

At = Callable[[Point, Callable[[], Any]], None]

_CHANGES = frozenset(
    (
        *("findAndModify", "bulkWrite", "update", "insert", "delete", "createIndexes"),
        *("commitTransaction", "abortTransaction"),
    )
)


class TracedCommands(monitoring.CommandListener):
    """Calls `at` before a command is sent and after it is answered."""

    def __init__(self, prefix: str, at: At, files: TracedOs) -> None:
        self._prefix = prefix
        self._at = at
        self._files = files
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._open: dict[int, tuple[str, int]] = {}

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name not in _CHANGES or self._files.inside:
            return
        label = shown(event.command_name, event.command, event.database_name, self._prefix)
        with self._lock:
            nth = self._counts[label] = self._counts[label] + 1
            self._open[event.request_id] = (label, nth)
        self._at(Point(label, nth, BEFORE), _nothing)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        self._answered(event.request_id)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        self._answered(event.request_id)

    def _answered(self, request: int) -> None:
        with self._lock:
            seen = self._open.pop(request, None)
        if seen is not None:
            self._at(Point(*seen, AFTER), _nothing)


def trace(prefix: str, at: At, files: TracedOs) -> None:
    """Trace the clients that this process opens from now on."""
    monitoring.register(TracedCommands(prefix, at, files))


def shown(name: str, command: Mapping[str, Any], database: str, prefix: str) -> str:
    """A command without what differs from run to run: its place, and the fields it sets."""
    if name == "bulkWrite":
        places = [
            each["ns"].removeprefix(prefix).replace(".", "/", 1) for each in command["nsInfo"]
        ]
        return f"bulkWrite {' '.join(sorted(places))}"
    place = command[name]
    if not isinstance(place, str):
        return name
    where = f"{name} {database.removeprefix(prefix)}/{place}"
    return " ".join((where, *sorted(_fields(name, command))))


def _fields(name: str, command: Mapping[str, Any]) -> set[str]:
    if name == "findAndModify":
        change = command.get("update", {})
    elif name == "update":
        change = command.get("updates", [{"u": {}}])[0]["u"]
    else:
        return set()
    if not isinstance(change, list | dict):
        return set()  # a whole document, as bytes
    stages = change if isinstance(change, list) else [change]
    found = set()
    for stage in stages:
        for operator, fields in stage.items():
            if operator in {"$set", "$setOnInsert"} and isinstance(fields, Mapping):
                found |= {str(field) for field in fields}
            elif operator.startswith("$"):
                found.add(operator)
    return found


def _nothing() -> None:
    """A command is sent as a whole or not at all."""
