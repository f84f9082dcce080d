"""What a folder promises beyond the contract: checks that planted faults name, too."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from spooler import durable
from spooler.errors import LeaseLost
from spooler.model.state import State
from spooler.storage.sqooler.folder.backend import FolderBackend
from spooler.testing.bench import (
    DEVICE,
    QUEUE,
    Bench,
    dead,
    new_lease,
    signed_report,
    take,
)
from tests.storage.folder_bench import KEY


class PausedSigner:
    """Signs with the bench's key; `pause` is called first.

    Progress is signed after the claim was looked at and before it is written, so this is where a
    process stands still.
    """

    kid = KEY.kid

    def __init__(self, pause: Callable[[], None]) -> None:
        self._pause = pause

    def sign(self, message: bytes) -> bytes:
        self._pause()
        return KEY.sign(message)

    def jws(self, payload: bytes) -> str:
        return KEY.jws(payload)

    def public(self) -> dict[str, str]:
        return KEY.public()


class _Recorded:
    """`os` as durable.py sees it; `seen` is called with each call before it is done."""

    def __init__(self, seen: Callable[[str, tuple[Any, ...]], None]) -> None:
        self._seen = seen

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in {"fsync", "rename"}:
            return real

        def call(*args: Any, **folders: int) -> Any:
            self._seen(name, args)
            return real(*args, **folders)

        return call


@contextmanager
def watching(seen: Callable[[str, tuple[Any, ...]], None]) -> Iterator[None]:
    """Tell of each fsync and rename meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable, "os", _Recorded(seen))
        yield


def running_link(base: Path, job_id: str) -> Path:
    return base / "jobs" / "running" / f"{job_id}.json"


class FolderChecks:
    """Mixed into a test class with the fixtures `bench` and `base`."""

    # --- progress ---------------------------------------------------------------------------

    @pytest.mark.parametrize("thief", [False, True], ids=["by-us", "by-another"])
    def test_progress_of_who_stood_still_leaves_a_final_status(
        self, bench: Bench, base: Path, thief: bool
    ) -> None:
        """The claim is ours when it is looked at; the job ends before the progress is written."""
        (job_id,) = bench.submit()
        ended = []

        def end() -> None:
            if not ended:
                ended.append(True)
                backend = bench.backend()
                new = backend.reclaim(QUEUE, new_lease(), dead) if thief else claim
                assert new is not None
                backend.ack(new, signed_report(new))

        holder = FolderBackend(base, bench.clock, signer=PausedSigner(end))
        claim = holder.start(take(holder), 600.0)
        holder.show(claim, "still at it")
        assert ended
        assert bench.submitter.status(DEVICE, job_id).state is State.DONE
        holder.show(claim, "and still")
        assert bench.submitter.status(DEVICE, job_id).state is State.DONE

    # --- the end ----------------------------------------------------------------------------

    def test_a_repeated_report_is_not_taken_for_a_late_one(self, bench: Bench, base: Path) -> None:
        bench.submit()
        backend = bench.backend()
        claim = take(backend)
        backend.ack(claim, signed_report(claim))
        for again in (backend, bench.backend()):
            try:
                again.ack(claim, signed_report(claim))
            except LeaseLost as error:
                pytest.fail(f"a repeated report was refused: {error}")

    def test_a_report_with_an_older_handle_is_taken_by_another_view(
        self, bench: Bench, base: Path
    ) -> None:
        """A report in a record knows the name that the claim had when it was made."""
        (job_id,) = bench.submit()
        backend = bench.backend()
        claim = take(backend)
        backend.renew(backend.renew(claim))
        try:
            bench.backend().ack(claim, signed_report(claim))
        except LeaseLost as error:
            pytest.fail(f"a report with an older handle was refused: {error}")
        assert bench.submitter.status(DEVICE, job_id).state is State.DONE

    # --- the start --------------------------------------------------------------------------

    def test_the_job_is_durable_before_it_has_started(self, bench: Bench, base: Path) -> None:
        """What its submitter wrote may be in memory only: a power cut would leave an empty job."""
        bench.submit()
        backend = FolderBackend(base, bench.clock, sync=True)
        claim = take(backend)
        claims = base / "spooler" / "claims" / DEVICE
        job = (claims / claim.handle).stat().st_ino
        seen: list[str] = []

        def see(name: str, args: tuple[Any, ...]) -> None:
            if name == "fsync":
                inode = os.fstat(args[0]).st_ino
                known = {job: "job", claims.stat().st_ino: "claims"}
                seen.append(f"fsync {known.get(inode, 'another')}")
            else:
                seen.append("rename")

        with watching(see):
            assert backend.start(claim, 600.0).started
        steps = [each for each in seen if each != "fsync another"]
        assert steps == ["fsync job", "rename", "fsync claims"]

    # --- what sqooler shows -----------------------------------------------------------------

    def test_a_stale_link_keeps_no_job_from_running(self, bench: Bench, base: Path) -> None:
        (job_id,) = bench.submit()
        link = running_link(base, job_id)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.write_text('{"of": "an operator"}')
        claim = take(bench.backend())
        assert claim.job.id == job_id
        assert link.samefile(base / "spooler" / "claims" / DEVICE / claim.handle)
        (aside,) = link.parent.glob("*.aside-*")
        assert aside.read_text() == '{"of": "an operator"}'


def said(caplog: pytest.LogCaptureFixture, word: str) -> list[str]:
    """The warnings of the storage that say `word`."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING and word in record.getMessage()
    ]
