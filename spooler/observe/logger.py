"""The loggers of this package: structlog in front, the standard library's handlers behind.

A line in words has an event text and fields. It comes out as the event `log` (see
`spooler.observe.log`) once a daemon has configured logging. Until then whoever runs the program
decides: a command says nothing, and in a notebook the standard library's rules hold.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger


class _OnDemand:
    """Makes the logger when the first line is logged: `spooler --help` does not load structlog."""

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def _logger(self) -> BoundLogger:
        import structlog  # noqa: PLC0415 - only when something is logged

        # The processors are named here because structlog's own defaults print to stdout.
        logger: BoundLogger = structlog.wrap_logger(
            logging.getLogger(self._name),
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.stdlib.PositionalArgumentsFormatter(),
                structlog.stdlib.render_to_log_kwargs,
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
        )
        return logger

    def __getattr__(self, method: str) -> Any:
        return getattr(self._logger, method)


def get_logger(name: str) -> BoundLogger:
    """Return the structlog logger with this dotted name.

    Fields become attributes of a `logging.LogRecord`, so none may have the name of one (`name`,
    `message`, `args`, ...). A program with another format of lines shows the text alone, so what
    its reader needs is woven in: `warning("the job %s waits", job_id)`.
    """
    return cast("BoundLogger", _OnDemand(name))


def keep_quiet() -> None:
    """Let no line reach the terminal until logging is configured: a command uses its own words."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())


def leave_out(name: str, text: str) -> None:
    """Drop the lines of the library logger `name` that contain `text`."""
    logging.getLogger(name).addFilter(lambda record: text not in record.getMessage())
