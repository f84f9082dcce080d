"""What a handler prints and logs, made fit for a log: bounded in rate and size."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from spooler.observe.log import bound

#: Bytes passed on at once; what comes later is passed on at RATE bytes per second.
BURST = 8 * 1024
RATE = 1024
#: Bytes kept of what could not be passed on: the last words tell most.
TAIL = 8 * 1024
LINE = 2000


#: Characters of records that are passed on at once, and per second afterwards.
RECORDS_BURST, RECORDS_RATE = 256 * 1024, 16 * 1024


class Listener(Protocol):
    """Hears what a handler says."""

    def line(self, text: str) -> None:
        """It has printed a line."""

    def record(self, record: logging.LogRecord) -> None:
        """It has logged a record; `record.exception` is a traceback's text, where there is one."""


class Told:
    """What a handler says, line by line to whoever tries it out."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def line(self, text: str) -> None:
        self._tell(text)

    def record(self, record: logging.LogRecord) -> None:
        self._tell(f"{record.levelname.lower()}: {record.getMessage()}")
        for each in str(getattr(record, "exception", None) or "").splitlines():
            self._tell(each)


class DeviceLog:
    """What a handler says, in the daemon's log: with the device, and while it runs with the job."""

    def __init__(self, device: str) -> None:
        self._logger = logging.getLogger(f"spooler.devices.{device}")
        self._device = device
        #: The job and attempt that runs, as fields of each line; empty between runs.
        self.run: dict[str, Any] = {}

    def line(self, text: str) -> None:
        with bound(device=self._device, **self.run):
            self._logger.info(text)

    def record(self, record: logging.LogRecord) -> None:
        root = logging.getLogger()
        if root.isEnabledFor(record.levelno):
            with bound(device=self._device, **self.run):
                root.handle(record)


class RecordLog:
    """Passes records on, as many as a log can bear; what is left out is counted and said."""

    def __init__(self, pass_on: Callable[[logging.LogRecord], None]) -> None:
        self._pass_on = pass_on
        self._budget = float(RECORDS_BURST)
        self._since = 0.0
        self._left_out = 0

    def feed(self, record: logging.LogRecord, now: float) -> None:
        """Take a record at the monotonic time `now`."""
        self._budget = min(RECORDS_BURST, self._budget + (now - self._since) * RECORDS_RATE)
        self._since = now
        if self._budget <= (RECORDS_BURST / 2 if self._left_out else 0):
            self._left_out += 1
            return
        self._say_what_is_missing(record.name)
        self._budget -= len(record.getMessage()) + len(getattr(record, "exception", ""))
        self._pass_on(record)

    def finish(self) -> None:
        """The run is over."""
        self._say_what_is_missing("spooler.devices")

    def _say_what_is_missing(self, logger: str) -> None:
        if not self._left_out:
            return
        text, count = "%d log records of the handler dropped: too many at once", self._left_out
        self._left_out = 0
        self._pass_on(logging.LogRecord(logger, logging.WARNING, "", 0, text, (count,), None))


class OutputLog:
    """Passes on the first bytes of a run, then a trickle; at the end the last bytes.

    What is left out is counted and said. Memory is bounded whatever comes in.
    """

    def __init__(self, emit: Callable[[str], None]) -> None:
        self._emit = emit
        self._partial = bytearray()
        self._tail = bytearray()
        self._lost = 0
        self._budget = float(BURST)
        self._since = 0.0
        self.last_line = ""

    def feed(self, data: bytes, now: float) -> None:
        """Take printed bytes at the monotonic time `now`."""
        self._refill(now)
        if self._budget <= 0:
            self._keep(data)
            return
        lines = (bytes(self._partial) + data).split(b"\n")
        self._partial.clear()
        rest = _open_state(lines.pop())
        for index, line in enumerate(lines):
            if self._budget <= 0:
                self._keep(b"\n".join([*lines[index:], rest]))
                return
            self._line(line)
        while len(rest) > LINE and self._budget > 0:
            self._line(rest[:LINE])
            rest = rest[LINE:]
        if self._budget > 0:
            self._partial += rest
        else:
            self._keep(rest)

    def finish(self) -> None:
        """The run is over: pass on what was kept, and allow the next run its own burst."""
        if self._partial:
            self._line(bytes(self._partial))
            self._partial.clear()
        if self._tail:
            # After a cut the first kept line is half a line.
            kept = bytes(self._tail)
            if self._lost:
                cut = kept.find(b"\n") + 1
                self._lost += cut
                kept = kept[cut:]
                self._note()
            for line in kept.rstrip(b"\n").split(b"\n"):
                self._line(line)
            self._tail.clear()
        self._lost = 0
        self._budget = float(BURST)

    def _refill(self, now: float) -> None:
        """Open again when half a burst has come together, not for every byte."""
        if self._budget > 0 and not self._tail:
            self._since = now
            return
        if (now - self._since) * RATE < BURST / 2:
            return
        self._since = now
        self._budget = BURST / 2
        self._lost += len(self._tail)
        self._tail.clear()
        self._note()
        self._lost = 0

    def _note(self) -> None:
        if self._lost:
            self._emit(f"... {self._lost} bytes of output left out ...")

    def _keep(self, data: bytes) -> None:
        self._tail += data[-TAIL:]
        over = len(self._tail) - TAIL
        if over > 0:
            del self._tail[:over]
        self._lost += max(0, len(data) - TAIL) + max(0, over)

    def _line(self, line: bytes) -> None:
        line = _last_state(line)
        self._budget -= len(line) + 1
        for start in range(0, max(len(line), 1), LINE):
            text = line[start : start + LINE].decode("utf-8", "backslashreplace").rstrip()
            if text:
                self.last_line = text
                self._emit(text)


def _last_state(line: bytes) -> bytes:
    """Return what a terminal would show of a line that was written over again and again."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]


def _open_state(line: bytes) -> bytes:
    """The same of a line that goes on: whether it will be written over is still to be seen."""
    return line[line.rstrip(b"\r").rfind(b"\r") + 1 :]
