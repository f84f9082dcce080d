"""The audit trail: nothing can be edited or removed unseen, and no death stops it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spooler import durable
from spooler.app.audit import AuditFound, verify_audit
from spooler.observe import audit
from spooler.observe.audit import AuditLog, audit_files
from spooler.observe.events import EventName, Observer
from spooler.settings import Settings
from spooler.signing.keys import generate, rotate, write_file


class Trail:
    """A state folder with a trail, and ways to tamper with it."""

    def __init__(self, folder: Path) -> None:
        self.key = generate("lab")
        self.key_file = folder / "key.jwk"
        write_file(self.key, self.key_file)
        self.settings = Settings.model_validate(
            {
                "state": folder / "state",
                "storage": {"type": "memory"},
                "signing": {"key": self.key_file},
            }
        )
        self.folder = folder / "state" / "audit"
        self.log = self.open()

    def open(self) -> AuditLog:
        return AuditLog(self.folder, "host/1/abc", self.key)

    def write(self, count: int, log: AuditLog | None = None) -> None:
        observer = Observer(log or self.log)
        for number in range(count):
            observer.emit(EventName.JOB_CLAIMED, device="spins", job=f"{number:024x}", attempt=1)

    def lines(self) -> list[bytes]:
        return b"".join(path.read_bytes() for path in audit_files(self.folder)).splitlines()

    def put(self, lines: list[bytes]) -> None:
        (path,) = audit_files(self.folder)
        path.write_bytes(b"".join(line + b"\n" for line in lines))

    def verify(self) -> AuditFound:
        return verify_audit(self.settings)


@pytest.fixture
def trail(tmp_path: Path) -> Trail:
    return Trail(tmp_path)


def test_lines_say_who_when_what(trail: Trail) -> None:
    observer = Observer(trail.log)
    observer.emit(EventName.JOB_STARTED, device="spins", job="a", attempt=2, text="no")
    observer.emit(EventName.JOB_PROGRESS, device="spins", job="a", text="half")
    observer.emit(EventName.REPORT_DELIVERED, device="spins", job="a", attempt=2, digest="d1")
    first, second = (json.loads(line) for line in trail.lines())
    assert first["what"] == "job.started"
    assert first["who"] == "host/1/abc"
    assert (first["device"], first["job"], first["attempt"]) == ("spins", "a", 2)
    assert "text" not in first
    assert second["digest"] == "d1"
    assert first["at"].endswith("+00:00")


def test_a_whole_trail(trail: Trail) -> None:
    trail.write(5)
    found = trail.verify()
    assert (found.lines, found.unsigned, found.problems) == (5, 5, [])
    trail.log.close()
    found = trail.verify()
    assert (found.lines, found.unsigned, found.checkpoints, found.problems) == (6, 0, 1, [])


def edited(lines: list[bytes]) -> list[bytes]:
    return [line.replace(b'"attempt":1', b'"attempt":2') if n == 2 else line
            for n, line in enumerate(lines)]  # fmt: skip


def spoilt(lines: list[bytes]) -> list[bytes]:
    return [b"x" + line if n == 2 else line for n, line in enumerate(lines)]


def removed(lines: list[bytes]) -> list[bytes]:
    return lines[:2] + lines[3:]


def beheaded(lines: list[bytes]) -> list[bytes]:
    """The begin is taken off, and the rest pretends to be one."""
    return [lines[1].replace(b'"n":2', b'"n":1'), *lines[2:]]


def swapped(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[2], lines[1], *lines[3:]]


def rechained(lines: list[bytes]) -> list[bytes]:
    """A line is edited, and the chain made anew as far as that is possible without the key."""
    made, head = [], audit.BEGIN
    for line in edited(lines):
        said = json.loads(line) | {"prev": head}
        made.append(json.dumps(said, separators=(",", ":")).encode())
        head = audit.digest(made[-1])
    return made


def signed_by_another(lines: list[bytes]) -> list[bytes]:
    made = rechained(lines)
    said = json.loads(made[-1])
    body = json.dumps({"n": said["n"], "head": said["prev"]}).encode()
    said["jws"] = generate("lab").jws(body)
    return [*made[:-1], json.dumps(said, separators=(",", ":")).encode()]


@pytest.mark.parametrize(
    "tamper", [edited, spoilt, removed, beheaded, swapped, rechained, signed_by_another]
)
def test_tampering_shows(trail: Trail, tamper: Callable[[list[bytes]], list[bytes]]) -> None:
    trail.write(5)
    trail.log.close()
    assert trail.verify().problems == []
    trail.put(tamper(trail.lines()))
    assert trail.verify().problems


def test_a_line_that_says_something_twice_is_none(trail: Trail) -> None:
    """Nothing signed comes after the last line; one reader sees its first `at`, one its last."""
    trail.write(5)
    trail.log.close()
    lines, whole = trail.lines(), trail.verify()
    trail.put([*lines[:-1], lines[-1].replace(b"{", b'{"at":"2020-01-01T00:00:00Z",', 1)])
    assert trail.verify().lines == whole.lines - 1


def test_what_is_taken_off_the_end_shows_as_far_as_it_was_signed(trail: Trail) -> None:
    """The one thing that does not show; that is why the number of unsigned lines is told."""
    trail.write(5)
    trail.put(trail.lines()[:3])
    assert trail.verify().problems == []
    assert trail.verify().unsigned == 3


def test_another_daemon_goes_on(trail: Trail) -> None:
    trail.write(3)
    trail.log.close()
    trail.write(3, trail.open())
    found = trail.verify()
    assert (found.lines, found.problems) == (7, [])


@pytest.mark.parametrize("cut", [1, 20, -1])
def test_a_torn_line_is_recognised_and_the_trail_goes_on(trail: Trail, cut: int) -> None:
    """A daemon dies in the middle of a line, which may even be all of it but its line end."""
    trail.write(3)
    (path,) = audit_files(trail.folder)
    content = path.read_bytes()
    last = content.splitlines(keepends=True)[-1]
    path.write_bytes(content.removesuffix(last) + last[:cut])
    assert trail.verify().problems == []
    trail.write(2, trail.open())
    found = trail.verify()
    assert found.problems == []
    whole = cut == -1
    assert (found.torn, found.lines) == ((0, 5) if whole else (1, 5))
    assert (b"audit.continued" in path.read_bytes()) is not whole


def test_a_torn_line_cannot_be_invented(trail: Trail) -> None:
    """Who edits a line into rubbish cannot call it torn."""
    trail.write(5)
    lines = trail.lines()
    trail.put([*lines[:2], lines[2][:30], *lines[3:]])
    assert trail.verify().problems


def test_rotation_keeps_the_chain(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "ROTATE_AFTER", 1000)
    trail.write(30)
    files = audit_files(trail.folder)
    assert len(files) > 3
    found = trail.verify()
    assert (found.problems, found.files) == ([], len(files))
    assert found.checkpoints == len(files) - 1
    files[0].unlink()
    assert trail.verify().problems == []
    assert trail.verify().first > 1
    files[2].unlink()
    assert trail.verify().problems, "a file in the middle is gone"


def test_a_daemon_that_died_while_rotating(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "ROTATE_AFTER", 1000)
    trail.write(10)
    last = audit_files(trail.folder)[-1]
    number = int(last.stem.partition("-")[2])
    trail.log.close()
    (trail.folder / f"audit-{number + 1:06d}.jsonl").touch()
    trail.write(3, trail.open())
    assert trail.verify().problems == []


def test_checkpoints_come_by_themselves(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "CHECKPOINT_EVERY", 10)
    trail.write(35)
    found = trail.verify()
    assert (found.checkpoints, found.unsigned) == (3, 5)


def test_a_rotated_key_is_still_ours(trail: Trail) -> None:
    trail.write(3)
    trail.log.close()
    rotate(trail.key_file, "new")
    assert trail.verify().problems == []


def test_without_a_key_the_chain_stands_alone(tmp_path: Path) -> None:
    settings = Settings.model_validate({"state": tmp_path, "storage": {"type": "memory"}})
    log = AuditLog(tmp_path / "audit", "me", None)
    Observer(log).emit(EventName.JOB_CLAIMED, device="spins")
    log.close()
    found = verify_audit(settings)
    assert (found.problems, found.checkpoints, found.lines) == ([], 0, 2)


def test_a_full_disk_stops_nothing_and_shows(
    trail: Trail, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trail.write(2)
    real = os.write

    def half(handle: int, content: bytes) -> int:
        real(handle, bytes(content)[:10])
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as full:
        full.setattr(durable.os, "write", half)
        trail.write(3)
    (told,) = caplog.records
    assert "audit trail has gaps" in told.getMessage()
    assert "the disk is full" in vars(told)["error"]
    trail.write(1)
    found = trail.verify()
    assert found.problems == []
    continued = json.loads(trail.lines()[-2])
    assert (continued["what"], continued["missed"]) == ("audit.continued", 3)


_WRITER = """
import sys
from pathlib import Path
from spooler.observe.audit import AuditLog
from spooler.observe.events import EventName, Observer
from spooler.signing.keys import load_file
log = AuditLog(Path(sys.argv[1]), "host/1/abc", load_file(Path(sys.argv[2])))
observer = Observer(log)
print("ready", flush=True)
while True:
    observer.emit(EventName.JOB_CLAIMED, device="spins", job="a", attempt=1)
