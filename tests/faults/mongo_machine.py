"""The state machine on MongoDB: its commands are steps too, that are refused, lost or died at."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

from pymongo import monitoring
from pymongo.errors import OperationFailure

from spooler.errors import BackendUnavailable
from spooler.storage.sqooler.client.mongodb import MongodbProviderExtended
from spooler.storage.sqooler.mongodb.backend import MongoBackend
from spooler.storage.sqooler.mongodb.submitter import MongoSubmitter
from tests.faults.machine import Machine
from tests.faults.nodes import Chaos
from tests.faults.points import AFTER, BEFORE
from tests.servers.mongodb import MongoServer
from tests.storage.mongo_bench import address, opener


class _Spoiled(BaseException):
    """A command that was refused, or whose answer is lost; the driver must not repeat it."""


class _Commands(monitoring.CommandListener):
    """Makes a step of each command of one client. Only a BaseException leaves a listener."""

    def __init__(self, chaos: Chaos) -> None:
        self._chaos = chaos

    def _step(self, when: str) -> None:
        try:
            self._chaos.step(when, lambda: OperationFailure("planted"))
        except OperationFailure:
            raise _Spoiled from None

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name != "endSessions":
            self._step(BEFORE)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        if event.command_name != "endSessions":
            self._step(AFTER)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        self.succeeded(event)  # type: ignore[arg-type]  # both have a name


class _Told:
    """A backend that says of a spoiled command what the driver's errors become."""

    def __init__(self, inner: MongoBackend) -> None:
        self._inner = inner

    def __getattr__(self, verb: str) -> Any:
        real = getattr(self._inner, verb)
        if not callable(real):
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return real(*args, **kwargs)
            except _Spoiled:
                raise BackendUnavailable("the answer was lost; try again") from None

        return call


class MongoMachine(Machine):
    """On the server of `server`, taken for one of `kind`."""

    steps = False
    journey = 30
    server: ClassVar[MongoServer]
    kind: ClassVar[str]

    def open_storage(self) -> None:
        self.prefix = f"t{uuid.uuid4().hex[:10]}_"
        self.opened: list[MongoBackend] = []
        self.backend: Callable[[], Any] = self._open
        provider = MongodbProviderExtended(address(self.server, self.prefix), "lab")
        self.submitter = MongoSubmitter(provider)

    def _open(self) -> _Told:
        """A backend with a client of its own, whose commands are steps."""
        listener = _Commands(self.chaos)
        monitoring.register(listener)
        try:
            made = opener(self.server, self.prefix, self.clock, self.kind)
        finally:
            monitoring._LISTENERS.command_listeners.remove(listener)
        self.opened.append(made)
        return _Told(made)

    def close(self) -> None:
        super().close()
        self.chaos.disarm()
        for each in self.opened:
            with suppress(BackendUnavailable):
                each.close()
        self.submitter.close()
        self.server.drop(self.prefix)
