"""Files that are whole or absent, in the order that makes them so."""

from __future__ import annotations

import errno
import grp
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from spooler import durable
from spooler.durable import Disk, OpenFile, demand_writable, not_ours, read, staged, unavailable
from spooler.errors import BackendUnavailable, NotPermitted


class Recorded:
    """`os` as durable.py sees it, writing down what is done; can fail at one call."""

    def __init__(self, fail: str = "", code: int = errno.ENOSPC) -> None:
        self.calls: list[str] = []
        self._fail, self._code = fail, code
        self._names: dict[int, str] = {}

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in {"open", "write", "fsync", "close", "rename", "link", "unlink", "mkdir"}:
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            first = self._names.get(args[0], args[0]) if isinstance(args[0], int) else args[0]
            self.calls.append(f"{name} {Path(str(first)).name}")
            if name == self._fail:
                raise OSError(self._code, os.strerror(self._code), str(first))
            answer = real(*args, **kwargs)
            if name == "open":
                self._names[answer] = str(args[0])
            return answer

        return call


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    made = Recorded()
    monkeypatch.setattr(durable, "os", made)
    return made


def test_publish_syncs_the_file_before_and_the_folder_after(
    recorded: Recorded, tmp_path: Path
) -> None:
    Disk().publish(tmp_path / "a.json", b"content", mark="m")
    assert [call for call in recorded.calls if not call.startswith("close")] == [
        "open .a.json.m.tmp",
        "write .a.json.m.tmp",
        "fsync .a.json.m.tmp",
        "rename .a.json.m.tmp",
        f"open {tmp_path.name}",
        f"fsync {tmp_path.name}",
    ]


def test_without_sync_nothing_is_synced(recorded: Recorded, tmp_path: Path) -> None:
    Disk(sync=False).publish(tmp_path / "a.json", b"content", mark="m")
    assert not [call for call in recorded.calls if call.startswith("fsync")]
    assert read(tmp_path / "a.json") == b"content"


