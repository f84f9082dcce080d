"""What the tests of this room share: a control, requests, runners that are closed again."""

from __future__ import annotations

import importlib
import logging
import os
import select
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spooler.devices import HandlerSpec, open_runner
from spooler.model.json import Json
from spooler.model.result import Outcome
from spooler.model.run import RunRequest, StopReason
from spooler.protocols import Runner


class Control:
    """The daemon's side of a run; `stop_at` is the progress at which it wants the run ended."""

    def __init__(self, reason: StopReason | None = None, stop_at: str = "") -> None:
        self.stop_reason: StopReason | None = None if stop_at else reason
        self.said: list[str] = []
        self._reason = reason
        self._stop_at = stop_at

    def progress(self, text: str) -> None:
        self.said.append(text)
        if self._stop_at and text == self._stop_at:
            self.stop_reason = self._reason


class Listening:
    """Hears what a handler says, as lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.records: list[logging.LogRecord] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def record(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class Bench:
    """A runner with its output, closed after the test."""

    def __init__(self, runner: Runner, heard: Listening, scratch: Path) -> None:
        self.runner = runner
        self.lines = heard.lines
        self.records = heard.records
        self.scratch = scratch

    def run(self, payload: Json, control: Control | None = None, timeout: float = 30.0) -> Outcome:
        return self.runner.run(self.request(payload, timeout), control or Control())

    def do(self, what: str, control: Control | None = None, timeout: float = 30.0) -> Outcome:
        return self.run({"do": what}, control, timeout)

    def request(self, payload: Json, timeout: float = 30.0) -> RunRequest:
        return RunRequest("a" * 24, 1, payload, timeout, str(self.scratch))


MakeBench = Callable[..., Bench]


@pytest.fixture(autouse=True)
def _handlers_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "handlers"))


@pytest.fixture(autouse=True)
def _daemon_logs_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


@pytest.fixture
def real_sqooler() -> None:
    """Import the real package once: pydantic warns about how its models are written."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("sqooler.spoolers")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[MakeBench]:
    made: list[Bench] = []

    def make(
        reference: str = "misbehaving:Zoo",
        *,
        options: dict[str, Json] | None = None,
        opened: bool = True,
        **spec: object,
    ) -> Bench:
        heard = Listening()
        settings: dict[str, object] = {"grace": 0.4, "start_timeout": 30.0, **spec}
        whole = HandlerSpec("bench", reference, options or {}, **settings)  # type: ignore[arg-type]
        it = Bench(open_runner(whole, heard), heard, tmp_path / "scratch")
        made.append(it)
        if opened:
            it.runner.open()
        return it

    yield make
    for it in made:
        it.runner.close()


def wait_gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether the process ends (or is a zombie) within `seconds`; no polling."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)
