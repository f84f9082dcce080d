from __future__ import annotations

import datetime
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooler import durable
from spooler.durable import Disk
from spooler.errors import BackendUnavailable
from spooler.storage.sqooler.core import NotADocument
from spooler.storage.sqooler.documents import LocalLoginInformation
from spooler.storage.sqooler.local import LocalCore


def core_at(folder: Path, **options: Any) -> LocalCore:
    return LocalCore(LocalLoginInformation(base_path=str(folder)), "lab", **options)


@pytest.fixture
def core(tmp_path: Path) -> LocalCore:
    return core_at(tmp_path, pause=lambda _seconds: None)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6), values, max_size=4))
def test_a_document_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]
) -> None:
    core = core_at(tmp_path_factory.mktemp("base"), disk=Disk(sync=False))
    core.upload(content, "a/b", "x")
    assert json.dumps(core.get("a/b", "x")) == json.dumps(content)
    core.update({"new": content}, "a/b", "x")
    core.move("a/b", "c", "x")
    assert core.get("c", "x") == {"new": content}
    core.delete("c", "x")
    assert core.ids("c") == []


def test_upload_does_not_overwrite(core: LocalCore) -> None:
    core.upload({"a": 1}, "p", "x")
    with pytest.raises(FileExistsError, match="p/x: there is a document already"):
        core.upload({"a": 2}, "p", "x")
    assert core.get("p", "x") == {"a": 1}


def test_update_does_not_create(core: LocalCore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="p/x: there is no such document"):
        core.update({"a": 1}, "p", "x")
    assert list(tmp_path.iterdir()) == []


def test_move_takes_away_and_does_not_overwrite(core: LocalCore) -> None:
    core.upload({"a": 1}, "p", "x")
    core.upload({"a": 2}, "q", "x")
    with pytest.raises(FileExistsError, match="q/x: there is a document already"):
        core.move("p", "q", "x")
    assert (core.get("p", "x"), core.get("q", "x")) == ({"a": 1}, {"a": 2})
    core.move("p", "deep/new/path", "x")
    assert not core.exists("p", "x")
    assert core.exists("deep/new/path", "x")
    with pytest.raises(FileNotFoundError, match="p/x: there is no such document"):
        core.move("p", "elsewhere", "x")


def test_what_is_not_there(core: LocalCore) -> None:
    for act in (core.get, core.delete):
        with pytest.raises(FileNotFoundError, match="p/x: there is no such document"):
            act("p", "x")
    assert core.ids("p") == []
    with pytest.raises(FileNotFoundError, match="nothing about 'x'"):
        core.find("p", "kid", "x")


def test_where_the_system_cannot_refuse_to_replace(
    core: LocalCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "_renameat2", None)
    test_move_takes_away_and_does_not_overwrite(core)


def test_the_older_names(core: LocalCore) -> None:
    core.upload({"a": 1}, "p", "x")
    core.update_file({"a": 2}, "p", "x")
    core.move_file("p", "q", "x")
    assert core.get_file_content("q", "x") == {"a": 2}
    core.delete_file("q", "x")
    assert not core.exists("q", "x")


def test_a_storage_that_is_not_active_refuses_everything(tmp_path: Path) -> None:
    core = core_at(tmp_path, is_active=False)
    acts: list[Callable[[], object]] = [
        lambda: core.upload({}, "p", "x"),
        lambda: core.get("p", "x"),
        lambda: core.update({}, "p", "x"),
        lambda: core.move("p", "q", "x"),
        lambda: core.delete("p", "x"),
        lambda: core.ids("p"),
        lambda: core.exists("p", "x"),
        lambda: core.find("p", "kid", "x"),
    ]
    for act in acts:
        with pytest.raises(ValueError, match="not active"):
            act()
    assert list(tmp_path.iterdir()) == []


def test_datetimes_are_written_as_sqooler_does(core: LocalCore, tmp_path: Path) -> None:
    core.upload({"at": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)}, "p", "x")
    assert (tmp_path / "p" / "x.json").read_text() == '{"at": "2026-01-02T00:00:00+00:00"}'


def _nested(depth: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(depth):
        document = {"a": document}
    return document


@pytest.mark.parametrize("value", [float("nan"), object(), b"x", _nested(100_000)])
def test_what_is_no_json_is_not_written(core: LocalCore, tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match="cannot be written as JSON") as caught:
        core.upload({"a": value}, "p", "x")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


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
    "content", [b"", b"{", b"[1]", b"null", b"\xff", b'{"a":' * 100_000, b'{"a": 1} x']
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
from spooler.storage.sqooler.documents import LocalLoginInformation
from spooler.storage.sqooler.local import LocalCore
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
