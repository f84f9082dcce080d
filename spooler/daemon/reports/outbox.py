"""Signed reports that are not yet delivered, on this machine's disk.

One file per report, written whole and durable before the first try to deliver it, removed after
the storage has it. What the storage refuses for good is parked: kept beside, with the reason.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic_core import to_json

from spooler.durable import Disk, unavailable
from spooler.model.claim import Claim
from spooler.model.records import (
    claim_from_json,
    claim_to_json,
    report_from_json,
    report_to_json,
)
from spooler.model.result import SignedReport
from spooler.signing.jws import payload


@dataclass(frozen=True)
class Entry:
    """One report that waits, and the claim that it ends."""

    claim: Claim
    signed: SignedReport

    @cached_property
    def name(self) -> str:
        """The file's name: jobs of one device sort by it no better than by chance."""
        job = self.claim.job
        return f"{job.device}.{job.id}.{self.claim.attempt}.{self.claim.token}.json"

    @property
    def digest(self) -> str:
        """The SHA-256 of what is signed, as the storage gets it: the JWS, or else the JSON."""
        text = self.signed.jws.encode() or report_to_json(self.signed.report)
        return hashlib.sha256(text).hexdigest()


def entry_of(content: bytes) -> Entry:
    """The entry in a file of the outbox; ValueError when it is none."""
    try:
        said = json.loads(content)
        jws = said["jws"]
        report = report_from_json(payload(jws) if jws else said["report"])
        return Entry(claim_from_json(said["claim"]), SignedReport(report, jws))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no report of an outbox: {error}") from error


class Outbox:
    """The entries, on disk and in memory. Safe to use from any thread."""

    def __init__(self, folder: Path, *, sync: bool = True) -> None:
        self._folder = folder
        self._parked = folder / "parked"
        self._disk = Disk(sync=sync)
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}

    def restore(self) -> list[Entry]:
        """Read what earlier processes left, oldest first; damaged files are parked unread."""
        try:
            self._disk.make_folder(self._folder)
            list(self._folder.iterdir())  # rglob takes one that it may not read for empty
            for half in self._folder.rglob(".*.tmp"):  # of a process that died while it wrote
                self._disk.remove(half)
            found = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
            for path in found:
                self._restore(path)
        except OSError as error:
            raise unavailable(error, error.filename or self._folder) from error
        return self.entries()

    def _restore(self, path: Path) -> None:
        try:
            entry = entry_of(path.read_bytes())
        except ValueError:
            self._disk.rename(path, self._parked / path.name)
            logging.getLogger("spooler.outbox").warning(
                "%s is no report that can be read, and is parked; see: spooler outbox list", path
            )
            return
        with self._lock:
            self._entries[entry.name] = entry

    def keep(self, entry: Entry) -> None:
        """Make an entry durable; raises BackendUnavailable when this disk does not take it."""
        content = {"claim": claim_to_json(entry.claim), "jws": entry.signed.jws}
        if not entry.signed.jws:
            content["report"] = report_to_json(entry.signed.report).decode()
        try:
            place = f"{self._folder}/{entry.name}"
            self._disk.publish(place, to_json(content), mark="new", mode=0o640)
        except OSError as error:
            raise unavailable(error, self._folder) from error
        with self._lock:
            self._entries[entry.name] = entry

    def drop(self, entry: Entry) -> None:
        """Forget a delivered entry. When a crash undoes this, the entry is delivered again."""
        try:
            self._disk.remove(f"{self._folder}/{entry.name}")
        except OSError as error:
            raise unavailable(error, self._folder) from error
        with self._lock:
            self._entries.pop(entry.name, None)

    def park(self, entry: Entry, reason: str) -> None:
        """Put an entry that cannot be delivered aside, with the reason; it is never thrown away."""
        note = json.dumps({"reason": reason}).encode()
        try:
            self._disk.make_folder(self._parked)
            self._disk.publish(self._parked / f"{entry.name}.reason", note, mark="new")
            self._disk.rename(self._folder / entry.name, self._parked / entry.name)
            self._disk.settle(self._folder, self._parked)
        except OSError as error:
            raise unavailable(error, self._folder) from error
        with self._lock:
            self._entries.pop(entry.name, None)

    def unpark(self, name: str) -> None:
        """Have a parked entry wait again; it is read by the next `restore`."""
        try:
            self._disk.rename(self._parked / name, self._folder / name)
            self._disk.remove(self._parked / f"{name}.reason")
            self._disk.settle(self._folder, self._parked)
        except OSError as error:
            raise unavailable(error, self._folder) from error

    def put_last(self, entry: Entry) -> None:
        """Let the others go first, where it still waits."""
        with self._lock:
            if entry.name in self._entries:
                self._entries[entry.name] = self._entries.pop(entry.name)

    def entries(self) -> list[Entry]:
        """What waits, oldest first, after what was put last."""
        with self._lock:
            return list(self._entries.values())

    def tokens(self) -> set[str]:
        """The tokens of the claims whose reports wait here."""
        with self._lock:
            return {entry.claim.token for entry in self._entries.values()}

    def __contains__(self, name: object) -> bool:
        with self._lock:
            return name in self._entries

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)
