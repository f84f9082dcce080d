"""Shots as bars of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

_BLOCKS = " ▏▎▍▌▋▊▉"


def counted(shots: Iterable[str]) -> list[tuple[str, int]]:
    """Return how often each outcome came, in numerical order."""
    return sorted(Counter(shots).items(), key=lambda pair: _order(pair[0]))


def _order(outcome: str) -> tuple[int, list[float], str]:
    """Numbers first, by value; other texts after them."""
    try:
        return 0, [float(word) for word in outcome.split()], outcome
    except ValueError:
        return 1, [], outcome


def bars(
    counts: list[tuple[str, int]], *, width: int = 50, most: int = 40, blocks: bool = True
) -> Iterator[str]:
    """One line for each outcome: name, share of the largest as a bar, count.

    With more than `most` outcomes the most frequent ones are shown.
    """
    kept = counts
    if len(counts) > most:
        floor = sorted((count for _, count in counts), reverse=True)[most - 1]
        kept = [pair for pair in counts if pair[1] >= floor][:most]
    label = max((len(name) for name, _ in kept), default=0)
    largest = max((count for _, count in kept), default=1)
    for name, count in kept:
        yield f"{name:>{label}} {bar(count / largest, width, blocks=blocks)} {count}"
    if len(kept) < len(counts):
        yield f"... and {len(counts) - len(kept)} less frequent outcomes"


def bar(share: float, width: int, *, blocks: bool = True) -> str:
    """Return a bar `width` characters wide of which `share` (0 to 1) is filled."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    if not blocks:
        return ("#" * round(eighths / 8)).ljust(width)
    part = _BLOCKS[eighths % 8] if eighths % 8 else ""
    return ("█" * (eighths // 8) + part).ljust(width)


def mean(shots: list[str]) -> float | None:
    """Return the mean of outcomes that are single numbers; None where they are not."""
    try:
        return sum(map(float, shots)) / len(shots) if shots else None
    except ValueError:
        return None
