"""What runs jobs: handlers, and runners that can stop them.

A runner is opened with `open_runner(HandlerSpec(...))`. Nothing heavy is imported before that:
the child process of a handler passes through here too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from spooler.devices.spec import HandlerSpec
from spooler.errors import ConfigError

if TYPE_CHECKING:
    from spooler.protocols import Runner


def open_runner(spec: HandlerSpec, on_output: Callable[[str], None] | None = None) -> Runner:
    """A runner for `spec`; nothing is started before its `open()`.

    `on_output` gets what the handler prints, line by line and bounded in rate and size (process
    isolation only: a thread prints where the daemon prints); None sends the lines to the logger
    `spooler.devices.<device>`. Raises ConfigError when the spec contradicts itself.
    """
    if spec.isolation == "process":
        from spooler.devices.runners.process import ProcessRunner  # noqa: PLC0415 - not in the child

        return ProcessRunner(spec, on_output)
    if spec.isolation == "thread":
        from spooler.devices.runners.thread import ThreadRunner  # noqa: PLC0415 - not in the child

        return ThreadRunner(spec)
    raise ConfigError(
        f"device {spec.device}: isolation is {spec.isolation!r}, it must be 'process' or 'thread'."
    )


__all__ = ["HandlerSpec", "open_runner"]
