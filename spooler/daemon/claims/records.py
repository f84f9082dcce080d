"""What this process has written down about its claims in one storage, one file for each.

The file is written whole and durable, and says how far the claim is: `held` (where the storage
forgets who holds what), `report` (signed, on its way to the storage), `parked` (the storage will
never take it). It is named after the claim's token; a job's id never names a file.

The folder is this process's estate: whoever can lock it knows that the process is dead.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from pydantic_core import to_json

from spooler import forks
from spooler.durable import Disk, exists, read, unavailable
from spooler.errors import BackendUnavailable, Scope
from spooler.model.claim import Attempt, Claim
from spooler.model.job import Limits
from spooler.model.records import (
    claim_from_json,
    claim_to_json,
    report_from_json,
    report_to_json,
)
from spooler.model.result import SignedReport

#: Results that wait are for the user that runs the daemon and its group.
FILE_MODE, FOLDER_MODE = 0o600, 0o700
#: Where the reports lie that no storage will take, beside the estates.
PARKED = "parked"
_LOCK = "lock"
#: Bytes that a record may have: a report is bounded by the device's `max_output`.
_LARGEST = 2**31


class RecordsUnavailable(BackendUnavailable):
    """Our own disk does not take a record, or does not give one back: no trouble of a storage."""

    def __init__(self, why: str) -> None:
        super().__init__(why, scope=Scope.JOB)


class Phase(StrEnum):
    """How far the claim of a record is."""

    HELD = "held"
    REPORT = "report"
    PARKED = "parked"


@dataclass(frozen=True)
class Record:
    """One claim, and its report when there is one. `reason` says why that waits or was parked."""

    claim: Claim
    device: str
    phase: Phase = Phase.HELD
    signed: SignedReport | None = None
    reason: str = ""
    #: Whether the report stands in for one that the storage has refused.
    substitute: bool = False
    #: Whether the submitter is answered by such a substitute; the report itself is only kept.
    answered: bool = False

    @property
    def token(self) -> str:
        """Return what the record is named after."""
        return self.claim.lease.token

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of what is signed, as the storage gets it: the JWS, or else the JSON."""
        if self.signed is None:
            return ""
        text = self.signed.jws.encode() or report_to_json(self.signed.report)
        return hashlib.sha256(text).hexdigest()


#: Returns the report in a compact JWS ("" where there is none) and in plain JSON beside it; raises
#: ValueError when that is not to be trusted.
Opened: TypeAlias = Callable[[str, str], bytes]


def record_to_json(record: Record) -> bytes:
    """Return the content of a record's file."""
    content: dict[str, Any] = {
        "phase": record.phase,
        "device": record.device,
        "claim": claim_to_json(record.claim),
        "reason": record.reason,
        "substitute": record.substitute,
        "answered": record.answered,
    }
    if record.phase is Phase.HELD:
        content["held"] = _held_to_json(record.claim)
    if record.signed is not None:
        content["jws"] = record.signed.jws
        if not record.signed.jws:
            content["report"] = report_to_json(record.signed.report).decode()
    return to_json(content)


def _held_to_json(claim: Claim) -> dict[str, Any]:
    """Return what a job needs to go back to its queue, or to be judged, and a report does not."""
    limits = claim.job.limits
    return {
        "payload": claim.job.payload,
        "timeout": limits.timeout,
        "attempts": limits.attempts,
        "history": [
            [each.number, each.owner, each.at.isoformat(), each.ended, each.started]
            for each in claim.history
        ],
    }


def _held_from_json(claim: Claim, said: dict[str, Any]) -> Claim:
    limits = Limits(said["timeout"], said["attempts"])
    history = tuple(
        Attempt(number, owner, datetime.fromisoformat(at), ended, started)
        for number, owner, at, ended, started in said["history"]
    )
    job = replace(claim.job, payload=said["payload"], limits=limits)
    return replace(claim, job=job, history=history)


