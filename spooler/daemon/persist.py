"""The one place where something is tried again until it is done or nobody can wait any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from spooler.daemon.backoff import Backoff
from spooler.daemon.shared import Patience
from spooler.errors import BackendUnavailable

Done = TypeVar("Done")


def persist(
    action: Callable[[], Done],
    patience: Patience,
    trouble: Callable[[BackendUnavailable], object] = lambda _: None,
) -> Done:
    """Return what `action` returns, however often it takes.

    `trouble` is told each time it is unavailable. The waits grow, unless the storage has said when
    to ask again. When `patience` ends, the last BackendUnavailable is raised; everything else that
    `action` raises goes through at once.
    """
    backoff: Backoff | None = None
    while True:
        try:
            return action()
        except BackendUnavailable as error:
            trouble(error)
            backoff = backoff or Backoff()
            if not patience(error.retry_after or backoff.wait()):
                raise
