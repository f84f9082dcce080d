"""A backend around a backend: whatever its storage is, each call of a verb passes one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spooler.model.storage import Traits
from spooler.protocols import Backend

#: Gets the verb, what does it, and what it is about; returns the answer.
Passing = Callable[[str, Callable[[], Any], tuple[Any, ...]], Any]

#: Verbs that only look: what is there is the same before and after them.
LOOKS = {"depth", "peek", "preview", "subscribe", "ping", "close", "check_key_owner"}


class _Verbs:
    def __init__(self, inner: Any, passing: Passing) -> None:
        self._inner = inner
        self._passing = passing

    def __getattr__(self, verb: str) -> Any:
        real = getattr(self._inner, verb)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._passing(verb, lambda: real(*args, **kwargs), args)

        return call


class Around(_Verbs):
    """`inner`, each verb of which is done by `passing`; the catalogue's too."""

    def __init__(self, inner: Backend, passing: Passing) -> None:
        super().__init__(inner, passing)
        inside = inner.catalogue
        self.catalogue = None if inside is None else _Verbs(inside, passing)

    @property
    def inner(self) -> Backend:
        return self._inner  # type: ignore[no-any-return]

    @property
    def address(self) -> str:
        return self.inner.address

    @property
    def traits(self) -> Traits:
        return self.inner.traits
