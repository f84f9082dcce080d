"""Copies or moves a sqooler storage to another place: each document compared after its copy.

It may be killed at any moment and run again: it goes on where it stopped. What is at the target
already is compared, never overwritten. With `move`, a waiting job is first taken out of the
source's queue in one step, so that no daemon of the source runs it while one of the target does;
everything else is removed from the source at the end, each after another comparison.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from spooler.errors import ConfigError
from spooler.migrate.folder import FolderSide
from spooler.migrate.side import (
    CONFIGS,
    DELETED,
    FINISHED,
    NAMED,
    QUEUED,
    RUNNING,
    Side,
)
from spooler.signing.sqooler_form import payload_of
from spooler.storage.settings import (
    MemorySettings,
    SqliteSettings,
    SqoolerLocalSettings,
    SqoolerMongodbSettings,
    StorageSettings,
)
from spooler.storage.sqooler.client.core import NotADocument
from spooler.storage.sqooler.folder import opening as folder
from spooler.storage.sqooler.mongodb import opening as mongodb

#: Where it is tried whether the two ends are one.
_MARKS = "spooler/migrations"
_FINAL = {"DONE", "ERROR"}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one path is."""

    path: str
    done: int
    total: int


@dataclass(slots=True)
class Summary:
    """What a migration did. `refused` has a sentence for each document that stayed behind."""

    copied: int = 0
    present: int = 0
    removed: int = 0
    #: Jobs that somebody held at the source; they stay there.
    claimed: int = 0
    #: Set when nothing was done because of them.
    busy: bool = False
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: SHA-256 over place, name and content of all documents that are at the target now.
    digest: str = ""


class _Conflict(Exception):
    """The target has something else in the place of a document."""


def migrate(
    source: StorageSettings,
    target: StorageSettings,
    *,
    move: bool,
    force: bool,
    tell: Callable[[Progress], None],
) -> Summary:
    """Copy everything from `source` to `target`; with `move` remove it from the source.

    Does nothing while somebody holds jobs of the source, unless `force` is given; then those
    jobs stay where they are. Raises ConfigError, and BackendUnavailable when an end does not
    answer; run it again then.
    """
    here = open_side(source)
    try:
        there = open_side(target)
        try:
            return _Migration(here, there, tell).run(move=move, force=force)
        finally:
            there.close()
    finally:
        here.close()


def open_side(settings: StorageSettings) -> Side:
    """The storage as one end of a migration. Raises ConfigError where there is nothing to it."""
    match settings:
        case SqoolerLocalSettings():
            return FolderSide(folder.documents(settings))
        case SqoolerMongodbSettings():
            from spooler.migrate.mongodb import MongoSide  # noqa: PLC0415 - on demand

            return MongoSide(mongodb.documents(settings))
        case SqliteSettings():
            raise ConfigError(
                "jobs in a SQLite file are not in sqooler's format; `spooler migrate` moves "
                "between sqooler-local and sqooler-mongodb"
            )
        case MemorySettings():
            raise ConfigError("a storage in memory ends with its process; there is nothing in it")


