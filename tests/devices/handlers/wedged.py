"""A handler that ends only when the test lets it."""

from __future__ import annotations

import threading
from typing import Any

from spooler.protocols import JobContext

RELEASE = threading.Event()
RELEASE.set()


class Wedged:
    params = dict[str, Any]

    def open(self) -> None: ...

    def close(self) -> None: ...

    def run(self, params: dict[str, Any], context: JobContext) -> Any:
        context.progress("stuck")
        RELEASE.wait(60)
        return {}
