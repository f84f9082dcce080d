"""`spooler run`: the daemon."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from spooler.cli import options, output

if TYPE_CHECKING:
    from spooler.settings import Settings


def run(
    *,
    config: options.Config = None,
    once: Annotated[
        bool,
        typer.Option(
            "--once",
            help="Drain the queue, then exit (75 if jobs remain, or may).",
            show_default=False,
        ),
    ] = False,
    max_jobs: Annotated[
        int | None, typer.Option("--max-jobs", metavar="N", min=1, help="Stop after N jobs.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show what would be done and written; change nothing, touch no hardware.",
            show_default=False,
        ),
    ] = False,
) -> None:
    """Serve the devices of the settings until stopped.

    SIGTERM or Ctrl-C: finish or give back what runs, within [daemon] grace. SIGHUP: read the
    settings again.
    """
    from spooler.app import RunOptions, run_daemon
    from spooler.observe import log
    from spooler.settings import find, load

    # A later reload reads the same file, whatever the working folder is by then.
    file = (config or find(os.environ)).absolute()

    colours = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    journal = log.is_journal(sys.stderr, os.environ)

    def read() -> Settings:
        settings = load(file, os.environ)
        log.configure(settings.log.level, settings.log.format, colours=colours, journal=journal)
        return settings

    chosen = RunOptions(once=once, max_jobs=max_jobs, dry_run=dry_run)
    with output.answering() if dry_run else nullcontext():
        code = run_daemon(read(), chosen, reload=read)
    raise typer.Exit(code)
