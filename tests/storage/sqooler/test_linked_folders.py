"""Links that others put in the place of folders below the storage's own: none is followed."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from spooler import durable
from spooler.durable import Disk, exists
from spooler.errors import BackendUnavailable, Scope, SpoolerError
from spooler.model.device import DeviceCard
from spooler.model.storage import Standing
from spooler.storage.sqooler.client.documents import LocalLoginInformation
from spooler.storage.sqooler.client.local import LocalCore
from spooler.testing.bench import DEVICE, QUEUE, Bench, new_lease, signed_report, take
from tests.storage.folder_bench import folder_bench

SAID = "a link where a folder is expected"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    made = tmp_path / "outside"
    made.mkdir()
    return made


def swap(folder: Path, outside: Path) -> None:
    """A stranger's move; what was in the folder is outside too, so that nothing is missing."""
    if folder.is_dir():
        shutil.copytree(folder, outside, dirs_exist_ok=True)
        folder.rename(folder.with_name(f"{folder.name}.before"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(outside, target_is_directory=True)


def content(folder: Path) -> dict[str, Any]:
    """All that is below a folder, and when it was changed."""
    found = {}
    for each in folder.rglob("*"):
        said = each.stat()
        text = each.read_bytes() if each.is_file() else b""
        found[str(each.relative_to(folder))] = text, said.st_ino, said.st_nlink, said.st_mtime_ns
    return found


@pytest.mark.parametrize("place", [f"jobs/queued/{DEVICE}", "jobs/queued", "jobs"])
def test_a_linked_queue_is_not_worked_off(
    bench: Bench, base: Path, outside: Path, place: str
) -> None:
    bench.submit()
    swap(base / place, outside)
    before = content(outside)
    with pytest.raises(BackendUnavailable, match=SAID) as refused:
        bench.backend().claim(QUEUE, new_lease())
    assert refused.value.scope is Scope.QUEUE
    assert f"{base / place}: {SAID}" in str(refused.value)
    assert content(outside) == before


@pytest.mark.parametrize(
    "place",
    [
        "results",
        "status",
        f"results/{DEVICE}",
        f"status/{DEVICE}",
        f"spooler/reports/{DEVICE}",
        f"jobs/finished/{DEVICE}",
        f"spooler/claims/{DEVICE}",
        "spooler",
    ],
)
def test_the_end_of_a_job_waits_for_a_folder(
    bench: Bench, base: Path, outside: Path, place: str
) -> None:
    (job_id,) = bench.submit()
    backend = bench.backend()
    claim = backend.start(take(backend), 600.0)
    swap(base / place, outside)
    before = content(outside)
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match=SAID):
            backend.ack(claim, signed_report(claim))
    assert content(outside) == before
    (base / place).unlink()
    if (old := (base / place).with_name(f"{(base / place).name}.before")).is_dir():
        old.rename(base / place)
    backend.ack(claim, signed_report(claim))
    assert bench.submitter.verify(DEVICE, job_id).ok


@pytest.mark.parametrize("place", ["jobs/running", f"spooler/replaced/{DEVICE}"])
def test_what_is_only_shown_or_kept_stops_no_job(
    bench: Bench, base: Path, outside: Path, place: str
) -> None:
    (job_id,) = bench.submit()
    swap(base / place, outside)
    before = content(outside)
    backend = bench.backend()
    claim = backend.start(take(backend), 600.0)
    backend.ack(claim, signed_report(claim))
    assert bench.submitter.verify(DEVICE, job_id).ok
    assert content(outside) == before


def test_progress_recovery_and_the_way_back(bench: Bench, base: Path, outside: Path) -> None:
    bench.submit()
    backend = bench.backend()
    claim = take(backend)
    swap(base / "status" / DEVICE, outside)
    before = content(outside)
    with pytest.raises(BackendUnavailable, match=SAID):
        backend.show(claim, "half-way")
    assert content(outside) == before
    shutil.rmtree(outside)
    outside.mkdir()
    swap(base / "spooler" / "claims" / DEVICE, outside)
    before = content(outside)
    for verb in (
        lambda: backend.release(claim, "later", refund=True),
        lambda: backend.renew(claim),
        lambda: backend.reclaim(QUEUE, new_lease(), lambda _: Standing.DEAD),
    ):
        with pytest.raises(BackendUnavailable, match=SAID):
            verb()
    assert content(outside) == before


@pytest.mark.parametrize("place", ["backends", "backends/configs", "backends/public_keys"])
def test_a_linked_catalogue_is_not_written(
    bench: Bench, base: Path, outside: Path, place: str
) -> None:
    swap(base / place, outside)
    before = content(outside)
    with pytest.raises(BackendUnavailable, match=SAID):
        bench.backend().catalogue.announce(QUEUE, DeviceCard(DEVICE), bench.clock.now())
    assert content(outside) == before


def test_the_storage_itself_may_be_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk" / "lab").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    for bench in folder_bench(tmp_path / "link" / "lab"):
        (job_id,) = bench.submit()
        backend = bench.backend()
        claim = backend.start(take(backend), 600.0)
        backend.ack(claim, signed_report(claim))
        assert bench.submitter.verify(DEVICE, job_id).ok


class Swapping:
    """`os` as durable.py sees it; right before call number `nth` a folder is swapped."""

    def __init__(self, nth: int, folder: Path, outside: Path) -> None:
        self.left = nth
        self._folder, self._outside = folder, outside
        self.before: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in {"open", "rename", "link", "unlink", "mkdir", "access", "lstat", "close"}:
            return real

        def call(*args: Any, **folders: Any) -> Any:
            self.left -= 1
            if not self.left:
                swap(self._folder, self._outside)
                self.before = content(self._outside)
            return real(*args, **folders)

        return call


@pytest.mark.parametrize("place", [f"jobs/queued/{DEVICE}", f"results/{DEVICE}", "spooler"])
def test_at_whatever_moment_it_is_swapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A look beforehand would not do: the link may come right after it."""
    for nth in range(1, 400):
        base, outside = tmp_path / f"storage{nth}", tmp_path / f"outside{nth}"
        outside.mkdir()
        for bench in folder_bench(base):
            bench.submit()
            backend = bench.backend()
            swapping = Swapping(nth, base / place, outside)
            with monkeypatch.context() as patch, suppress(SpoolerError, AssertionError):
                patch.setattr(durable, "os", swapping)
                claim = backend.start(take(backend), 600.0)
                backend.ack(claim, signed_report(claim))
            if swapping.left > 0:
                assert nth > 30, "the storage was not asked through durable.py"
                return
            assert content(outside) == swapping.before, f"swapped before call {nth}"
    pytest.fail("there was no end")


# --- the submitter's side ---------------------------------------------------------------------


def test_a_submitter_follows_none(tmp_path: Path, outside: Path) -> None:
    base = tmp_path / "storage"
    core = LocalCore(LocalLoginInformation(base_path=str(base)), "lab", disk=Disk(sync=False))
    core.upload({"a": 1}, "p/q", "x")
    core.upload({"a": 1}, "there", "y")
    swap(base / "p" / "q", outside)
    before = content(outside)
    for verb in (
        lambda: core.get("p/q", "x"),
        lambda: core.upload({"a": 2}, "p/q", "y"),
        lambda: core.update({"a": 2}, "p/q", "x"),
        lambda: core.delete("p/q", "x"),
        lambda: core.move("p/q", "there", "x"),
        lambda: core.move("there", "p/q", "y"),
        lambda: core.ids("p/q"),
    ):
        with pytest.raises(BackendUnavailable, match=f"p/q: {SAID}"):
            verb()
    assert core.branches("p") == ["q.before"]
    assert content(outside) == before


# --- the disk beneath -------------------------------------------------------------------------


def open_handles() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only


def test_nothing_stays_open(tmp_path: Path) -> None:
    """An open folder would keep the storage's disk from being unmounted."""
    disk = Disk(sync=False).beneath(tmp_path)
    before = open_handles()
    with disk.visited():
        disk.publish(f"{tmp_path}/a/b/c", b"text", mark="1")
        disk.names(f"{tmp_path}/d/e")
        assert open_handles() > before
    assert open_handles() == before
    disk.rename(f"{tmp_path}/a/b/c", f"{tmp_path}/f/g")
    assert disk.read(f"{tmp_path}/f/g") == b"text"
    assert open_handles() == before


def test_errors_name_the_whole_place(tmp_path: Path) -> None:
    disk = Disk(sync=False).beneath(tmp_path)
    disk.make_folder(f"{tmp_path}/a")
    with pytest.raises(FileNotFoundError) as missing:
        disk.read(f"{tmp_path}/a/b")
    assert missing.value.filename == f"{tmp_path}/a/b"
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as wrong:
        disk.stage(f"{tmp_path}/file/x", b"")
    assert wrong.value.filename == f"{tmp_path}/file"


def test_a_link_in_the_place_of_a_file_is_moved_and_not_followed(
    tmp_path: Path, outside: Path
) -> None:
    base = tmp_path / "storage"
    disk = Disk(sync=False).beneath(base)
    (outside / "secret").write_text("secret")
    disk.make_folder(base / "a")
    (base / "a" / "x").symlink_to(outside / "secret")
    assert disk.link(f"{base}/a/x", f"{base}/a/y")
    assert (base / "a" / "y").is_symlink()
    disk.set_age(f"{base}/a/x", 1_000_000_000)
    assert (outside / "secret").stat().st_mtime > 1_000_000
    with pytest.raises(FileNotFoundError):
        disk.read(f"{base}/a/y")
    assert exists(outside / "secret")


def test_where_the_folder_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    disk = Disk(sync=False).beneath(".")
    disk.publish("a/b", b"text", mark="1")
    disk.publish("c", b"text", mark="1")
    assert disk.read("a/b") == disk.read("c") == b"text"
    assert sorted(disk.names(".")) == ["a", "c"]