class _Migration:
    def __init__(self, here: Side, there: Side, tell: Callable[[Progress], None]) -> None:
        self._here, self._there, self._tell = here, there, tell
        self._summary = Summary()
        self._sum = hashlib.sha256()

    def run(self, *, move: bool, force: bool) -> Summary:
        summary = self._summary
        self._demand_two()
        summary.claimed = self._here.claimed()
        if summary.claimed and not force:
            summary.busy = True
            return summary
        paths = self._here.paths()
        for path in paths:
            self._each(path, self._here.documents.ids(path), self._copy)
        for device in self._here.queues():
            self._waiting_jobs(device, move=move)
        if move:
            for path in reversed(paths):
                self._each(path, self._here.documents.ids(path), self._clear)
        summary.digest = self._sum.hexdigest()
        return summary

    def _demand_two(self) -> None:
        """One storage has many names: what is written at the target must not be at the source."""
        mark = uuid.uuid4().hex[:24]
        note = {"note": "a migration looks whether these are two places"}
        try:
            self._there.write(_MARKS, mark, note)
        except FileNotFoundError:
            raise ConfigError("the target cannot be created there; name another place") from None
        try:
            if self._here.documents.exists(_MARKS, mark):
                raise ConfigError("source and target are the same storage; name two")
        finally:
            self._there.documents.delete(_MARKS, mark)

    def _each(self, path: str, ids: list[str], step: Callable[[str, str], None]) -> None:
        for number, document_id in enumerate(ids, 1):
            self._attempt(path, document_id, step)
            self._tell(Progress(path, number, len(ids)))

    def _attempt(self, path: str, document_id: str, step: Callable[[str, str], None]) -> None:
        """One document; what cannot be done becomes a sentence, once."""
        try:
            step(path, document_id)
        except FileNotFoundError:
            return  # gone from the source meanwhile
        except FileExistsError:
            self._refuse(f"{path}/{document_id}: it is being written at the target; run this again")
        except (_Conflict, NotADocument, ValueError) as error:
            self._refuse(f"{path}/{document_id}: {error}")

    def _refuse(self, sentence: str) -> None:
        if sentence not in self._summary.refused:
            self._summary.refused.append(sentence)

    # --- documents -----------------------------------------------------------------------------

    def _copy(self, path: str, document_id: str) -> None:
        content = self._here.read(path, document_id)
        name = self._name_there(path, document_id, content)
        found = self._found(path, name)
        if found is None:
            self._put(path, name, content)
        elif self._same(path, content, found):
            self._summary.present += 1
        elif path == CONFIGS:
            self._keep(content)
            return
        else:
            raise _Conflict("the target has another document in its place; compare the two")
        self._note(path, name, content)

    def _put(self, path: str, name: str, content: dict[str, Any]) -> None:
        """Write one document and compare what can be read back."""
        self._there.write(path, name, content)
        if _text(self._there.read(path, name)) != _text(content):
            raise _Conflict("the target returned something else than was written; compare both")
        self._summary.copied += 1

    def _keep(self, content: dict[str, Any]) -> None:
        """A daemon at the target has announced the device there: its word is the newer one."""
        name = payload_of(content).get("display_name")
        note = f"the target has its own configuration of {name!r}, which stays"
        if note not in self._summary.notes:
            self._summary.notes.append(note)

    def _clear(self, path: str, document_id: str) -> None:
        """Remove a document from the source when the target has it."""
        content = self._here.read(path, document_id)
        found = self._found(path, self._name_there(path, document_id, content))
        if found is None:
            return  # it was refused, or it came after the copy
        if path == CONFIGS or self._same(path, content, found):
            self._here.documents.delete(path, document_id)
            self._summary.removed += 1

    def _name_there(self, path: str, document_id: str, content: dict[str, Any]) -> str:
        """Return the id at the target: its own for what is found by what it says."""
        if path not in NAMED:
            return document_id
        about = payload_of(content).get(NAMED[path])
        if not isinstance(about, str):
            raise _Conflict(f"it has no {NAMED[path]}; complete or remove it")
        try:
            return self._there.documents.find(path, NAMED[path], about)
        except FileNotFoundError:
            return self._there.documents.id_for(about)

    def _found(self, path: str, name: str) -> dict[str, Any] | None:
        try:
            return self._there.read(path, name)
        except FileNotFoundError:
            return None

    def _same(self, path: str, content: dict[str, Any], found: dict[str, Any]) -> bool:
        """Return whether the target has it; a job's status may have gone on there."""
        if _text(content) == _text(found):
            return True
        ended = payload_of(found).get("status") in _FINAL
        return (
            path.startswith("status/") and ended and payload_of(content).get("status") not in _FINAL
        )

    def _note(self, path: str, name: str, content: dict[str, Any]) -> None:
        about = payload_of(content).get(NAMED[path]) if path in NAMED else name
        self._sum.update(f"{path} {about} {_digest(content)}\n".encode())

    # --- waiting jobs --------------------------------------------------------------------------

    def _waiting_jobs(self, device: str, *, move: bool) -> None:
        """The waiting jobs of one device, the oldest first."""
        path = f"{QUEUED}/{device}"

        def hand_over(_: str, job_id: str) -> None:
            self._copy_job(device, job_id)
            self._here.put_away(device, job_id)
            self._summary.removed += 1

        def take(_: str, job_id: str) -> None:
            content = self._here.body(device, job_id)
            self._there.demand_storable(path, job_id, content)
            self._known_there(device, job_id, content)
            if self._here.take_out(device, job_id):
                hand_over(path, job_id)

        def copy(_: str, job_id: str) -> None:
            self._copy_job(device, job_id)

        # First what an earlier run had in hand when it ended: those jobs were the oldest.
        self._each(path, self._here.in_hand(device), hand_over)
        self._each(path, self._here.waiting(device), take if move else copy)

    def _copy_job(self, device: str, job_id: str) -> None:
        content = self._here.body(device, job_id)
        if self._known_there(device, job_id, content):
            self._summary.present += 1
        else:
            self._there.demand_storable(f"{QUEUED}/{device}", job_id, content)
            self._there.queue(device, job_id, content, self._here.past(device, job_id))
            # A daemon of the target may have it already, and have moved it on.
            if not self._known_there(device, job_id, content):
                raise _Conflict("it is missing at the target after it was written; compare both")
            self._summary.copied += 1
        self._note(f"{QUEUED}/{device}", job_id, content)

    def _known_there(self, device: str, job_id: str, content: dict[str, Any]) -> bool:
        """Return whether the target has the job, waiting or further on: it must not run twice."""
        for path in (f"{QUEUED}/{device}", RUNNING, f"{FINISHED}/{device}", DELETED):
            found = self._found(path, job_id)
            if found is not None and _text(found) != _text(content):
                raise _Conflict(f"the target has another job of this id in {path}; compare them")
            if found is not None:
                return True
        return False


def _text(content: dict[str, Any]) -> str:
    """Return what two copies must have in common, the order of the keys included."""
    return json.dumps(content)


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(_text(content).encode()).hexdigest()
