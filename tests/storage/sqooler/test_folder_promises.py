"""What a folder promises beyond the contract: progress, starts, scopes, owners, links."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spooler import durable
from spooler.durable import Disk
from spooler.errors import BackendUnavailable, Bug, JobGone, LeaseLost, Scope
from spooler.model.claim import Claim, Lease, Owner
from spooler.model.device import DeviceCard
from spooler.model.job import Queue
from spooler.model.state import State
from spooler.storage.sqooler.folder.backend import FolderBackend
from spooler.storage.sqooler.folder.notes import FORGOTTEN_AFTER
from spooler.testing.bench import (
    DEVICE,
    QUEUE,
    Bench,
    at_once,
    dead,
    leased,
    new_lease,
    other_owner,
    signed_report,
    take,
)
from tests.storage.folder_bench import KEY
from tests.storage.sqooler import upstream
from tests.storage.sqooler.folder_checks import FolderChecks, running_link, said

OTHER = Queue("other", "other")


class TestFolderChecks(FolderChecks):
    """The checks that planted faults name."""


def status_file(base: Path, job_id: str) -> Path:
    return base / "status" / DEVICE / f"{job_id}.json"


def submit_other(base: Path, number: int = 0) -> str:
    """A job of another queue in the same folder."""
    job_id = f"{number:024x}"
    for place, content in (
        (f"status/other/{job_id}.json", b"{}"),
        (f"jobs/queued/other/{job_id}.json", b"{}"),
    ):
        (base / place).parent.mkdir(parents=True, exist_ok=True)
        (base / place).write_bytes(content)
    return job_id


# --- progress --------------------------------------------------------------------------------


def test_progress_of_any_length_is_whole_json(bench: Bench, base: Path) -> None:
    (job_id,) = bench.submit()
    backend = bench.backend()
    claim = take(backend)
    place = status_file(base, job_id)
    inode = place.stat().st_ino
    for text in ("x" * 5000, "short", "y" * 9000, ""):
        backend.show(claim, text)
        shown = json.loads(place.read_bytes())["payload"]["detail"]
        assert shown == (f"Got your json.; {text}" if text else "Got your json.")
    assert place.stat().st_ino == inode, "written in place, never renamed onto it"
    backend.ack(claim, signed_report(claim))
    assert place.stat().st_ino != inode, "a final status is a file of its own"


@pytest.mark.interop
def test_sqooler_reads_progress(bench: Bench, base: Path) -> None:
    """A shorter text leaves blanks behind it."""
    (job_id,) = bench.submit()
    backend = bench.backend()
    claim = take(backend)
    login = upstream.schemes.LocalLoginInformation(base_path=str(base))
    client = upstream.LocalProviderExtended(login, "lab")
    for text in ("x" * 500, "short"):
        backend.show(claim, text)
        assert client.get_status(DEVICE, "", job_id).detail == f"Got your json.; {text}"


def test_without_a_first_status_nothing_is_shown(bench: Bench, base: Path) -> None:
    (job_id,) = bench.submit()
    status_file(base, job_id).unlink()
    backend = bench.backend()
    backend.show(take(backend), "half way")
    assert not status_file(base, job_id).exists()


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "folder"])
def test_progress_is_written_into_no_other_file(bench: Bench, base: Path, kind: str) -> None:
    (job_id,) = bench.submit()
    backend = bench.backend()
    claim = take(backend)
    precious, place = base.parent / "precious", status_file(base, job_id)
    precious.write_text("as it was")
    place.unlink()
    if kind == "link":
        place.symlink_to(precious)
    elif kind == "hard link":
        place.hardlink_to(precious)
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.mkdir()
    backend.show(claim, "half way")
    assert precious.read_text() == "as it was"
    backend.ack(claim, signed_report(claim))
    assert precious.read_text() == "as it was"
    assert bench.submitter.status(DEVICE, job_id).state is State.DONE


def test_a_status_that_we_may_not_write_is_told_of_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It belongs to its submitter; the final one is a file of ours."""
    (job_id,) = bench.submit()
    backend = bench.backend()
    claim = take(backend)

    def closed(_: Disk, place: str, **how: object) -> durable.OpenFile:
        raise PermissionError(13, "Permission denied", place)

    with monkeypatch.context() as patch:
        patch.setattr(Disk, "open_file", closed)
        backend.show(claim, "one")
        backend.show(claim, "two")
    assert len(said(caplog, "progress is not shown")) == 1
    backend.ack(claim, signed_report(claim))
    assert bench.submitter.status(DEVICE, job_id).state is State.DONE


