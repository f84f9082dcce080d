"""Who is measured, and the command lines that start them: each peer is a process of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.place import DEVICE, Place, Workplace
from benchmarks.sqlite_place import SqlitePlace

#: Peers find this package by their working folder.
ROOT = Path(__file__).resolve().parents[1]
DEFAULT_ANNOUNCE = 60.0


@dataclass(frozen=True, slots=True)
class Command:
    """What to start, and in which environment."""

    words: tuple[str, ...]
    environ: dict[str, str]


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to work through the queue of a folder."""

    name: str
    label: str
    program: Literal["spooler", "sqooler", "reference"]
    fsync: bool = False
    signed: bool = True
    isolation: str = "process"
    least: bool = False
    place: Callable[[Path], Place | SqlitePlace] = Place

    def drain(self, place: Place | SqlitePlace, jobs: int) -> Command:
        """Work through the queue and end; sqooler, that does not end, does `jobs` turns."""
        if self.program == "spooler":
            return self._spooler(place, DEFAULT_ANNOUNCE, "--once")
        if self.program == "sqooler":
            return self._sqooler(place, jobs, pause="0")
        self._keep_state(place)
        words = ["-m", "benchmarks.run_reference", str(place.folder), str(place.state)]
        words += ["--fsync"] * self.fsync + ["--signed"] * self.signed + ["--least"] * self.least
        return command(place, *words)

    def serve(
        self, place: Place | SqlitePlace, announce_interval: float = DEFAULT_ANNOUNCE
    ) -> Command:
        """Work until stopped, as it comes out of the box."""
        if self.program == "spooler":
            return self._spooler(place, announce_interval)
        return self._sqooler(place, 0, pause=None)

    def _keep_state(self, place: Workplace) -> None:
        """Without fsync, have what the daemon syncs all the same where that costs nothing."""
        if not self.fsync:
            place.keep_state_in_memory()

    def _spooler(self, place: Place | SqlitePlace, announce_interval: float, *more: str) -> Command:
        self._keep_state(place)
        file = place.settings(
            isolation=self.isolation, fsync=self.fsync, announce_interval=announce_interval
        )
        return command(place, "-m", "spooler", "run", "--config", str(file), *more, key=False)

    def _sqooler(self, place: Workplace, turns: int, pause: str | None) -> Command:
        words = ("-m", "benchmarks.run_sqooler", f"{place.folder}/storage", DEVICE, str(turns))
        return command(place, *words, pause=pause)


def command(place: Workplace, *words: str, key: bool = True, pause: str | None = None) -> Command:
    """A run of this Python that knows nothing of the settings in our own environment."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SPOOLER") and name not in {"PRIVATE_JWK_STR", "T_WAIT_MAIN"}
    }
    if key:
        environ["PRIVATE_JWK_STR"] = place.private_jwk
    if pause is not None:
        environ["T_WAIT_MAIN"] = pause
    return Command((sys.executable, *words), environ)


SPOOLER = Peer("spooler", "spooler, fsync off", "spooler")
SPOOLER_DURABLE = Peer("spooler-fsync", "spooler, fsync on", "spooler", fsync=True)
THREAD = Peer("thread", "spooler, thread, fsync off", "spooler", isolation="thread")
THREAD_DURABLE = Peer(
    "thread-fsync", "spooler, thread, fsync on", "spooler", isolation="thread", fsync=True
)
SQOOLER = Peer("sqooler", "sqooler 0.9.0, T_WAIT_MAIN=0", "sqooler")
REFERENCE = Peer("reference", "reference, fsync off", "reference")
REFERENCE_DURABLE = Peer("reference-fsync", "reference, fsync on", "reference", fsync=True)
PLAIN = Peer("plain", "reference, no signatures, fsync off", "reference", signed=False)
PLAIN_DURABLE = Peer(
    "plain-fsync", "reference, no signatures, fsync on", "reference", signed=False, fsync=True
)
SQLITE = Peer("sqlite", "spooler on SQLite, fsync off", "spooler", place=SqlitePlace)
SQLITE_DURABLE = Peer(
    "sqlite-fsync", "spooler on SQLite, fsync on", "spooler", fsync=True, place=SqlitePlace
)
LEAST = Peer("least", "the least, signed, fsync off", "reference", least=True)
ALL = (
    SPOOLER,
    THREAD,
    SQOOLER,
    REFERENCE,
    PLAIN,
    LEAST,
    SQLITE,
    SPOOLER_DURABLE,
    THREAD_DURABLE,
    REFERENCE_DURABLE,
    PLAIN_DURABLE,
    SQLITE_DURABLE,
)
