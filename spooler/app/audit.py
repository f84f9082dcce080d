"""Whether the audit trail of a state folder is whole, and signed by our own keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spooler.app import parts
from spooler.durable import read, unavailable
from spooler.errors import SignatureRefused
from spooler.model.json import unique
from spooler.observe.audit import (
    BEGIN,
    CHECKPOINT,
    CONTINUED,
    audit_files,
    digest,
    head_in,
    read_head,
)
from spooler.settings import Settings
from spooler.signing.jws import KeySet


@dataclass
class AuditFound:
    """What came of a check: `problems` is empty when the trail is whole.

    `first` is the number of the first line that is there; `unsigned` are the lines since the last
    signed checkpoint: what was taken off the end since then does not show.
    """

    files: int = 0
    lines: int = 0
    first: int = 0
    checkpoints: int = 0
    unsigned: int = 0
    torn: int = 0
    problems: list[str] = field(default_factory=list)


def verify_audit(settings: Settings) -> AuditFound:
    """Go through the whole trail; also while a daemon writes it. Raises BackendUnavailable."""
    signer = parts.load_signer(settings)
    keys = KeySet([*parts.former_keys(settings), *([signer.public()] if signer else [])])
    folder = settings.state / "audit"
    check = _Check(keys)
    try:
        head = read_head(folder)  # first: a daemon may write on meanwhile
        for path in audit_files(folder):
            check.file(path, read(path))
    except OSError as error:
        raise unavailable(error, folder) from error
    if signer is not None:
        check.demand_signature()
    check.demand_head(head, signed=signer is not None)
    return check.found


class _Check:
    """Reads the chain from its begin, keeping what the next line must carry."""

    def __init__(self, keys: KeySet) -> None:
        self.found = AuditFound()
        self._keys = keys
        self._head = ""
        self._number = 0
        #: Where a checkpoint without a signature stands, after the last one that has one.
        self._unvouched = ""
        self._torn: list[bytes] = []
        self._torn_at = ""
        self._digests: dict[int, str] = {}

    def file(self, path: Path, content: bytes) -> None:
        self._settle_torn()
        self.found.files += 1
        *lines, rest = content.split(b"\n")
        for number, line in enumerate(lines, 1):
            self._line(f"{path.name} line {number}", line)
        if rest:
            self.found.torn += 1  # being written just now, or left by a daemon that died

    def _line(self, where: str, line: bytes) -> None:
        said = _parsed(line)
        if said is None:
            self._torn_at = self._torn_at if self._torn else where
            self._torn.append(line)
            return
        for problem in self._wrong(said):
            self.found.problems.append(f"{where}: {problem}")
        self._head, self._number = digest(line), said["n"]
        if said["what"] == CHECKPOINT:
            self._digests[said["n"]] = self._head
        self.found.lines += 1
        self.found.first = self.found.first or said["n"]
        self.found.unsigned += 1
        if said["what"] == CHECKPOINT and "jws" in said:
            self.found.checkpoints += 1
            self.found.unsigned = 0
            self._unvouched = ""
        elif said["what"] == CHECKPOINT:
            self._unvouched = self._unvouched or where

    def demand_signature(self) -> None:
        """With a key every checkpoint is signed, or vouched for by a later one that is."""
        if self._unvouched:
            self.found.problems.append(
                f"{self._unvouched}: this checkpoint and all later ones are unsigned although a "
                "signing key is configured; either no daemon has run with the key yet, or the "
                "trail was rewritten"
            )

    def demand_head(self, content: bytes, *, signed: bool) -> None:
        """The last checkpoint is there: nothing up to it was cut off or changed."""
        head = head_in(content)
        if head is None:
            return  # nothing is kept yet
        if signed:
            try:
                self._keys.verify_jws(content.decode("ascii", "replace"))
            except SignatureRefused as error:
                self.found.problems.append(f"audit.head: {error}")
                return
        if self._digests.get(head.n) != head.digest:
            self.found.problems.append(
                f"audit.head: line {head.n} is missing or changed; the trail was truncated or "
                "rewritten"
            )

    def _wrong(self, said: dict[str, Any]) -> Iterator[str]:
        if said["what"] == CONTINUED:
            yield from _told_by_a_daemon(said)
        if self._torn:
            torn = digest(b"\n".join(self._torn))
            if said["what"] == CONTINUED and said.get("torn") == torn:
                self.found.torn += 1
                self._torn = []
            self._settle_torn()
        if not self._head:
            if said["n"] == 1 and said["prev"] != BEGIN:
                yield "this is not the start of a trail"
        elif said["prev"] != self._head or said["n"] != self._number + 1:
            yield "the line before it was edited, or lines before it were removed"
        if said["what"] == CHECKPOINT and "jws" in said:
            yield from self._forged(said)

    def _forged(self, said: dict[str, Any]) -> Iterator[str]:
        try:
            signed = json.loads(self._keys.verify_jws(str(said["jws"])))
        except SignatureRefused as error:
            yield str(error)
        else:
            if signed != {"n": said["n"], "head": said["prev"]}:
                yield "the signature belongs to another line of the trail"

    def _settle_torn(self) -> None:
        if self._torn:
            self.found.problems.append(f"{self._torn_at}: it was edited")
            self._torn = []


def _told_by_a_daemon(said: dict[str, Any]) -> Iterator[str]:
    """What a daemon has found wrong when it went on with the trail."""
    if said.get("removed"):
        yield (
            f"the trail restarts here: {said['removed']} earlier lines were removed while the "
            "daemon ran"
        )
    if said.get("cut"):
        yield (
            f"line {said['cut']} was missing or changed when a daemon started; the trail had "
            "been truncated or rewritten"
        )


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(line, object_pairs_hook=unique)
    except ValueError:
        return None
    right = isinstance(said, dict) and isinstance(said.get("n"), int)
    return said if right and {"prev", "what"} <= said.keys() else None