def record_from_json(content: bytes, opened: Opened) -> Record:
    """The record in a file; ValueError when it is none, or not one that `opened` vouches for."""
    try:
        said = json.loads(content)
        claim = claim_from_json(said["claim"])
        phase, signed = Phase(said["phase"]), None
        if phase is Phase.HELD:
            claim = _held_from_json(claim, said["held"])
        else:
            jws = str(said["jws"])
            report = report_from_json(opened(jws, str(said.get("report", ""))))
            if (report.job_id, report.queue) != (claim.job.id, claim.job.queue):
                raise ValueError("its report is about another job")
            signed = SignedReport(report, jws)
        return Record(
            claim,
            str(said["device"]),
            phase,
            signed,
            str(said["reason"]),
            substitute=bool(said["substitute"]),
            answered=bool(said["answered"]),
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a record of spooler: {error}") from error


class Records:
    """The records of one process about one storage, on disk and in memory. For any thread."""

    def __init__(self, folder: Path, *, disk: Disk | None = None) -> None:
        """`folder` is `<state>/records/<process>/<storage>`."""
        self.folder = folder
        self._parked = folder.parent.parent / PARKED / folder.name
        self._disk = disk or Disk()
        self._guard = threading.Lock()
        self._records: dict[str, Record] = {}
        self._lock: int | None = None
        #: Whether the lock was there before us, so that having it says something of its process.
        self.proves_death = False

    # --- the estate -------------------------------------------------------------------------

    def open(self) -> None:
        """Make the folder and lock it for the life of this process. Raises BackendUnavailable."""
        try:
            self._disk.make_folder(self.folder, mode=FOLDER_MODE)
            if not self.lock(make=True):
                raise RuntimeError(f"{self.folder} is locked, and nobody else can know of it")
        except OSError as error:
            raise RecordsUnavailable(
                str(unavailable(error, error.filename or self.folder))
            ) from error

    def restore(self) -> bool:
        """Make anew what somebody has removed of the folder; whether there was anything to do.

        Raises BackendUnavailable.
        """
        if self._lock is None or self._is_locked(self._lock):
            return False
        self.abandon()
        self.open()
        with self._guard:
            records = list(self._records.values())
        for record in records:
            self.keep(record)
        return True

    def lock(self, *, make: bool = False) -> bool:
        """Return whether the folder is ours now: its process is dead, or we are that process.

        A missing lock, which proves nothing, is made where `make` says so.
        """
        if self._lock is not None:
            return True
        flags, found = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, True
        try:
            handle = os.open(self.folder / _LOCK, flags)
        except FileNotFoundError:
            if not make:
                return False
            found = False
            handle = os.open(self.folder / _LOCK, flags | os.O_CREAT, 0o600)
        if not self._locked(handle):
            os.close(handle)
            return False
        forks.keep_to_ourselves(handle)
        self._lock, self.proves_death = handle, found
        return True

    def _locked(self, handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        # Whoever had it before may have removed the folder: then this is a lock on nothing.
        return self._is_locked(handle)

    def _is_locked(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), (self.folder / _LOCK).stat())
        except OSError:
            return False

    def load(self, opened: Opened, unreadable: Callable[[Path, str], None]) -> None:
        """Read the records, oldest first; report unusable files and leave them in place."""
        for half in self.folder.glob(".*.tmp"):  # of a process that died while it wrote
            self._disk.remove(half)
        found = sorted(self.folder.glob("[!.]*.json"), key=lambda path: path.lstat().st_mtime_ns)
        for path in found:
            try:
                record = record_from_json(read(path, limit=_LARGEST), opened)
                if path.name != f"{record.claim.lease.token}.json":
                    raise ValueError("its name belongs to another claim")  # noqa: TRY301 - told of like the rest
            except (OSError, ValueError) as error:  # the others are not kept waiting for this one
                unreadable(path, str(error))
                continue
            with self._guard:
                self._records[record.claim.lease.token] = record

    def let_go(self) -> None:
        """Unlock, and remove the folder when nothing is in it any more; harmless to repeat."""
        if self._lock is None:
            return
        try:
            if not any(path.name != _LOCK for path in self.folder.iterdir()):
                self._disk.remove(self.folder / _LOCK)
                self._disk.remove_empty(self.folder, self.folder.parent)
        except OSError:
            pass  # a lock that stays behind says no more than that its process is dead
        self.abandon()

    def abandon(self) -> None:
        """Unlock and leave everything as it is, as the death of the process does."""
        if self._lock is not None:
            forks.close(self._lock)
            self._lock = None

    # --- the records ------------------------------------------------------------------------

    def keep(self, record: Record) -> None:
        """Make a record durable; raises BackendUnavailable when this disk does not take it."""
        place = f"{self.folder}/{record.claim.lease.token}.json"
        try:
            self._disk.publish(place, record_to_json(record), mark="new", mode=FILE_MODE)
        except OSError as error:
            raise RecordsUnavailable(str(unavailable(error, self.folder))) from error
        with self._guard:
            self._records[record.claim.lease.token] = record

    def drop(self, token: str) -> None:
        """Forget a claim. When a crash undoes this, its report is delivered again."""
        try:
            self._disk.remove(f"{self.folder}/{token}.json")
        except OSError as error:
            raise RecordsUnavailable(str(unavailable(error, self.folder))) from error
        with self._guard:
            self._records.pop(token, None)

    def park(self, record: Record, reason: str) -> None:
        """Keep a report that the storage will never take aside; it is never thrown away.

        The record itself stays until it is dropped or replaced: die in between, and it is parked
        once more. A substitute never takes the place of the report that it stands in for.
        """
        parked = replace(record, phase=Phase.PARKED, reason=reason)
        place = self._parked / f"{record.token}.json"
        if record.substitute and exists(place):
            return
        try:
            self._disk.make_folder(self._parked, mode=FOLDER_MODE)
            self._disk.publish(place, record_to_json(parked), mark="new", mode=FILE_MODE)
        except OSError as error:
            raise RecordsUnavailable(str(unavailable(error, self._parked))) from error

    def unpark(self, token: str, opened: Opened) -> Record:
        """Have a parked report wait again; ValueError when it is none, or was answered otherwise.

        The end of such a job stands: a storage could only take the report for a repeat of that.
        """
        place = self._parked / f"{token}.json"
        record = record_from_json(read(place, limit=_LARGEST), opened)
        if record.answered:
            raise ValueError("the submitter has been told that the storage refused it")
        waiting = replace(record, phase=Phase.REPORT, reason="")
        self.keep(waiting)
        try:
            self._disk.remove(place)
            self._disk.settle(self._parked)
        except OSError as error:
            raise RecordsUnavailable(str(unavailable(error, self._parked))) from error
        return waiting

    def put_last(self, token: str) -> None:
        """Let the others go first, where it still waits."""
        with self._guard:
            if token in self._records:
                self._records[token] = self._records.pop(token)

    def get(self, token: str) -> Record | None:
        with self._guard:
            return self._records.get(token)

    def of(self, phase: Phase) -> list[Record]:
        """Return the records of one phase, oldest first, after what was put last."""
        with self._guard:
            return [each for each in self._records.values() if each.phase is phase]

    def tokens(self) -> set[str]:
        """Return the tokens of all claims that are written down here."""
        with self._guard:
            return set(self._records)

    def __contains__(self, token: object) -> bool:
        with self._guard:
            return token in self._records

    def __len__(self) -> int:
        with self._guard:
            return len(self._records)
