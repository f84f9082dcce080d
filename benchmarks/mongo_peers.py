"""Who is measured on a MongoDB server, and the command lines that start them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.mongo_place import MongoPlace
from benchmarks.peers import Command, command
from benchmarks.place import DEVICE

#: Handlers that keep a book of their runs.
_BOOKKEEPER = "benchmarks.book:Bookkeeper"


@dataclass(frozen=True, slots=True)
class MongoPeer:
    """One way to work through a queue on a server. `how` is for run_bare, see there."""

    name: str
    label: str
    program: Literal["spooler", "sqooler", "bare"]
    isolation: str = "process"
    how: str = ""

    @property
    def moves(self) -> bool:
        """Whether a job that is done has left the queue."""
        return self.how in {"", "storage"}

    def drain(self, place: MongoPlace, jobs: int) -> Command:
        """Work through the queue and end; sqooler, that does not end, does `jobs` turns."""
        if self.program == "spooler":
            file = place.settings(isolation=self.isolation)
            return _spooler(place, file, "--once")
        if self.program == "sqooler":
            return _sqooler(place, jobs, pause="0")
        return command(place, "-m", "benchmarks.run_bare", place.uri, self.how)

    def serve(self, place: MongoPlace, announce_interval: float) -> Command:
        """Work until stopped, as it comes out of the box."""
        if self.program == "spooler":
            return _spooler(place, place.settings(announce_interval=announce_interval))
        return _sqooler(place, 0, pause=None)


def daemon(place: MongoPlace, name: str, book: Path) -> Command:
    """One of several daemons on one queue, which keeps a book of what it runs."""
    return _spooler(place, place.settings(name=name, handler=_BOOKKEEPER, book=book))


def _spooler(place: MongoPlace, file: Path, *more: str) -> Command:
    return command(place, "-m", "spooler", "run", "--config", str(file), *more, key=False)


def _sqooler(place: MongoPlace, turns: int, pause: str | None) -> Command:
    words = ("-m", "benchmarks.run_sqooler", place.uri, DEVICE, str(turns))
    return command(place, *words, pause=pause)


SPOOLER = MongoPeer("spooler", "spooler", "spooler")
THREAD = MongoPeer("thread", "spooler, thread", "spooler", isolation="thread")
SQOOLER = MongoPeer("sqooler", "sqooler 0.9.0, T_WAIT_MAIN=0", "sqooler")
BARE = MongoPeer("bare", "bare loop, claims by id", "bare", how="by-id")
SEARCHING = MongoPeer("searching", "bare loop, claims whichever is free", "bare", how="searching")
STORAGE = MongoPeer("storage", "spooler's storage without its daemon", "bare", how="storage")
ALL = (SPOOLER, THREAD, SQOOLER, BARE, SEARCHING, STORAGE)
