"""`spooler new-device`: a handler to start from."""

from __future__ import annotations

import keyword
import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from spooler.cli import exits, output


def new_device(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The device's name: small letters and digits.")
    ],
    *,
    folder: Annotated[
        Path, typer.Option("--folder", metavar="DIR", help="Where to write it.")
    ] = Path(),
) -> None:
    """Write NAME.py, a device handler to start from.

    A file that is there is never overwritten.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*", name) or keyword.iskeyword(name):
        raise typer.BadParameter(
            f"{name!r} is not a valid device name; use small letters and digits, a letter first"
        )
    if name in sys.stdlib_module_names:
        raise typer.BadParameter(
            f"{name}.py would not be found: Python itself has a module {name}; choose another name"
        )
    from spooler.devices.template import handler_template
    from spooler.durable import Disk

    file = folder / f"{name}.py"
    content = handler_template(name).encode("utf-8")
    try:
        Disk().publish_new(file, content, mark=str(os.getpid()))
    except FileExistsError:
        output.note(f"spooler: {file} already exists and was not changed; choose another name")
        raise typer.Exit(exits.Exit.NOT_WRITTEN) from None
    except OSError as error:
        output.note(f"spooler: {file} cannot be written: {error.strerror}")
        raise typer.Exit(exits.Exit.NOT_WRITTEN) from None
    output.say(str(file))
    output.note(
        f'add to your settings:\n\n[devices.{name}]\nhandler = "{name}:{_class(content)}"\n\n'
        "and keep the file beside them; then: spooler check"
    )


def _class(content: bytes) -> str:
    """Return the name of the handler's class in the template."""
    found = re.findall(rb"^class (\w+)", content, re.MULTILINE)
    return found[-1].decode("ascii") if found else "Handler"
