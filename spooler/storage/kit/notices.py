"""What is said once in the log, and not at every look."""

from __future__ import annotations

import threading

from spooler.observe.logger import get_logger

#: So many are remembered; then all are said again.
_MOST = 10_000


logger = get_logger("spooler.storage")


class Notices:
    """Remembers what was said. Safe in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said: set[str] = set()

    def warn_once(self, about: str, text: str) -> None:
        """Log a warning, unless one about the same was logged before."""
        with self._lock:
            if about in self._said:
                return
            if len(self._said) >= _MOST:
                self._said.clear()
            self._said.add(about)
        logger.warning("%s", text)