"""


def test_killed_again_and_again(trail: Trail) -> None:
    """A writer is killed at moments of its own choosing; what was told before is there."""
    for _ in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(trail.folder), str(trail.key_file)],
            stdout=subprocess.PIPE,
        )
        with child:
            assert child.stdout is not None
            child.stdout.readline()
            before = len(trail.lines())
            while len(trail.lines()) < before + 50:
                pass
            child.send_signal(signal.SIGKILL)
    found = trail.verify()
    assert found.problems == []
    assert found.lines > 250


def test_a_trail_that_is_removed_while_it_is_written_begins_anew_and_is_not_whole(
    tmp_path: Path,
) -> None:
    trail = Trail(tmp_path)
    assert not trail.log.restore(), "nothing was written yet"
    trail.write(2)
    assert not trail.log.restore()
    shutil.rmtree(trail.folder)
    assert trail.log.restore()
    trail.write(1)
    assert not trail.log.restore()
    trail.log.close()
    found = trail.verify()
    assert [json.loads(line)["n"] for line in trail.lines()] == [3, 4, 5]
    (problem,) = found.problems
    assert "2 earlier lines were removed" in problem


# --- how far it had come -----------------------------------------------------------------------


def two_sessions(trail: Trail) -> tuple[list[bytes], list[bytes]]:
    """The lines after a first daemon, and after a second one."""
    trail.write(5)
    trail.log.close()
    first = trail.lines()
    second = trail.open()
    trail.write(5, second)
    second.close()
    assert trail.verify().problems == []
    return first, trail.lines()


def unsigned_anew(lines: list[bytes]) -> list[bytes]:
    """Edited, chained anew, and every checkpoint taken out."""
    made, head = [], audit.BEGIN
    for line in edited(lines):
        said = json.loads(line)
        if said["what"] == audit.CHECKPOINT:
            continue
        said |= {"n": len(made) + 1, "prev": head}
        made.append(json.dumps(said, separators=(",", ":")).encode())
        head = audit.digest(made[-1])
    return made


@pytest.mark.parametrize("kind", ["cut", "anew", "nothing"])
def test_what_was_there_at_the_last_checkpoint_is_missed(trail: Trail, kind: str) -> None:
    """Also by a daemon that goes on with it, and for ever."""
    first, both = two_sessions(trail)
    trail.put({"cut": first, "anew": unsigned_anew(both), "nothing": []}[kind])
    (problem,) = trail.verify().problems
    assert f"audit.head: line {len(both)} is missing or changed" in problem
    third = trail.open()
    trail.write(2, third)
    third.close()
    fourth = trail.open()
    trail.write(300, fourth)
    fourth.close()
    assert any(
        f"line {len(both)} was missing or changed when a daemon started" in each
        for each in trail.verify().problems
    )


def test_a_head_that_somebody_else_has_made_is_none(trail: Trail) -> None:
    first, _ = two_sessions(trail)
    trail.put(first)
    said = json.dumps({"n": len(first), "head": audit.digest(first[-1])}).encode()
    for content in (said, generate("lab").jws(said).encode()):
        audit.head_file(trail.folder).write_bytes(content)
        (problem,) = trail.verify().problems
        assert problem.startswith("audit.head: ")


@pytest.mark.parametrize("content", [b"", b"junk", b"a.b.c", b"{}", b'{"n": "x", "head": 1}'])
def test_a_head_that_says_nothing_stops_no_daemon(trail: Trail, content: bytes) -> None:
    two_sessions(trail)
    audit.head_file(trail.folder).write_bytes(content)
    log = trail.open()
    trail.write(2, log)
    log.close()
    assert trail.verify().problems == []
    assert audit.head_in(audit.read_head(trail.folder)) is not None


def test_lines_since_the_head_are_no_matter(trail: Trail) -> None:
    """A daemon that was killed after its last checkpoint has written more than the head says."""
    two_sessions(trail)
    log = trail.open()
    trail.write(3, log)
    assert trail.verify().problems == []
    again = trail.open()
    trail.write(3, again)
    again.close()
    assert trail.verify().problems == []