# --- starting --------------------------------------------------------------------------------


def test_a_job_that_is_replaced_by_a_link_does_not_start(bench: Bench, base: Path) -> None:
    bench.submit()
    backend = FolderBackend(base, bench.clock, sync=True)
    claim = take(backend)
    place = base / "spooler" / "claims" / DEVICE / claim.handle
    place.unlink()
    place.symlink_to(base / "spooler" / "storage.json")
    with pytest.raises((BackendUnavailable, LeaseLost)):
        backend.start(claim, 600.0)


# --- scopes ----------------------------------------------------------------------------------


def test_a_file_in_the_place_of_the_results_holds_one_report_up(bench: Bench, base: Path) -> None:
    """Everything else goes on: this queue's other jobs, recovery, and other queues."""
    ids = bench.submit(3)
    other_id = submit_other(base)
    backend = bench.backend()
    (base / "results" / DEVICE).rmdir()
    (base / "results" / DEVICE).write_text("in the way")
    claim = backend.start(take(backend), 600.0)
    with pytest.raises(BackendUnavailable) as trouble:
        backend.ack(claim, signed_report(claim))
    assert trouble.value.scope is Scope.JOB
    backend.ping()
    claim = backend.renew(claim)
    failed = take(backend)
    backend.ack(failed, signed_report(failed, State.ERROR, reason="no result to write"))
    taken = bench.backend().reclaim(QUEUE, new_lease(), dead)
    assert taken is not None
    other = backend.claim(OTHER, new_lease())
    assert other is not None
    backend.ack(other, signed_report(other))
    assert (base / "results" / "other" / f"{other_id}.json").exists()
    assert backend.depth(QUEUE) == 1
    (base / "results" / DEVICE).unlink()
    bench.backend().ack(taken, signed_report(taken))
    assert bench.submitter.status(DEVICE, ids[0]).state is State.DONE


def test_a_file_in_the_place_of_a_queue_is_trouble_of_that_queue(bench: Bench, base: Path) -> None:
    bench.submit()
    (base / "jobs" / "queued" / "other").write_text("in the way")
    backend = bench.backend()
    for ask in (
        lambda: backend.claim(OTHER, new_lease()),
        lambda: backend.depth(OTHER),
        lambda: list(backend.peek(OTHER)),
    ):
        with pytest.raises(BackendUnavailable) as trouble:
            ask()
        assert trouble.value.scope is Scope.QUEUE
    (base / "spooler" / "claims").mkdir(exist_ok=True)
    (base / "spooler" / "claims" / "other").write_text("in the way")
    with pytest.raises(BackendUnavailable) as trouble:
        backend.reclaim(OTHER, new_lease(), leased)
    assert trouble.value.scope is Scope.QUEUE
    take(backend)


def test_an_end_that_cannot_be_completed_holds_no_other_up(bench: Bench, base: Path) -> None:
    bench.submit(2)
    holder = bench.backend()
    stuck = take(holder)
    shutil.rmtree(base / "jobs" / "finished")
    (base / "jobs" / "finished").write_text("in the way")
    with pytest.raises(BackendUnavailable):
        holder.ack(stuck, signed_report(stuck))
    waits = take(holder)
    found = bench.backend().reclaim(QUEUE, new_lease(), dead)
    assert found is not None
    assert found.job.id == waits.job.id


