from __future__ import annotations

import datetime
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spooler import durable
from spooler.errors import BackendUnavailable
from spooler.storage.sqooler.client.core import NotADocument
from spooler.storage.sqooler.client.documents import LocalLoginInformation
from spooler.storage.sqooler.client.local import LocalCore


def core_at(folder: Path, **options: Any) -> LocalCore:
    return LocalCore(LocalLoginInformation(base_path=str(folder)), "lab", **options)


@pytest.fixture
def core(tmp_path: Path) -> LocalCore:
    return core_at(tmp_path, pause=lambda _seconds: None)


def test_where_the_system_cannot_refuse_to_replace(
    core: LocalCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "renameat2", None)
    core.upload({"a": 1}, "p", "x")
    core.upload({"a": 2}, "q", "x")
    with pytest.raises(FileExistsError, match="q/x: there is a document already"):
        core.move("p", "q", "x")
    core.move("p", "deep/new/path", "x")
    assert not core.exists("p", "x")


def test_datetimes_are_written_as_sqooler_does(core: LocalCore, tmp_path: Path) -> None:
    core.upload({"at": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)}, "p", "x")
    assert (tmp_path / "p" / "x.json").read_text() == '{"at": "2026-01-02T00:00:00+00:00"}'


# --- order and foreign files -----------------------------------------------------------------


def test_ids_come_oldest_first_and_foreign_files_not_at_all(
    core: LocalCore, tmp_path: Path
) -> None:
    for age, name in enumerate(["b", "c", "a"]):
        core.upload({}, "p", name)
        os.utime(tmp_path / "p" / f"{name}.json", ns=(age, age))
    for foreign in (".hidden.json", "readme.txt", "with blank.json", "job", ".x.json.5.tmp"):
        (tmp_path / "p" / foreign).write_text("{}")
    (tmp_path / "p" / "folder.json").mkdir()
    (tmp_path / "p" / "dangling.json").symlink_to(tmp_path / "nowhere")
    assert core.ids("p") == ["b", "c", "a"]


# --- files that somebody else writes ---------------------------------------------------------


def test_a_file_that_is_still_growing_is_looked_at_again(tmp_path: Path) -> None:
    file = tmp_path / "p" / "x.json"
    file.parent.mkdir()
    file.write_text("")
    looks = []

    def pause(seconds: float) -> None:
        looks.append(seconds)
        file.write_text(['{"a": ', '{"a": [1, 2', '{"a": [1, 2]}'][len(looks) - 1])

    assert core_at(tmp_path, pause=pause).get("p", "x") == {"a": [1, 2]}
    assert len(looks) == 3


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"null", b"\xff", b'{"a":' * 100_000, b'{"a": 1} x', b'{"a": 1, "a": 2}'],
)
def test_a_damaged_file_is_one_sentence_soon(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "x.json").write_bytes(content)
    waited: list[float] = []
    core = core_at(tmp_path, pause=waited.append)
    with pytest.raises(NotADocument, match="p/x: the file does not hold a whole JSON object"):
        core.get("p", "x")
    assert 0 < sum(waited) < 1


# --- the disk says no ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason"),
    [(errno.ENOSPC, "disk is full"), (errno.EACCES, "permission"), (errno.EROFS, "read-only")],
)
def test_a_disk_that_refuses_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, reason: str
) -> None:
    core = core_at(tmp_path)
    core.upload({"a": 1}, "p", "x")

    def refuse(*_args: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, "write", refuse)
        with pytest.raises(BackendUnavailable, match=reason):
            core.upload({"a": 2}, "p", "y")
        with pytest.raises(BackendUnavailable, match=reason):
            core.update({"a": 2}, "p", "x")
    assert core.get("p", "x") == {"a": 1}
    assert [file.name for file in (tmp_path / "p").iterdir()] == ["x.json"]


def test_a_file_in_the_place_of_a_folder(core: LocalCore, tmp_path: Path) -> None:
    (tmp_path / "p").write_text("")
    for act in (
        lambda: core.upload({}, "p", "x"),
        lambda: core.get("p", "x"),
        lambda: core.ids("p"),
        lambda: core.delete("p", "x"),
    ):
        with pytest.raises(BackendUnavailable):
            act()


# --- killed while writing --------------------------------------------------------------------

WRITER = """
import sys, itertools
from spooler.durable import Disk
from spooler.storage.sqooler.client.documents import LocalLoginInformation
from spooler.storage.sqooler.client.local import LocalCore
core = LocalCore(LocalLoginInformation(base_path=sys.argv[1]), "lab", disk=Disk(sync=False))
start = int(sys.argv[2])
print("ready", flush=True)
for n in itertools.count(start):
    core.update({"n": n, "body": [n] * 20_000}, "p", "x")
    core.upload({"n": n, "body": [n] * 20_000}, "new", f"d{n}")
"""


def test_a_killed_writer_leaves_no_half_file(tmp_path: Path) -> None:
    def never(_seconds: float) -> None:
        raise AssertionError("a half written file was seen")

    core = core_at(tmp_path, pause=never)
    core.upload({"n": -1, "body": [-1] * 20_000}, "p", "x")
    for turn in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(turn * 10_000)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        with writer.stdout:
            assert writer.stdout.readline() == "ready\n"
            seen = set()
            while len(seen) < 3 + turn:
                document = core.get("p", "x")
                assert document["body"] == [document["n"]] * 20_000
                seen.add(document["n"])
            writer.send_signal(signal.SIGKILL)
        assert writer.wait(timeout=30) == -signal.SIGKILL
        assert core.get("p", "x")["n"] >= 0
        for name in core.ids("new"):
            document = core.get("new", name)
            assert document["body"] == [document["n"]] * 20_000
