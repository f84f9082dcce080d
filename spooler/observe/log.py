"""Log lines: readable on a terminal, JSON otherwise; one way out for everything that is logged.

Every line has `timestamp` (ISO 8601, UTC), `level` and `event`, and `device`, `job`, `attempt`
where they are known. What our own modules (`spooler.observe.logger`) and libraries log in words
comes out the same way, as the event `log` with its `message`, its `logger` and its fields.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from spooler.observe.events import EventName, Observation
from spooler.observe.lines import Lines, lines_to

#: `with bound(device="singlequdit", job=...)`: fields of every line that this thread logs.
bound = structlog.contextvars.bound_contextvars

LEVELS: Final = MappingProxyType(
    {
        EventName.JOB_CLAIMED: logging.DEBUG,
        EventName.JOB_PROGRESS: logging.DEBUG,
        EventName.REPORT_DELIVERED: logging.DEBUG,
        EventName.DEVICE_ANNOUNCED: logging.DEBUG,
        EventName.STORAGE_CALLS: logging.DEBUG,
        EventName.JOB_FAILED: logging.WARNING,
        EventName.JOB_REQUEUED: logging.WARNING,
        EventName.JOB_LOST: logging.WARNING,
        EventName.STORAGE_UNAVAILABLE: logging.WARNING,
        EventName.QUEUE_UNAVAILABLE: logging.WARNING,
        EventName.DISK_FULL: logging.ERROR,
        EventName.STATE_REMOVED: logging.ERROR,
        EventName.ANNOUNCEMENT_FAILED: logging.WARNING,
        EventName.PUSH_LOST: logging.WARNING,
        EventName.REPORT_DELAYED: logging.WARNING,
        EventName.CALIBRATION_FAILED: logging.WARNING,
        EventName.DAEMON_RESTART_NEEDED: logging.WARNING,
        EventName.DAEMON_RELOAD_REFUSED: logging.ERROR,
        EventName.REPORT_PARKED: logging.ERROR,
        EventName.DEVICE_RESTED: logging.ERROR,
    }
)

_FIRST = ("timestamp", "level", "event", "device", "job", "attempt")
#: Libraries that talk about each of their own steps.
_CHATTY = ("apscheduler", "watchdog", "asyncio", "urllib3", "pymongo")
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}


class LogEvents:
    """The subscriber that logs events."""

    def __init__(self) -> None:
        self._gate = logging.getLogger("spooler.events")
        self._logger: structlog.stdlib.BoundLogger = structlog.get_logger("spooler.events")

    def __call__(self, observation: Observation) -> None:
        level = LEVELS.get(observation.name, logging.INFO)
        if not self._gate.isEnabledFor(level):
            return
        stamp = _stamp(observation.at)
        self._logger.log(
            level, observation.name.value, **{**observation.fields, "timestamp": stamp}
        )


def configure(
    level: str = "info",
    form: str = "auto",
    stream: TextIO | None = None,
    *,
    colours: bool = True,
    journal: bool = False,
) -> None:
    """Log from now on at `level`, in `form` (auto, console, json), to `stream` (default: stderr).

    Where `colours` is false there are none on a terminal either; for systemd's `journal` each line
    begins with its priority. May be called again at any time, from a reload for instance; it
    replaces what it set up.
    """
    stream = sys.stderr if stream is None else stream
    terminal = stream.isatty()
    console = form == "console" or (form == "auto" and terminal)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.MaybeTimeStamper(fmt="iso", utc=True),
    ]
    render: Processor = _Console(colours=terminal and colours) if console else _json(stream)
    handler = lines_to(stream)
    formatter = _ForTheJournal if journal else structlog.stdlib.ProcessorFormatter
    handler.setFormatter(
        formatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _in_order,
                render,
            ],
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _in_words],
        )
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    _install(handler, logging.getLevelNamesMapping()[level.upper()])


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether the stream leads to the journal, as systemd says in $JOURNAL_STREAM."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        facts = os.fstat(stream.fileno())
    except (OSError, ValueError):  # it has no descriptor, or is closed
        return False
    return (device, inode) == (str(facts.st_dev), str(facts.st_ino))


class _ForTheJournal(structlog.stdlib.ProcessorFormatter):
    """Lines with the priority of syslog(3) in front, which the journal reads and takes away."""

    def format(self, record: logging.LogRecord) -> str:
        names = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
        priority = next((number for level, number in names if record.levelno >= level), 7)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).split("\n"))


def _install(handler: logging.Handler, level: int) -> None:
    root = logging.getLogger()
    ours = [other for other in root.handlers if isinstance(other, Lines)]
    root.addHandler(handler)
    for other in ours:
        root.removeHandler(other)
        other.flush()
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _json(stream: TextIO) -> Processor:
    # What another encoding does not have would be escaped by Python's rules, and be no JSON.
    utf_8 = (stream.encoding or "").lower().replace("-", "") in {"utf8", ""}
    return structlog.processors.JSONRenderer(allow_nan=False, ensure_ascii=not utf_8)


def _in_words(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """A line of the logging module: its text becomes `message`, its event is `log`."""
    record = line.get("_record")
    line["message"] = line["event"]
    line["event"] = EventName.LOG.value
    if isinstance(record, logging.LogRecord):
        line["logger"] = record.name
    return line


def _in_order(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Return what is searched for comes first; numbers that JSON cannot represent become text."""
    ordered = {key: line[key] for key in _FIRST if key in line} | dict(line)
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in ordered.items()
    }


class _Console:
    """One line for people: time, level, event, device, job, then the other fields."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _: WrappedLogger, __: str, line: EventDict) -> str:
        fields = dict(line)
        stamp, level, event = (str(fields.pop(key, "")) for key in _FIRST[:3])
        exception = fields.pop("exception", "")
        message = fields.pop("message", "")
        logger = fields.pop("logger", "")
        said = f"{message} ({logger})" if message else event
        words = [_plain(said).ljust(18), *self._pairs(fields)]
        text = f"{stamp[:19]}Z {self._paint(level)} {' '.join(words).rstrip()}"
        return "\n".join([text, *map(_plain, str(exception).splitlines())])

    def _paint(self, level: str) -> str:
        name = f"{level:<7}"
        return f"\x1b[{_COLOURS.get(level, '0')}m{name}\x1b[0m" if self._colours else name

    def _pairs(self, fields: dict[str, Any]) -> Iterable[str]:
        for key, value in fields.items():
            text = f"{value:.3f}" if isinstance(value, float) else _plain(str(value))
            yield f'{key}="{text}"' if " " in text else f"{key}={text}"


def _plain(text: str) -> str:
    """`text` on one line, without characters that steer a terminal."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )
