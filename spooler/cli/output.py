"""What goes to the terminal: results to stdout, everything else to stderr.

Text that comes from a storage or a handler is never trusted to steer the terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from spooler.errors import SpoolerError

if TYPE_CHECKING:
    from rich.console import Console


#: Columns of the terminal that the last column of a table gets at least.
_LEAST = 20


class ReaderGone(Exception):
    """Who read our output has gone, as in `spooler result ... | head`.

    Not an OSError: typer would end a command with exit code 1 for one, which says "no" here.
    """


class OutputLost(SpoolerError):
    """The answer could not be written where stdout leads (exit 73)."""


def plain(text: str) -> str:
    """`text` without characters that steer a terminal; line ends become blanks."""
    return "".join(char if char.isprintable() else " " for char in text)


def harmless(text: str) -> str:
    """`text` with escapes for what steers a terminal, its line ends apart."""
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable() or char == "\n"
        else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def say(text: str = "") -> None:
    """One line of the answer, or several, to stdout."""
    _print(harmless(text))


def _print(text: str) -> None:
    with answering():
        print(_writable(text), flush=True)


def _writable(text: str) -> str:
    """`text` with escapes for what the encoding of stdout does not have."""
    return text.encode(_encoding(), "backslashreplace").decode(_encoding())


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


@contextmanager
def answering() -> Iterator[None]:
    """Around what writes to stdout; an error about a file is another matter."""
    try:
        yield
    except BrokenPipeError:
        raise ReaderGone from None
    except OSError as error:
        if error.filename is not None:
            raise
        _let_go_of_stdout()
        raise OutputLost(
            f"the answer cannot be written: {error.strerror}; make room, or send it elsewhere"
        ) from None


def _let_go_of_stdout() -> None:
    """What Python still holds back cannot be written at the end either, and it would say so."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def note(text: str) -> None:
    """Print one line to stderr; a closed stderr is ignored."""
    with suppress(OSError):
        print(harmless(text), file=sys.stderr, flush=True)


def as_json(value: Any) -> None:
    """The answer for programs, to stdout."""
    _print(json_text(value))


def json_text(value: Any) -> str:
    """`value` as JSON that any terminal and any reader can take."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_jsonable)
    if _writable(text) != text:  # JSON has escapes of its own, the same everywhere
        text = json.dumps(value, indent=2, allow_nan=False, default=_jsonable)
    return "".join(
        char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text
    )


def _jsonable(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


#: Seconds that the clocks of two machines may differ without a word.
CLOCKS_DIFFER = 60.0


def age(seen: datetime | None, now: datetime) -> str:
    """Return how long ago `seen` was, as a person says it."""
    if seen is None:
        return "never"
    past = (now - seen).total_seconds()
    if past < -CLOCKS_DIFFER:
        return "in the future"
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if past >= 2 * length:
            return f"{past / length:.0f} {unit} ago"
    return f"{max(past, 0):.0f} s ago"


def rows(head: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """A table to stdout: only its last column is ever wrapped, so that names can be copied."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    cells = [[plain(cell) for cell in line] for line in lines]
    for title in head:
        table.add_column(title, overflow="fold", no_wrap=title != head[-1])
    for line in cells:
        table.add_row(*map(Text, line))
    screen = console()
    taken = sum(max(map(len, column)) + 1 for column in zip(head, *cells, strict=True))
    least = taken - max(map(len, (line[-1] for line in [head, *cells]))) + _LEAST
    screen.width = max(screen.width, least) if screen.is_terminal else 1000
    with answering(), screen.capture() as captured:  # rich writes something even then
        screen.print(table)
    _print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def console(*, stderr: bool = False) -> Console:
    """Return a rich console that takes texts as they are."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


class Ticker(Protocol):
    """Shows what a long piece of work is at."""

    def __call__(self, text: str) -> None:
        """Show `text` from now on."""


@contextmanager
def ticking(text: str) -> Iterator[Ticker]:
    """Show a spinner on stderr during a long step; or plain lines if stderr is not a terminal."""
    from rich.text import Text

    screen = console(stderr=True)
    text = plain(text)
    if not screen.is_terminal:
        shown = [text]
        note(text)

        def tell(text: str) -> None:
            if text != shown[0]:
                shown[0] = text
                note(plain(text))

        yield tell
        return
    with screen.status(Text(text)) as status:

        def show(text: str) -> None:
            status.update(Text(plain(text)))

        yield show
