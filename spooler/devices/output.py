"""What a handler prints, made fit for a log: line by line, bounded in rate and size."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from spooler.observe.log import bound

#: Bytes passed on at once; what comes later is passed on at RATE bytes per second.
BURST = 8 * 1024
RATE = 1024
#: Bytes kept of what could not be passed on: the last words tell most.
TAIL = 8 * 1024
LINE = 2000


class DeviceLog:
    """Lines of a handler, in the daemon's log: with the device, and while it runs with the job."""

    def __init__(self, device: str) -> None:
        self._logger = logging.getLogger(f"spooler.devices.{device}")
        self._device = device
        #: The job and attempt that runs, as fields of each line; empty between runs.
        self.run: dict[str, Any] = {}

    def __call__(self, line: str) -> None:
        with bound(device=self._device, **self.run):
            self._logger.info(line)


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
        rest = lines.pop()
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
        self._budget -= len(line) + 1
        for start in range(0, max(len(line), 1), LINE):
            text = line[start : start + LINE].decode("utf-8", "backslashreplace").rstrip()
            if text:
                self.last_line = text
                self._emit(text)
