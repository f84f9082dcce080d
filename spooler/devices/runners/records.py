"""What a handler logs, on its way from its process to the daemon's log.

Records travel as frames, each with its level, its logger and its traceback, beside what is
printed. The handler's own logging set-up does not touch this way: `context.logger` belongs to no
manager that it could ask to disable loggers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from spooler.devices.runners.wire import Head

#: Characters that one record may have, message and traceback each.
LONGEST = 16_000
_FORMAT = logging.Formatter()


class FrameRecords(logging.Handler):
    """In the handler's process: sends each record as a frame."""

    def __init__(self, send: Callable[[Head], object]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send(_head(record))
        except OSError:
            return  # the daemon is gone
        except Exception:  # noqa: BLE001 - logging's own rule for handlers
            self.handleError(record)


def _head(record: logging.LogRecord) -> Head:
    head: Head = {
        "kind": "log",
        "level": record.levelno,
        "logger": _cut(record.name),
        "message": _cut(record.getMessage()),
    }
    traces = [_FORMAT.formatException(record.exc_info)] if record.exc_info else []
    if record.stack_info:
        traces.append(record.stack_info)
    if traces:
        head["exception"] = _cut("\n".join(traces))
    return head


def _cut(text: str) -> str:
    """`text` as it fits into a frame; of a long one the end says most."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= LONGEST else f"[...] {text[-LONGEST:]}"


def logger_for(device: str, handler: logging.Handler) -> logging.Logger:
    """Return a logger that only we can switch off."""
    logger = logging.Logger(f"spooler.devices.{device}")
    # One of its own: `logging.disable` and `dictConfig` change the manager of all others.
    logger.manager = logging.Manager(logging.RootLogger(logging.WARNING))
    logger.addHandler(handler)
    return logger


def record_of(head: Head) -> logging.LogRecord:
    """In the daemon: the record that a frame stands for."""
    level = head.get("level")
    record = logging.LogRecord(
        str(head.get("logger", "")),
        level if isinstance(level, int) else logging.INFO,
        "",
        0,
        "%s",
        (str(head.get("message", "")),),
        None,
    )
    fields: dict[str, Any] = {"exception": head["exception"]} if "exception" in head else {}
    record.__dict__.update(fields)
    return record
