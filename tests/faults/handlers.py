"""The handler of the fault tests: keeps a book of its executions, and can cause trouble."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Mapping
from typing import Any

#: What "cancel" does: set by the process that plays the submitter.
CANCEL: list[Callable[[str], None]] = []


class Acting:
    """Writes `job attempt value` into its book at each execution; then does what `act` says."""

    params = dict[str, Any]

    def __init__(self, book: str, act: str = "done") -> None:
        self.book = book
        self.act = act

    def open(self) -> None:
        return

    def run(self, params: Mapping[str, Any], context: Any) -> Mapping[str, Any]:
        del params
        value = uuid.uuid4().hex
        handle = os.open(self.book, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(handle, f"{context.job_id} {context.attempt} {value}\n".encode())
        os.close(handle)
        if self.act == "raise":
            raise ValueError("the laser tripped")
        if self.act == "cancel":
            CANCEL[0](context.job_id)
            context.stop.wait(20)
        if self.act == "stop":
            os.kill(os.getpid(), signal.SIGTERM)
            context.stop.wait(20)
        return {"value": value}

    def close(self) -> None:
        return