def test_new_folders_survive_too(recorded: Recorded, tmp_path: Path) -> None:
    Disk().make_folder(tmp_path / "one" / "two")
    made = [call for call in recorded.calls if call.split()[0] in {"mkdir", "fsync"}]
    assert made == ["mkdir one", f"fsync {tmp_path.name}", "mkdir two", "fsync one"]


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_what_fails_leaves_the_old_file(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "a.json"
    Disk().publish(place, b"old", mark="m")
    with monkeypatch.context() as patch:
        patch.setattr(durable, "os", Recorded(fail=step))
        with pytest.raises(OSError, match="No space"):
            Disk().publish(place, b"new", mark="m")
    assert place.read_bytes() == b"old"
    Disk().publish(place, b"newer", mark="m")
    assert place.read_bytes() == b"newer"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_publish_new_replaces_nothing(tmp_path: Path) -> None:
    place = tmp_path / "a.json"
    Disk().publish_new(place, b"first", mark="m")
    with pytest.raises(FileExistsError):
        Disk().publish_new(place, b"second", mark="n")
    assert place.read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_leftover_of_a_crash_is_replaced(tmp_path: Path) -> None:
    place = tmp_path / "a.json"
    Path(staged(place, "m")).write_bytes(b"half of something much longer")
    Disk().publish(place, b"whole", mark="m")
    assert place.read_bytes() == b"whole"


def test_files_of_one_name_are_revealed_together(tmp_path: Path) -> None:
    """Readers see none of them before; a repeat, or a part that is done, changes nothing."""
    one, two, three = (str(tmp_path / name) for name in ("one", "two", "three"))
    Disk().stage_each([(one, b"1"), (two, b"2"), (three, b"3")], "a.json", "m")
    assert list(tmp_path.glob("*/[!.]*")) == []
    Path(staged(f"{two}/a.json", "m")).rename(f"{two}/a.json")
    for _ in range(2):
        Disk().reveal_each([one, two, three], "a.json", "m")
    assert [read(f"{folder}/a.json") for folder in (one, two, three)] == [b"1", b"2", b"3"]
    assert len(list(tmp_path.glob("*/*"))) == 3


def test_a_relative_name_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Disk().publish("a.json", b"x", mark="m")
    Disk().publish("folder/b.json", b"y", mark="m")
    assert (tmp_path / "folder" / "b.json").read_bytes() == b"y"


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    """Whoever may write into the folder must not have us write elsewhere."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    Path(staged(tmp_path / "a.json", "m")).symlink_to(victim)
    Disk().publish(tmp_path / "a.json", b"x", mark="m")
    assert victim.read_text() == "precious"
    assert not (tmp_path / "a.json").is_symlink()
    assert (tmp_path / "a.json").read_bytes() == b"x"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "nothing"])
def test_what_is_no_file_is_not_read(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "a.json"
    _plant(kind, place, tmp_path)
    with pytest.raises(FileNotFoundError):
        read(place)


def test_reading_stops_beyond_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read(tmp_path / "a", limit=3) == b"1234"
    assert read(tmp_path / "a", limit=5) == read(tmp_path / "a") == b"12345"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_stands_in_the_way_is_cleared(tmp_path: Path, kind: str) -> None:
    """Neither the place of a file nor the one beside it can be blocked."""
    place = tmp_path / "a.json"
    for planted in (place, Path(staged(place, "m"))):
        _plant(kind, planted, tmp_path)
    Disk().publish(place, b"x", mark="m")
    assert place.read_bytes() == b"x"
    place.unlink()
    _plant(kind, place, tmp_path)
    assert Disk().remove(place)
    assert not place.exists()


def _plant(kind: str, place: Path, folder: Path) -> None:
    if kind == "link":
        (folder / "secret").write_text("secret")
        place.symlink_to(folder / "secret")
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
        (place / "inside").touch()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "read-only"),
        (errno.EDQUOT, "quota"),
        (errno.EISDIR, "Is a directory"),
    ],
)
def test_what_the_system_says_becomes_a_sentence(code: int, words: str) -> None:
    error = unavailable(OSError(code, os.strerror(code)), "/data/lab")
    assert isinstance(error, BackendUnavailable)
    assert str(error).startswith("/data/lab: ")
    assert words in str(error)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    demand_writable(tmp_path / "new" / "deeper")
    with pytest.raises(BackendUnavailable, match="not a folder"):
        demand_writable(tmp_path / "file" / "inside")


# --- one file, whatever stands in its place --------------------------------------------------


def test_a_rewritten_file_is_the_one_that_was_opened(tmp_path: Path) -> None:
    place = tmp_path / "a.json"
    place.write_bytes(b"old")
    with OpenFile(place, writing=True) as file:
        assert file.names == 1
        Disk().publish(place, b"final", mark="m")
        assert file.names == 0
        file.rewrite(b"late")
    assert place.read_bytes() == b"final"


def test_a_shorter_text_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    place = tmp_path / "a.json"
    place.write_bytes(b"0123456789")
    with OpenFile(place, writing=True) as file:
        file.rewrite(b"short")
        assert place.read_bytes() == b"short     "
        file.rewrite(b"longer than before")
        assert place.read_bytes() == b"longer than before"


def test_a_giant_is_not_padded_to_its_size(tmp_path: Path) -> None:
    place = tmp_path / "a.json"
    with place.open("wb") as stream:
        stream.truncate(2**33)
    with OpenFile(place, writing=True) as file:
        file.rewrite(b"short")
    assert place.stat().st_size <= 2**16
    assert place.read_bytes().strip() == b"short"


@pytest.mark.parametrize("writing", [False, True])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "nothing"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, kind: str, writing: bool) -> None:
    place = tmp_path / "a.json"
    if kind == "link":
        (tmp_path / "other").touch()
        place.symlink_to(tmp_path / "other")
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    with pytest.raises(FileNotFoundError):
        OpenFile(place, writing=writing)


def test_what_we_may_not_use_is_said_with_its_owner_and_the_way_in(tmp_path: Path) -> None:
    folder, file = tmp_path / "status" / "echo", tmp_path / "status" / "echo" / "job.json"
    folder.mkdir(parents=True)
    said = str(unavailable(PermissionError(errno.EACCES, "no"), file))
    us = pwd.getpwuid(os.geteuid()).pw_name
    assert said == (
        f"{file}: permission denied to {us}: {folder} belongs to {us}; run: chmod u+rwx {folder}"
    )
    assert isinstance(unavailable(PermissionError(errno.EPERM, "no"), file), NotPermitted)
    if os.geteuid() != 0:
        return  # only root gives files to others
    os.chown(folder, 1, os.getegid())
    other, group = pwd.getpwuid(1).pw_name, grp.getgrgid(os.getegid()).gr_name
    assert not_ours(file).endswith(f"belongs to {other}; have {other} run: chmod g+rwx {folder}")
    os.chown(folder, 54321, 54321)
    assert not_ours(file).endswith(
        f"{folder} belongs to user 54321; as root, run: chgrp {group} {folder} && "
        f"chmod g+rwx {folder}"
    )
    file.write_text("x")
    assert f"{file} belongs to" in not_ours(file)