def test_a_job_whose_history_cannot_be_read_holds_no_other_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = bench.submit(2)
    backend = bench.backend()
    backend.release(take(backend), "once", refund=False)
    real = Disk.read

    def closed(self: Disk, place: str, **how: int) -> bytes:
        if "/history/" in place:
            raise PermissionError(13, "Permission denied", place)
        return real(self, place, **how)

    with monkeypatch.context() as patch:
        patch.setattr(Disk, "read", closed)
        assert take(backend).job.id == second
        assert backend.claim(QUEUE, new_lease()) is None
    assert len(said(caplog, first)) == 1
    assert take(backend).attempt == 2


class FailingOs:
    """`os` as durable.py sees it, with one error at every rename: instead of it, or after it."""

    def __init__(self, code: int, *, after: bool = False) -> None:
        self._code = code
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return self._fail if name == "rename" else getattr(os, name)

    def _fail(self, source: str, target: str, **folders: int | None) -> None:
        if self._after:
            os.rename(source, target, **folders)  # noqa: PTH104 - in open folders
        raise OSError(self._code, os.strerror(self._code), source)


WHOLE = ("ENOSPC", "EDQUOT", "EROFS", "EIO", "ESTALE", "EMFILE")


@pytest.mark.parametrize("name", [*WHOLE, "EACCES", "ENOTDIR", "ELOOP"])
def test_how_far_a_trouble_reaches(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    bench.submit(2)
    backend = bench.backend()
    claim, lease = take(backend), new_lease()
    verbs = [
        (Scope.QUEUE, lambda: backend.claim(QUEUE, lease)),
        (Scope.JOB, lambda: backend.start(claim, 600.0)),
        (Scope.JOB, lambda: backend.renew(claim)),
        (Scope.JOB, lambda: backend.ack(claim, signed_report(claim))),
        (Scope.JOB, lambda: backend.release(claim, "x", refund=True)),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(durable, "os", FailingOs(getattr(errno, name)))
        for scope, verb in verbs:
            with pytest.raises(BackendUnavailable) as trouble:
                verb()
            assert trouble.value.scope is (Scope.STORAGE if name in WHOLE else scope)
    again = backend.claim(QUEUE, lease)
    assert again is not None
    backend.ack(claim, signed_report(claim))
    assert bench.submitter.status(DEVICE, claim.job.id).state is State.DONE


@pytest.mark.parametrize("verb", ["claim", "reclaim"])
def test_a_repeat_finds_what_a_call_without_an_answer_has_taken(
    bench: Bench, base: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    bench.submit(2)
    backend, lease = bench.backend(), new_lease()
    assert backend.claim(OTHER, new_lease(lease.owner)) is None  # its owner is known by now
    if verb == "reclaim":
        take(bench.backend()), take(bench.backend())

    def ask() -> Claim | None:
        if verb == "claim":
            return backend.claim(QUEUE, lease)
        return backend.reclaim(QUEUE, lease, dead)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "os", FailingOs(errno.EIO, after=True))
        with pytest.raises(BackendUnavailable):
            ask()
    claims = base / "spooler" / "claims" / DEVICE
    (taken,) = claims.glob(f"*.{lease.token}.*")
    found = ask()
    assert found is not None
    assert (found.handle, found.lease) == (taken.name, lease)
    assert list(claims.glob(f"*.{lease.token}.*")) == [taken]


def test_a_missing_folder_is_trouble_of_the_storage(bench: Bench, base: Path) -> None:
    bench.submit(2)
    backend, lease = bench.backend(), new_lease()
    claim = backend.claim(QUEUE, lease)
    assert claim is not None
    base.rename(base.with_name("away"))
    for ask in (
        lambda: backend.claim(QUEUE, new_lease(lease.owner)),
        lambda: backend.reclaim(QUEUE, new_lease(), leased),
        lambda: backend.depth(QUEUE),
        lambda: list(backend.peek(QUEUE)),
        lambda: backend.start(claim, 600.0),
        lambda: backend.renew(claim),
        lambda: backend.ack(claim, signed_report(claim)),
        lambda: backend.release(claim, "x", refund=True),
        lambda: backend.claim(QUEUE, new_lease()),
        lambda: backend.catalogue.announce(QUEUE, DeviceCard(DEVICE), bench.clock.now()),  # type: ignore[union-attr]
        backend.ping,
    ):
        with pytest.raises(BackendUnavailable, match="missing or empty") as trouble:
            ask()
        assert trouble.value.scope is Scope.STORAGE
    backend.show(claim, "nobody sees it")
    assert not base.exists(), "nothing is made in the place of the mount"


def test_a_file_in_the_place_of_the_folder_is_trouble_of_the_storage(
    bench: Bench, base: Path
) -> None:
    bench.submit()
    backend = bench.backend()
    take(backend)
    base.rename(base.with_name("away"))
    base.touch()
    assert backend.catalogue is not None
    with pytest.raises(BackendUnavailable, match="not a folder") as trouble:
        backend.catalogue.check_key_owner(QUEUE)
    assert trouble.value.scope is Scope.STORAGE


# --- lost claims -----------------------------------------------------------------------------


def test_a_deleted_job_is_told_from_one_taken_over(bench: Bench) -> None:
    gone, taken = bench.submit(2)
    backend = bench.backend()
    first, second = take(backend), take(backend)
    assert (first.job.id, second.job.id) == (gone, taken)
    assert bench.delete is not None
    bench.delete(gone)
    with pytest.raises(JobGone):
        backend.ack(first, signed_report(first))
    new = bench.backend().reclaim(QUEUE, new_lease(), dead)
    assert new is not None
    with pytest.raises(LeaseLost) as lost:
        backend.renew(second)
    assert not isinstance(lost.value, JobGone)
    bench.backend().ack(new, signed_report(new))
    with pytest.raises(LeaseLost) as lost:
        backend.renew(second)
    assert not isinstance(lost.value, JobGone)


def test_a_handle_of_another_claim_is_only_a_hint(bench: Bench) -> None:
    """A record is foreign bytes: its handle must not lead to somebody else's claim."""
    one, two = bench.submit(2)
    backend = bench.backend()
    first, second = take(backend), take(backend)
    crossed = replace(first, handle=second.handle)
    bench.backend().ack(crossed, signed_report(crossed))
    assert bench.submitter.status(DEVICE, one).state is State.DONE
    assert bench.submitter.status(DEVICE, two).state is State.RUNNING


def test_two_threads_may_bring_the_same_report(bench: Bench) -> None:
    for job_id in bench.submit(20):
        backend = bench.backend()
        claim = take(backend)
        report = signed_report(claim, data={"id": job_id})
        at_once(*[lambda: backend.ack(claim, report)] * 3)  # noqa: B023 - run in this round
        assert bench.submitter.result(DEVICE, job_id).data == {"id": job_id}


# --- what sqooler shows ----------------------------------------------------------------------


def test_a_job_waits_while_another_of_its_id_runs_elsewhere(
    bench: Bench, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = bench.backend()
    job_id = submit_other(base)
    running = backend.claim(OTHER, new_lease())
    assert running is not None
    place = base / "jobs" / "queued" / DEVICE / f"{job_id}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"{}")
    for _ in range(2):
        assert backend.claim(QUEUE, new_lease()) is None
    assert len(said(caplog, "is claimed in another queue")) == 1
    backend.ack(running, signed_report(running))
    assert take(backend).job.id == job_id


def test_a_stale_link_is_told_of_once(
    bench: Bench, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (job_id,) = bench.submit()
    backend = bench.backend()
    for _ in range(2):
        link = running_link(base, job_id)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.write_text("{}")
        claim = take(backend)
        backend.release(claim, "again", refund=True)
    assert len(said(caplog, "jobs/running")) == 1


def test_a_file_in_the_place_of_the_running_jobs_decides_nothing(bench: Bench, base: Path) -> None:
    ids = bench.submit(2)
    running = base / "jobs" / "running"
    running.rmdir()
    running.write_text("in the way")
    backend = bench.backend()
    backend.release(take(backend), "x", refund=True)
    for job_id in ids:
        claim = backend.start(take(backend), 600.0)
        backend.ack(claim, signed_report(claim))
        assert bench.submitter.status(DEVICE, job_id).state is State.DONE
    assert running.read_text() == "in the way"


# --- owners ----------------------------------------------------------------------------------


def owners(base: Path) -> set[str]:
    return {each.stem for each in (base / "spooler" / "owners").glob("*.json")}


def age(base: Path, owner: Owner, bench: Bench, seconds: float) -> None:
    when = bench.clock.now().timestamp() - seconds
    os.utime(base / "spooler" / "owners" / f"{owner.process}.json", (when, when))


def test_owners_without_claims_are_forgotten_after_a_day(bench: Bench, base: Path) -> None:
    bench.submit(4)
    idle, busy, young, me = (other_owner() for _ in range(4))
    for owner in (idle, busy, young):
        backend = bench.backend()
        claim = take(backend, owner)
        age(base, owner, bench, 10.0 if owner is young else FORGOTTEN_AFTER + 1)
        if owner is not busy:
            backend.ack(claim, signed_report(claim))
    take(bench.backend(), me)
    assert owners(base) == {busy.process, young.process, me.process}


def test_a_process_that_claims_says_again_who_it_is(bench: Bench, base: Path) -> None:
    """So that it is never one that has said nothing for a day."""
    bench.submit(2)
    backend, me = bench.backend(), other_owner()
    claim = take(backend, me)
    backend.ack(claim, signed_report(claim))
    (base / "spooler" / "owners" / f"{me.process}.json").unlink()
    bench.clock.advance(FORGOTTEN_AFTER)
    take(backend, me)
    assert owners(base) == {me.process}


def test_an_owner_goes_at_close_unless_claims_remain(bench: Bench, base: Path) -> None:
    bench.submit(2)
    one, two = other_owner(), other_owner()
    first, second = bench.backend(), bench.backend()
    claim = take(first, one)
    first.ack(claim, signed_report(claim))
    take(second, two)
    first.close()
    second.close()
    assert owners(base) == {two.process}


@pytest.mark.parametrize("process", ["a.b", "a/b", "", "a" * 100, "é"])
def test_a_claim_that_no_name_can_hold_is_not_made(bench: Bench, base: Path, process: str) -> None:
    """A job under a name that nobody can read would be lost."""
    bench.submit()
    backend = bench.backend()
    with pytest.raises(Bug):
        backend.claim(QUEUE, Lease("ab", replace(other_owner(), process=process), 30.0))
    assert backend.depth(QUEUE) == 1


@pytest.mark.parametrize("ttl", [0.0, 1e-9, 1e12])
def test_a_lease_of_any_length_has_a_name(bench: Bench, ttl: float) -> None:
    bench.submit()
    backend = bench.backend()
    claim = backend.claim(QUEUE, new_lease(ttl=ttl))
    assert claim is not None
    backend.ack(backend.renew(claim), signed_report(claim))


# --- names -----------------------------------------------------------------------------------


def test_a_queue_is_announced_under_its_own_name(bench: Bench, base: Path) -> None:
    backend = bench.backend()
    assert backend.catalogue is not None
    queue = Queue("lab7", "cryo-fridge")
    backend.catalogue.announce(queue, DeviceCard("cryo-fridge"), bench.clock.now())
    content = json.loads((base / "backends" / "configs" / "lab7.json").read_text())
    assert content["payload"]["display_name"] == "lab7"
    assert "cryo" not in json.dumps(content)


def test_one_storage_has_one_address(bench: Bench, base: Path) -> None:
    link = base.parent / "link"
    link.symlink_to(base)
    views = [FolderBackend(place, bench.clock, signer=KEY) for place in (base, link)]
    assert {view.address for view in views} == {f"sqooler-local:{base.resolve()}"}


def test_jobs_that_wait_for_their_delay_are_not_peeked_at(bench: Bench) -> None:
    first, second = bench.submit(2)
    backend = bench.backend()
    backend.release(take(backend), "later", refund=True, delay=60.0)
    assert [job.id for job in backend.peek(QUEUE)] == [second]
    bench.clock.advance(61.0)
    assert [job.id for job in backend.peek(QUEUE)] == [first, second]
