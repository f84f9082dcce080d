"""The audit trail: every transition as one line of a file that only grows.

Each line carries the SHA-256 of the line before, so that a line that was edited or taken out
shows; a checkpoint, every `CHECKPOINT_EVERY` lines, at each rotation and at an orderly stop,
signs the chain so far, so that it cannot be made anew without the key. What was taken off the
end since the last checkpoint, all of it, is the one thing that does not show: how far the trail
had come at the last checkpoint is kept beside it, in `audit.head`.

A line is written when its event happens and synced to the disk with the next checkpoint: a
killed daemon loses none, a power cut at most those since then. A log that cannot be written is
no reason to stop a measurement: how many lines are missing is said in the next one.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from base64 import urlsafe_b64decode
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import to_json

from spooler.durable import Disk, GrowingFile, read, unavailable
from spooler.observe.events import EventName, Observation
from spooler.observe.logger import get_logger
from spooler.protocols import Signer

logger = get_logger("spooler.audit")

#: Where the chain begins.
BEGIN = "0" * 64
CHECKPOINT, CONTINUED = "audit.checkpoint", "audit.continued"
CHECKPOINT_EVERY = 256
#: Bytes after which the next file is begun.
ROTATE_AFTER = 4 * 2**20
#: More bytes than a signed head has.
_HEAD_SIZE = 4096

_FILE = re.compile(r"audit-(\d{6,})\.jsonl\Z")
_RECORDED = frozenset(
    {
        EventName.JOB_CLAIMED,
        EventName.JOB_STARTED,
        EventName.JOB_FINISHED,
        EventName.JOB_FAILED,
        EventName.JOB_CANCELLED,
        EventName.JOB_RELEASED,
        EventName.JOB_REQUEUED,
        EventName.JOB_LOST,
        EventName.REPORT_DELIVERED,
        EventName.REPORT_PARKED,
        EventName.DAEMON_STARTED,
        EventName.DAEMON_RELOADED,
        EventName.DAEMON_STOPPING,
        EventName.STATE_REMOVED,
    }
)
_FIELDS = ("device", "job", "attempt", "reason", "digest", "version")


def digest(line: bytes) -> str:
    """Return what the next line carries of this one (given without its line end)."""
    return hashlib.sha256(line).hexdigest()


def audit_files(folder: Path) -> list[Path]:
    """Return the files of the trail, in the order of the chain."""
    found = [(int(name[1]), path) for path in folder.glob("*") if (name := _FILE.match(path.name))]
    return [path for _, path in sorted(found)]


class Head(NamedTuple):
    """How far a trail had come at a checkpoint: the number of that line, and its digest."""

    n: int
    digest: str


def head_file(folder: Path) -> Path:
    """Return where the head of the trail in `folder` is kept."""
    return folder.with_name("audit.head")


def head_in(content: bytes) -> Head | None:
    """Return what a file says is the head, whoever has signed it; None when it says nothing."""
    _, signed, rest = content.partition(b".")
    try:
        said = json.loads(urlsafe_b64decode(rest.partition(b".")[0] + b"==") if signed else content)
        return Head(int(said["n"]), str(said["head"]))
    except (ValueError, KeyError, TypeError):
        return None


def read_head(folder: Path) -> bytes:
    """Return the file with the head; empty when there is none."""
    with suppress(FileNotFoundError):
        return read(head_file(folder), limit=_HEAD_SIZE)
    return b""


class AuditLog:
    """The subscriber that keeps the trail in `folder`, for the daemon `who`.

    Used by one process at a time: the lock of the state folder sees to that. Without `sync`
    nothing is brought to the disk: for storages that do without it too.
    """

    def __init__(self, folder: Path, who: str, signer: Signer | None, *, sync: bool = True) -> None:
        self._sync = sync
        self._folder = folder
        self._who = who
        self._signer = signer
        self._lock = threading.Lock()
        self._file: GrowingFile | None = None
        self._number = 0
        self._size = 0
        self._head = BEGIN
        self._count = 0
        self._unsigned = 0
        self._missed = 0
        self._removed = False
        self._at = ""

    def __call__(self, seen: Observation) -> None:
        if seen.name not in _RECORDED:
            return
        fields = {key: seen.fields[key] for key in _FIELDS if key in seen.fields}
        with self._lock:
            self._at = seen.at.isoformat()
            try:
                self._record(seen.name.value, fields)
            except OSError as error:
                # The end of the file is in doubt: it is looked at again before the next line.
                self._miss(error)
                self._let_go()

    def restore(self) -> bool:
        """Begin another file where ours was removed, with a line that says so; whether it was."""
        with self._lock:
            if self._file is None or self._file.there:
                return False
            self._removed = True
            self._let_go()
        return True

    def close(self) -> None:
        """Sign what there is, and let go; harmless to repeat."""
        with self._lock:
            try:
                if self._file is not None and self._unsigned:
                    self._checkpoint(self._file)
            except OSError as error:
                self._miss(error)
            self._let_go()

    def _miss(self, error: OSError) -> None:
        """Count a line that is missing; told once, or only the next line of this process would."""
        if not self._missed:
            logger.warning(
                "the audit trail has gaps until it can be written again",
                error=str(unavailable(error, error.filename or self._folder)),
            )
        self._missed += 1

    def _record(self, what: str, fields: dict[str, Any]) -> None:
        file = self._file or self._take_up()
        if self._size > ROTATE_AFTER:
            self._checkpoint(file)
            file = self._begin(self._number + 1)
        self._line(file, what, fields)
        self._unsigned += 1
        if self._unsigned >= CHECKPOINT_EVERY:
            self._checkpoint(file)

    def _line(self, file: GrowingFile, what: str, fields: dict[str, Any]) -> None:
        said = {"n": self._count + 1, "at": self._at, "who": self._who, "what": what}
        line = to_json({**said, **fields, "prev": self._head}, fallback=str)
        file.append(line + b"\n")
        self._count += 1
        self._size += len(line) + 1
        self._head = digest(line)

    def _checkpoint(self, file: GrowingFile) -> None:
        fields = {}
        if self._signer is not None:
            said = {"n": self._count + 1, "head": self._head}
            fields["jws"] = self._signer.jws(to_json(said))
        self._line(file, CHECKPOINT, fields)
        if self._sync:
            file.settle()
        self._unsigned = 0
        self._keep_head()

    def _keep_head(self) -> None:
        """Say beside the trail how far it has come. An older head, on a full disk, is true too."""
        said = to_json({"n": self._count, "head": self._head})
        content = said if self._signer is None else self._signer.jws(said).encode()
        with suppress(OSError):
            disk, place = Disk(sync=self._sync), head_file(self._folder)
            disk.publish(place, content, mark="new", mode=0o640)

    # --- files ------------------------------------------------------------------------------

    def _take_up(self) -> GrowingFile:
        """Go on where the last daemon ended, whole line or not."""
        Disk(sync=self._sync).make_folder(self._folder)
        files = audit_files(self._folder)
        file, torn = self._reopen(files) if files else (self._begin(1), b"")
        cut = 0 if self._removed else self._cut(files)
        if torn or self._missed or self._removed or cut:
            known: dict[str, Any] = {"torn": digest(torn)} if torn else {}
            if cut:
                known["cut"] = cut
            if self._removed:
                known["removed"] = self._count
            self._line(file, CONTINUED, {**known, "missed": self._missed})
            self._missed, self._removed = 0, False
        return file

    def _cut(self, files: list[Path]) -> int:
        """How far the trail had come, where that is not what is found; 0 when all is well."""
        head = head_in(read_head(self._folder))
        if head is None:
            return 0
        for path in reversed(files):
            for line in read(path).split(b"\n"):
                if _number_of(line) == head.n:
                    return 0 if digest(line) == head.digest else head.n
        return head.n

    def _reopen(self, files: list[Path]) -> tuple[GrowingFile, bytes]:
        """Return the last file, and what lies in it after its last line."""
        content = read(files[-1])
        whole, torn = _end_of(content)
        if not whole and len(files) > 1:
            whole, _ = _end_of(read(files[-2]))  # died between making a file and its first line
        self._number = int(files[-1].stem.partition("-")[2])
        self._size = len(content)
        self._count, self._head = (_number_of(whole), digest(whole)) if whole else (0, BEGIN)
        self._file = file = GrowingFile(files[-1])
        if content and not content.endswith(b"\n"):
            file.append(b"\n")
        return file, torn

    def _begin(self, number: int) -> GrowingFile:
        file = GrowingFile(self._folder / f"audit-{number:06d}.jsonl")
        Disk(sync=self._sync).settle(self._folder)
        self._let_go()
        self._file, self._number, self._size = file, number, 0
        return file

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _end_of(content: bytes) -> tuple[bytes, bytes]:
    """The last line that is one, and what comes after it: what a death or a full disk has left.

    A line that lacks nothing but its line end is one.
    """
    lines = content.removesuffix(b"\n").split(b"\n")
    for index in range(len(lines) - 1, -1, -1):
        if _number_of(lines[index]):
            return lines[index], b"\n".join(lines[index + 1 :])
    return b"", content.removesuffix(b"\n")


def _number_of(line: bytes) -> int:
    """Return the number of a line; 0 when it is none."""
    try:
        return int(json.loads(line)["n"])
    except (ValueError, KeyError, TypeError):
        return 0
