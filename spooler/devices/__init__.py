"""What runs jobs: handlers, and runners that can stop them.

A runner is opened with `open_runner(HandlerSpec(...))`. Nothing heavy is imported before that:
the child process of a handler passes through here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spooler.devices.spec import HandlerSpec
from spooler.errors import ConfigError

if TYPE_CHECKING:
    from spooler.devices.output import Listener
    from spooler.protocols import Runner


def open_runner(spec: HandlerSpec, listener: Listener | None = None) -> Runner:
    """Return a runner for `spec`; nothing is started before its `open()`.

    `listener` hears what the handler prints and logs, bounded in rate and size (process isolation
    only: a thread prints where the daemon prints); without one it goes to the daemon's log.
    Raises ConfigError when the spec contradicts itself.
    """
    if spec.isolation == "process":
        from spooler.devices.runners.process import ProcessRunner  # noqa: PLC0415 - not in the child

        return ProcessRunner(spec, listener)
    if spec.isolation == "thread":
        from spooler.devices.runners.thread import ThreadRunner  # noqa: PLC0415 - not in the child

        return ThreadRunner(spec)
    raise ConfigError(
        f"device {spec.device}: isolation is {spec.isolation!r}, it must be 'process' or 'thread'."
    )


__all__ = ["HandlerSpec", "open_runner"]
