"""A handler that keeps a book of its runs, so that a job that was run twice is noticed."""

from __future__ import annotations

import os
from typing import Any


class Bookkeeper:
    """Appends the id of each job to a file, one atomic write for each, and answers as Echo does."""

    params = dict[str, Any]

    def __init__(self, book: str) -> None:
        self._book = book

    def open(self) -> None:
        """There is nothing to connect to."""

    def run(self, params: dict[str, Any], context: Any) -> dict[str, Any]:
        """Note the job."""
        handle = os.open(self._book, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(handle, f"{context.job_id}\n".encode())
        os.close(handle)
        return {"echo": params}

    def close(self) -> None:
        """There is nothing to make safe."""
