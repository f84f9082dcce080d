"""The tokens of this process: what it holds, and calls that did not come to their end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Held = TypeVar("Held")


class Tokens(Generic[Held]):
    """What a backend knows by token. Safe in any thread.

    A call with a token that fails half way may have made a claim all the same: until a repeat has
    come to its end, the token is in doubt and the storage is asked for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._doubtful: set[str] = set()

    def held(self, token: str) -> Held | None:
        """Return what is held under a token."""
        with self._lock:
            return self._held.get(token)

    def hold(self, token: str, what: Held) -> None:
        """Remember what is held under a token, in place of what was."""
        with self._lock:
            self._held[token] = what

    def drop(self, token: str) -> None:
        """Forget a token; harmless to repeat."""
        with self._lock:
            self._held.pop(token, None)
            self._doubtful.discard(token)

    @contextmanager
    def asking(self, token: str) -> Iterator[bool]:
        """Give whether an earlier call with this token is in doubt; end the doubt on success."""
        with self._lock:
            doubtful = token in self._doubtful
            self._doubtful.add(token)
        yield doubtful
        with self._lock:
            self._doubtful.discard(token)
