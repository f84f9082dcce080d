"""Runs one payload through a handler as the daemon would: no queue, no storage, no announcement."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spooler.app import parts
from spooler.app.state_lock import StateLock
from spooler.daemon.control import Control
from spooler.errors import ConfigError, RunStopped, StateInUse
from spooler.model.json import JsonObject
from spooler.model.result import Outcome
from spooler.model.run import RunRequest
from spooler.model.state import State
from spooler.settings import DeviceSettings, Settings

if TYPE_CHECKING:
    from spooler.devices.output import Listener


@dataclass(frozen=True, slots=True)
class Tried:
    """How one run ended, and after how many seconds."""

    outcome: Outcome
    seconds: float


@dataclass(frozen=True, slots=True)
class Hearing:
    """Who is told meanwhile: of progress, and of what the handler prints and logs."""

    progress: Callable[[str], None]
    output: Listener


@dataclass(frozen=True, slots=True)
class Subject:
    """What is tried: a device of the settings, or a handler with default settings.

    `state` is the state folder of the daemon that may have the device.
    """

    name: str
    device: DeviceSettings
    state: Path | None = None

    @contextmanager
    def taken(self, otherwise: Path) -> Iterator[Path]:
        """Keep a daemon from the device; the folder for its lock. Raises StateInUse.

        Without a state folder no daemon has run. It is not made for one: who makes it owns it.
        """
        if self.state is None or not self.state.exists():
            yield otherwise
            return
        try:
            lock = StateLock(self.state)
        except StateInUse:
            handler = self.device.handler
            alone = f", or try its handler by itself: {handler}" if ":" in handler else ""
            raise StateInUse(
                f"a daemon is running and has the device {self.name}; stop it first{alone}"
            ) from None
        try:
            yield self.state
        finally:
            lock.close()

    @classmethod
    def of_settings(cls, name: str, settings: Settings) -> Subject:
        """Return the device of that name; ConfigError when there is none."""
        parts.make_handlers_importable(settings)
        if name not in settings.devices:
            known = ", ".join(sorted(settings.devices)) or "none"
            raise ConfigError(
                f"the settings have no device {name!r} (known: {known}); name one of them, or a "
                "handler as module:Name"
            )
        return cls(name, settings.devices[name], settings.state)

    @classmethod
    def of_handler(cls, reference: str) -> Subject:
        """Return a handler `module:Name`; its module may lie in the present folder."""
        parts.make_importable(Path.cwd())
        return cls("trial", DeviceSettings(handler=reference))


def try_out(subject: Subject, payload: JsonObject, times: int, hearing: Hearing) -> Iterator[Tried]:
    """Open the handler, run `payload` so many times, and close it.

    Raises ConfigError, DeviceUnusable or PayloadInvalid, as the daemon's runs do, and StateInUse
    where a daemon has the device.
    """
    with (
        tempfile.TemporaryDirectory(prefix="spooler-try.") as folder,
        subject.taken(Path(folder)) as state,
    ):
        runner = parts.open_device(subject.name, subject.device, state, hearing.output)
        try:
            runner.open()
            for number in range(times):
                scratch = str(Path(folder) / f"run-{number}")
                request = RunRequest(
                    secrets.token_hex(12), 1, payload, subject.device.timeout, scratch
                )
                since = time.monotonic()
                try:
                    outcome = runner.run(request, Control(hearing.progress))
                except RunStopped as stopped:
                    outcome = Outcome(State.ERROR, f"the run was stopped: {stopped.reason}")
                yield Tried(outcome, time.monotonic() - since)
        finally:
            runner.close()
