"""The part of the report about the way of a job, in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from benchmarks.tables import NONE, table
from benchmarks.way import MOST_FILES, MOST_MOVES, OLD, Way

#: So many functions are named, those that cost the most moves on any storage.
_NAMED = 20


def way(found: Mapping[str, Way]) -> Iterator[str]:
    """All of it."""
    yield "## The way of a job"
    yield (
        "One signed no-op job on the thread of its device, from the worker's look at the queues "
        "to its return, with the handler in a process and the report delivered by that thread; in "
        "the middle of a queue, so that what is done once or now and then is left out. Files of "
        "the package that are entered, calls of functions of the package (a generator that goes on "
        "is one more, and so is a property), and moves between files: each call or return that "
        "changes the file of the innermost frame of the package. Exact, and the same on any "
        f"machine. The aim is at most {MOST_FILES} files and {MOST_MOVES} moves, on a folder and "
        "on MongoDB."
    )
    yield table(
        ("storage", "files", "calls", "moves", "on c8f6742: files", "calls", "moves"),
        (
            (name, *map(str, each.figures), *map(str, OLD.get(name, (NONE,) * 3)))
            for name, each in found.items()
        ),
    )
    yield (
        "c8f6742 is the code before the daemon and the seam were written anew, counted by this "
        "same measure. The count that set the aim, made by another tool, had 39 files, 271 calls "
        "and 360 moves there on a folder, 42, 383 and 298 on MongoDB."
    )
    yield "Calls / moves by file; a move is put down to the function that is called or left."
    yield _ranked(found, "file", lambda each: (each.files, each.moves_by_file))
    yield f"The same by function, for the {_NAMED} that cost the most moves on any storage."
    yield _ranked(found, "function", lambda each: (each.calls, each.moves), _NAMED)


def _ranked(
    found: Mapping[str, Way],
    what: str,
    of: Callable[[Way], tuple[Counter[str], Counter[str]]],
    most: int | None = None,
) -> str:
    pairs = [of(each) for each in found.values()]
    names = sorted(
        {name for calls, _ in pairs for name in calls},
        key=lambda name: (-max(moves[name] for _, moves in pairs), name),
    )
    return table(
        (what, *found),
        (
            (
                f"`{name}`",
                *(
                    f"{calls[name]} / {moves[name]}" if calls[name] else NONE
                    for calls, moves in pairs
                ),
            )
            for name in names[:most]
        ),
    )
