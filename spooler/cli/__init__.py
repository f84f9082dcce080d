"""The command line: one command, one file. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from spooler.cli import exits, output
from spooler.errors import Bug, SpoolerError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; what goes wrong becomes one sentence."""
    _hold_the_standard_streams()
    try:
        from spooler.cli.commands import app

        words = sys.argv[1:] if arguments is None else list(arguments)
        # Not standalone: typer would print the words of its errors as they are.
        answer = app(args=words, prog_name="spooler", standalone_mode=False)
    except SystemExit as ended:
        return _code(ended)
    except KeyboardInterrupt:
        return exits.Exit.INTERRUPTED
    except (BrokenPipeError, output.ReaderGone):
        return _hang_up()
    except Exception as error:  # noqa: BLE001 - the last place where a bug can become a sentence
        return _sentence(error)
    return answer if isinstance(answer, int) else exits.Exit.OK


def _hold_the_standard_streams() -> None:
    """Open what is closed of 0, 1 and 2, as `>&-` does, to nowhere.

    The next file that is opened would get the number: one of ours, and somebody's words in it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _sentence(error: Exception) -> int:
    if callable(show := getattr(error, "show", None)):  # a usage error of typer
        told = io.StringIO()
        show(file=told)
        _say(told.getvalue().rstrip("\n"))
        return int(getattr(error, "exit_code", exits.Exit.USAGE))
    if isinstance(error, FileNotFoundError) and _nowhere():
        _say("spooler: the folder that this runs in has been removed; change to another one")
        return exits.Exit.CONFIG
    if not isinstance(error, SpoolerError) or isinstance(error, Bug):
        return _internal(error)
    _say(f"spooler: {error}")
    return exits.of(error)


def _nowhere() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _code(ended: SystemExit) -> int:
    if ended.code is None:
        return exits.Exit.OK
    if isinstance(ended.code, int):
        return ended.code
    _say(str(ended.code))
    return exits.Exit.NO


def _say(text: str) -> None:
    try:
        print(output.harmless(text), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return  # nobody listens any more


def _hang_up() -> int:
    """The reader of our output has gone, as in `spooler result ... | head`: nothing to say."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # so that Python's last flush does not complain either
    return exits.Exit.OK


def _internal(error: Exception) -> int:
    details = "".join(traceback.format_exception(error))
    try:
        handle, name = tempfile.mkstemp(prefix="spooler-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(details)
        where = f"the details are in {Path(name)}"
    except OSError:
        where = "the details could not be written to a file"
    _say(f"spooler: internal error ({type(error).__name__}); please report it, {where}")
    return exits.Exit.INTERNAL
