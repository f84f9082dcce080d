"""Counts the commands that a backend sends, as the driver tells of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo import monitoring

#: What the driver sends by itself.
_OWN = {"hello", "ismaster", "isMaster", "endSessions", "saslStart", "saslContinue"}


class Commands(monitoring.CommandListener):
    """Remembers commands while somebody counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lists: list[list[tuple[str, Any]]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name in _OWN:
            return
        with self._lock:
            for each in self._lists:
                each.append((event.command_name, event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass

    @contextmanager
    def counting(self) -> Iterator[list[tuple[str, Any]]]:
        """The commands of this process from here to the end of the block."""
        found: list[tuple[str, Any]] = []
        with self._lock:
            self._lists.append(found)
        try:
            yield found
        finally:
            with self._lock:
                self._lists.remove(found)


COMMANDS = Commands()
#: For every client that is opened from now on.
monitoring.register(COMMANDS)


def names(found: list[tuple[str, Any]]) -> list[str]:
    return [name for name, _ in found]
