"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

#: What stands where there is no figure.
NONE = "-"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a head."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
