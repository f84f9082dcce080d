"""What goes to the terminal: results to stdout, everything else to stderr.

Text that comes from a storage or a handler is never trusted to steer the terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console


def plain(text: str) -> str:
    """`text` without characters that steer a terminal; line ends become blanks."""
    return "".join(char if char.isprintable() else " " for char in text)


def say(text: str = "") -> None:
    """One line of the answer, to stdout."""
    print(text, flush=True)


def note(text: str) -> None:
    """One line beside the answer, to stderr."""
    print(text, file=sys.stderr, flush=True)


def as_json(value: Any) -> None:
    """The answer for programs, to stdout."""
    say(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_jsonable))


def _jsonable(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


def rows(head: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """A table to stdout; wide cells are kept whole when the output is not a terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in head:
        table.add_column(title, overflow="fold")
    for line in lines:
        table.add_row(*(Text(plain(cell)) for cell in line))
    screen = console()
    if not screen.is_terminal:
        screen.width = 1000
        table.box = None
    with screen.capture() as captured:
        screen.print(table)
    say("\n".join(line.rstrip() for line in captured.get().splitlines()))


def console(*, stderr: bool = False) -> Console:
    """A rich console that takes texts as they are."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


class Ticker(Protocol):
    """Shows what a long piece of work is at."""

    def __call__(self, text: str) -> None:
        """Show `text` from now on."""


@contextmanager
def ticking(text: str) -> Iterator[Ticker]:
    """A spinner on stderr while something takes long; lines where stderr is no terminal."""
    from rich.text import Text

    screen = console(stderr=True)
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
