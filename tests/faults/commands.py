"""Every command that changes a MongoDB server, as a step finer than a verb.

What only looks is no step: the server is the same before and after it.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pymongo import monitoring

from tests.faults.points import AFTER, BEFORE, At, Point, Spoiled, whole

_CHANGES = {"findAndModify", "bulkWrite", "update", "insert", "delete", "createIndexes"}
#: What the names of all databases of one test begin with.
_PREFIX = re.compile(r"[a-z][a-z0-9]+_(?=jobs|status|results|backends|spooler)")


class TracedCommands(monitoring.CommandListener):
    """Calls `at` before a command is sent and after it is answered."""

    def __init__(self, at: At) -> None:
        self._at = at
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._open: dict[int, tuple[str, int]] = {}

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name not in _CHANGES:
            return
        label = shown(event.command_name, event.command, event.database_name)
        with self._lock:
            nth = self._counts[label] = self._counts[label] + 1
            self._open[event.request_id] = (label, nth)
        self._step(Point(label, nth, BEFORE))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        self._answered(event.request_id)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        self._answered(event.request_id)

    def _answered(self, request: int) -> None:
        with self._lock:
            seen = self._open.pop(request, None)
        if seen is not None:
            self._step(Point(*seen, AFTER))

    def _step(self, point: Point) -> None:
        """Nothing but a BaseException leaves a listener."""
        try:
            self._at(point, whole)
        except Exception as error:
            raise Spoiled(str(error)) from error


@contextmanager
def command_steps(at: At) -> Iterator[None]:
    """Trace the clients that are opened within."""
    listener = TracedCommands(at)
    monitoring.register(listener)
    try:
        yield
    finally:
        monitoring._LISTENERS.command_listeners.remove(listener)


def shown(name: str, command: Mapping[str, Any], database: str) -> str:
    """A command without what differs from run to run: its place, and the fields it sets."""
    if name == "bulkWrite":
        places = [_PREFIX.sub("", each["ns"]).replace(".", "/", 1) for each in command["nsInfo"]]
        return f"bulkWrite {' '.join(sorted(places))}"
    place = command[name]
    if not isinstance(place, str):
        return name
    where = f"{name} {_PREFIX.sub('', database)}/{place}"
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
