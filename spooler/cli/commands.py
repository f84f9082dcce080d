"""The list of commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from spooler import __version__
from spooler.cli import exits, output
from spooler.cli.demo import journey
from spooler.cli.jobs import cancel, devices, resubmit, result, status, submit, verify
from spooler.cli.lab import (
    audit,
    check,
    config,
    init,
    keys,
    migrate,
    new_device,
    outbox,
    run,
    trial,
)
from spooler.docs import restore
from spooler.observe.logger import keep_quiet

_HELP = """\
Runs the jobs of a lab instrument from the queue the collaboration already has, signs the
results, and never loses one.

Try it first: spooler demo
"""
# \b keeps the lines as they are.
_EPILOG = f"\b\nExit codes:\n{exits.table()}"

app = typer.Typer(
    help=_HELP,
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(*, wanted: bool) -> None:
    if wanted:
        output.say(f"spooler {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version
    # What is logged belongs to `spooler run`; other commands answer in their own words.
    keep_quiet()


_COMMANDS: dict[str, Callable[..., None]] = {
    "init": init.init,
    "run": run.run,
    "check": check.check,
    "demo": journey.demo,
    "try": trial.trial,
    "submit": submit.submit,
    "status": status.status,
    "result": result.result,
    "verify": verify.verify,
    "cancel": cancel.cancel,
    "resubmit": resubmit.resubmit,
    "devices": devices.devices,
    "new-device": new_device.new_device,
    "migrate": migrate.migrate,
}
for _name, _command in _COMMANDS.items():
    restore(_command)
    app.command(_name)(_command)
for _group in (keys.app, config.app, outbox.app, audit.app):
    restore(*(each.callback for each in _group.registered_commands))
app.add_typer(keys.app, name="keys")
app.add_typer(config.app, name="config")
app.add_typer(outbox.app, name="outbox")
app.add_typer(audit.app, name="audit")
