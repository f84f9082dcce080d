"""Lines on their way to a log that may not be read: whoever logs never waits for it.

A terminal is held with Ctrl-S, a collector hangs, a file server is gone: a write to the log then
takes as long as that lasts. So a thread of its own writes, and what it cannot write in time is
left out and counted.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from typing import TextIO

#: Bytes that wait for a reader at most.
MOST_WAITING = 4 * 1024 * 1024
#: Seconds that lines are gathered before they are written: one write for many.
_GATHER = 0.005
#: Seconds that the end of the program waits for the last lines.
_AT_THE_END = 1.0


class Lines(logging.Handler):
    """Writes lines; a log that cannot be written does not stop a measurement."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        del record


class DirectLines(Lines):
    """Writes lines at once, to a stream without a file descriptor."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._stream.write(self.format(record) + "\n")
            self._stream.flush()
        except Exception:  # noqa: BLE001 - logging's own rule for handlers
            self.handleError(record)


class WaitingLines(Lines):
    """Lines to a file of the system's, by a thread."""

    def __init__(self, handle: int, encoding: str) -> None:
        """`handle` is the file's descriptor; it is not closed."""
        super().__init__()
        self._handle = handle
        self._encoding = encoding
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._left_out = 0
        self._news = threading.Condition()
        self._busy = False
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - logging's own rule for handlers
            self.handleError(record)
            return
        self._put(self._bytes(line))

    def _bytes(self, line: str) -> bytes:
        return f"{line}\n".encode(self._encoding, "backslashreplace")

    def _put(self, line: bytes) -> None:
        with self._news:
            if self._size + len(line) > MOST_WAITING:
                self._left_out += 1
                return
            self._waiting.append(line)
            self._size += len(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="log", daemon=True)
                self._thread.start()
            elif not self._busy:
                self._news.notify_all()

    def _write(self) -> None:
        """Body of the thread: what waits, in one piece, again and again."""
        while True:
            with self._news:
                self._busy = False
                self._news.notify_all()  # `flush` waits for this
                while not self._waiting:
                    self._news.wait()
                self._busy = True
            time.sleep(_GATHER)
            with self._news:
                text, left_out = b"".join(self._waiting), self._left_out
                self._waiting.clear()
                self._size = self._left_out = 0
            self._write_all(text)
            if left_out:
                self._write_all(self._confession(left_out))

    def _write_all(self, text: bytes) -> None:
        rest = memoryview(text)
        while rest:
            try:
                rest = rest[os.write(self._handle, rest) :]
            except BlockingIOError:  # somebody has made the file so that it does not wait
                time.sleep(_GATHER)
            except OSError:
                return  # a full disk, a reader that is gone: these lines are lost

    def _confession(self, count: int) -> bytes:
        """Say how many lines are missing, where they are missing."""
        text = "%d log lines dropped: the log was not read in time"
        level = logging.WARNING
        record = logging.LogRecord("spooler.log", level, __file__, 0, text, (count,), None)
        return self._bytes(self.format(record))

    def flush(self) -> None:
        """Wait for what is on its way, but not for ever."""
        with self._news:
            self._news.wait_for(lambda: not (self._waiting or self._busy), _AT_THE_END)


def lines_to(stream: TextIO) -> Lines:
    """Return the handler that brings lines to a stream."""
    try:
        handle = stream.fileno()
    except (OSError, ValueError):  # it has no descriptor, or is closed
        return DirectLines(stream)
    return WaitingLines(handle, stream.encoding or "utf-8")
