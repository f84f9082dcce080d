"""Handlers for the acceptance tests; copied into the lab's folder, where the daemon finds them."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Mapping
from typing import Any


class Counting:
    """Writes one line per execution: `job attempt` at the begin, with one atomic append."""

    params = dict[str, Any]

    def __init__(
        self, book: str, seconds: float = 0.0, cooperative: bool = True, opening: float = 0.0
    ) -> None:
        self.book = book
        self.opening = opening
        self.seconds = seconds
        self.cooperative = cooperative

    def open(self) -> None:
        self._note("open")
        time.sleep(self.opening)

    def run(self, params: Mapping[str, Any], context: Any) -> Mapping[str, Any]:
        self._note(f"run {context.job_id} {context.attempt}")
        if params.get("busy"):  # as a driver that looks at nothing
            end = time.monotonic() + params["busy"]
            while time.monotonic() < end:
                pass
            self._note(f"done {context.job_id}")
        if self.cooperative:
            context.stop.wait(params.get("seconds", self.seconds))
        else:
            time.sleep(params.get("seconds", self.seconds))
        if params.get("exit"):
            sys.exit(3)
        if params.get("raise"):
            raise RuntimeError("the laser tripped")
        if params.get("dumpable"):
            return {"dumpable": ctypes.CDLL(None).prctl(3)}  # PR_GET_DUMPABLE
        if params.get("megabytes"):
            return {"picture": "x" * (params["megabytes"] * 2**20)}
        return {"value": params.get("value", 1)}

    def close(self) -> None:
        self._note("close")

    def calibrate(self, context: Any) -> None:
        self._note("calibrate")

    def _note(self, text: str) -> None:
        handle = os.open(self.book, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(handle, f"{text}\n".encode())
        os.close(handle)
