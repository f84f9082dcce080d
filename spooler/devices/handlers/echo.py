"""A device that answers with its payload: for tests, first steps and measurements."""

from __future__ import annotations

from typing import Any

from spooler.model.json import Json
from spooler.protocols import JobContext


class Echo:
    """Returns `{"echo": payload}` after `delay` seconds, or fails with the text `fail`."""

    params = dict[str, Any]

    def __init__(self, delay: float = 0.0, fail: str = "", version: str = "1.0.0") -> None:
        if delay < 0:
            raise ValueError("delay must not be negative")
        self._delay = delay
        self._fail = fail
        self._version = version

    def card(self) -> dict[str, Json]:
        """Version and description."""
        return {
            "version": self._version,
            "description": "Answers with the payload.",
            "simulator": True,
        }

    def open(self) -> None:
        """There is nothing to connect to."""

    def run(self, params: dict[str, Any], context: JobContext) -> dict[str, Any]:
        if self._delay:
            context.stop.wait(self._delay)
        if self._fail:
            raise ValueError(self._fail)
        return {"echo": params}

    def close(self) -> None:
        """There is nothing to make safe."""
