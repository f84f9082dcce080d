"""The composition root: settings in, running daemon out.

`run_daemon` serves, `check` asks whether it would, `open_submitter` opens the storage for those
who submit. `parts` makes the parts, `daemon` wires them.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable
from contextlib import suppress

from spooler.app.checkup import CheckItem, check
from spooler.app.daemon import Daemon, RunOptions
from spooler.app.dry_run import dry_run
from spooler.app.parts import load_signer, open_submitter
from spooler.daemon.supervisor import NOT_DELIVERED
from spooler.errors import ConfigError
from spooler.observe.board import Board
from spooler.observe.events import EventName, Observer
from spooler.observe.log import LogEvents
from spooler.observe.notify import ServiceManager
from spooler.settings import Settings

_PR_SET_DUMPABLE = 4


def run_daemon(settings: Settings, options: RunOptions, *, reload: Callable[[], Settings]) -> int:
    """Serve until stopped; the exit code. Raises ConfigError before the first claim."""
    if not settings.enabled_devices():
        raise ConfigError("no device is enabled; add a table [devices.NAME] with a handler")
    if options.dry_run:
        return dry_run(settings, options)
    board = Board()
    service = ServiceManager.of(os.environ)
    observer = Observer(LogEvents(), board)
    daemon = Daemon(settings, options, observer, board)

    def again() -> None:
        service.reloading()
        try:
            later = daemon.apply(reload())
        except ConfigError as error:
            observer.emit(EventName.DAEMON_RELOAD_REFUSED, error=str(error))
            service.ready()
            return
        observer.emit(EventName.DAEMON_RELOADED)
        if later:
            observer.emit(EventName.DAEMON_RESTART_NEEDED, reason=", ".join(later))
        service.ready()

    _keep_out_of_dumps()
    gc.collect()
    gc.freeze()  # what was imported stays: no need to look through it again and again
    code = daemon.serve(service, again)
    left, queued = daemon.undelivered, daemon.left
    over = not (left or queued or daemon.unanswered)
    if not code and not over and (options.once or options.max_jobs is not None):
        code = NOT_DELIVERED  # who asked for an end of the work must not take this for one
    observer.emit(EventName.DAEMON_STOPPED, code=code, waiting=left or None, queued=queued or None)
    return code


def _keep_out_of_dumps() -> None:
    """Keep the key to this process: no core dump, no look at its memory or environment.

    Its children, the handlers, run as the same user; only root may look at us from now on.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)


__all__ = [
    "CheckItem",
    "Daemon",
    "RunOptions",
    "check",
    "dry_run",
    "load_signer",
    "open_submitter",
    "run_daemon",
]
