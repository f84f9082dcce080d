from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path

import pytest

from spooler import durable
from spooler.app.parts import lock_state
from spooler.daemon.reports.outbox import Entry, Outbox
from spooler.errors import BackendUnavailable
from spooler.model.claim import Claim
from spooler.model.result import SignedReport
from spooler.model.state import State
from spooler.observe.events import EventName
from spooler.testing.bench import DEVICE, TTL, new_token, other_owner, signed_report
from tests.daemon.parts import Parts


def entry(parts: Parts) -> Entry:
    parts.submit()
    claim = parts.claim()
    return Entry(claim, signed_report(claim, data={"value": "ü \u2028", "list": [1.5, None]}))


def test_an_entry_survives_the_process(parts: Parts, tmp_path: Path) -> None:
    kept = entry(parts)
    parts.outbox.keep(kept)
    (restored,) = Outbox(tmp_path / "outbox").restore()
    assert restored.signed == kept.signed
    same = ("owner", "attempt", "token", "handle", "started")
    assert [getattr(restored.claim, key) for key in same] == [
        getattr(kept.claim, key) for key in same
    ]
    assert restored.name == kept.name
    parts.outbox.drop(kept)
    assert Outbox(tmp_path / "outbox").restore() == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"claim": {}}', b"null", b"\xff"])
def test_a_damaged_entry_is_set_aside_and_kept(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "outbox"
    folder.mkdir()
    (folder / "spins.x.1.t.json").write_bytes(content)
    assert Outbox(folder).restore() == []
    assert (folder / "parked" / "spins.x.1.t.json").read_bytes() == content


def test_an_outage_is_outlived(parts: Parts) -> None:
    job_id = parts.submit()
    held = parts.keeper.hold(parts.claim(), lambda _: None)
    parts.backend.away = True
    parts.delivery.finish(held, signed_report(held.claim), parts.patience)
    assert parts.delivery.waiting == 1
    assert parts.delivery.spared() == {held.claim.token}
    parts.delivery.retry()
    assert parts.delivery.waiting == 1
    parts.backend.away = False
    parts.delivery.retry()
    assert parts.delivery.waiting == 0
    assert parts.submitter.status(DEVICE, job_id).state is State.DONE
    assert parts.keeper.held_tokens() == set(), "a delivered claim is renewed no more"
    assert parts.events().count(EventName.STORAGE_AWAY) == 1, "one line per outage"
    assert EventName.STORAGE_BACK in parts.events()


def test_a_lost_answer_does_no_harm(parts: Parts) -> None:
    job_id = parts.submit()
    held = parts.keeper.hold(parts.claim(), lambda _: None)
    parts.backend.deaf = {"ack"}
    parts.delivery.finish(held, signed_report(held.claim, data={"value": 3}), parts.patience)
    assert parts.delivery.waiting == 1
    parts.backend.deaf = set()
    parts.delivery.retry()
    assert parts.delivery.waiting == 0
    assert parts.submitter.result(DEVICE, job_id).data == {"value": 3}
    assert EventName.REPORT_PARKED not in parts.events()


def test_a_slow_storage_does_not_keep_the_device(parts: Parts) -> None:
    """Its reports are left to the outbox, a few at most; they are safe on the disk by then."""
    soon: list[int] = []
    parts.delivery._soon = lambda: soon.append(parts.delivery.waiting)
    real = parts.backend.inner.ack

    def slow_ack(claim: Claim, signed: SignedReport) -> None:
        real(claim, signed)
        parts.clock.advance(0.02)

    parts.backend.inner.ack = slow_ack  # type: ignore[method-assign]
    jobs = [parts.submit() for _ in range(7)]
    parts.execute()
    assert parts.delivery.waiting == 0, "nobody knows yet that it is slow"
    for _ in jobs[1:]:
        parts.execute()
    assert soon == [1, 2, 3, 4]
    ended = [parts.submitter.status(DEVICE, job).state is State.DONE for job in jobs]
    assert ended == [True, *[False] * 4, True, True], "who finds the outbox full delivers himself"
    assert len(parts.keeper.held_tokens()) == 4, "what is not delivered is still held"
    assert parts.delivery.spared() == parts.keeper.held_tokens()
    parts.backend.inner.ack = real  # type: ignore[method-assign]
    parts.delivery.retry()
    assert all(parts.submitter.status(DEVICE, job).state is State.DONE for job in jobs)
    parts.submit()
    parts.execute()
    assert parts.delivery.waiting == 0, "it is quick again"
    assert parts.keeper.held_tokens() == set()


def test_the_next_job_runs_while_a_report_is_under_way(parts: Parts) -> None:
    real, asked, answer = parts.backend.inner.ack, threading.Event(), threading.Event()

    def slow_ack(claim: Claim, signed: SignedReport) -> None:
        asked.set()
        assert answer.wait(30)
        real(claim, signed)

    parts.delivery._slow = True
    jobs = [parts.submit() for _ in range(2)]
    parts.execute()
    parts.backend.inner.ack = slow_ack  # type: ignore[method-assign]
    outbox = threading.Thread(target=parts.delivery.retry)
    outbox.start()
    assert asked.wait(30)
    parts.execute()
    assert [each.job_id for each in parts.runner.requests] == jobs
    parts.keeper.renew_due()  # does not wait for the claim that is being written about
    answer.set()
    outbox.join()
    parts.delivery.retry()
    assert parts.delivery.waiting == 0
    assert all(parts.submitter.status(DEVICE, job).state is State.DONE for job in jobs)


def test_no_job_is_begun_while_refused_reports_pile_up(parts: Parts) -> None:
    """A full storage still gives jobs away, by renames; their results would wait in vain."""
    parts.backend.refused = {"ack"}
    jobs = [parts.submit() for _ in range(7)]
    for _ in jobs[:5]:
        assert parts.delivery.keeps_up()
        parts.execute()
    assert not parts.delivery.keeps_up()
    parts.clock.advance(61)
    assert parts.delivery.keeps_up(), "one more: it may be these reports, and not the storage"
    assert not parts.delivery.keeps_up()
    parts.backend.refused = set()
    parts.delivery.retry()
    assert parts.delivery.keeps_up()
    assert all(parts.submitter.status(DEVICE, job).state is State.DONE for job in jobs[:5])


def test_a_later_process_delivers(parts: Parts, tmp_path: Path) -> None:
    job_id = parts.submit()
    held = parts.keeper.hold(parts.claim(), lambda _: None)
    parts.backend.away = True
    parts.delivery.finish(held, signed_report(held.claim), parts.patience)
    later = Parts(tmp_path, storage=parts.storage, clock=parts.clock)
    assert later.delivery.restore() == 1
    later.clock.advance(TTL + 1)
    assert later.recovery.recover(later.rules, "1") == 0, "recovery leaves it to the outbox"
    later.delivery.retry()
    assert later.submitter.status(DEVICE, job_id).state is State.DONE


def test_a_late_report_is_parked_and_overwrites_nothing(parts: Parts, tmp_path: Path) -> None:
    job_id = parts.submit()
    held = parts.keeper.hold(parts.claim(), lambda _: None)
    parts.backend.away = True
    parts.delivery.finish(held, signed_report(held.claim, data={"value": "old"}), parts.patience)
    parts.backend.away = False
    parts.clock.advance(TTL + 1)
    other = parts.backend.reclaim(DEVICE, other_owner(), TTL, new_token())
    parts.backend.ack(other, signed_report(other, data={"value": "new"}))
    parts.delivery.retry()
    assert parts.submitter.result(DEVICE, job_id).data == {"value": "new"}
    assert parts.delivery.waiting == 0
    parked = sorted(path.name for path in (tmp_path / "outbox" / "parked").iterdir())
    assert len(parked) == 2, parked
    assert (
        "taken over"
        in json.loads((tmp_path / "outbox" / "parked" / parked[1]).read_text())["reason"]
        or "no longer held" in (tmp_path / "outbox" / "parked" / parked[1]).read_text()
    )


class _FullDisk:
    """`os` as durable.py sees it, on a full disk."""

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def write(self, *_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_own_disk_does_not_keep_a_report_from_the_storage(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = parts.submit()
    held = parts.keeper.hold(parts.claim(), lambda _: None)
    monkeypatch.setattr(durable, "os", _FullDisk())
    parts.delivery.finish(held, signed_report(held.claim), parts.patience)
    assert parts.submitter.status(DEVICE, job_id).state is State.DONE


def test_neither_disk_nor_storage(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report stays in memory, the lease stays ours, and both are tried until one is back."""
    job_id = parts.submit()
    held = parts.keeper.hold(parts.claim(), lambda _: None)
    parts.backend.away = True
    with monkeypatch.context() as full:
        full.setattr(durable, "os", _FullDisk())
        waits = 0

        def patience(_: float) -> bool:
            nonlocal waits
            waits += 1
            assert parts.keeper.held_tokens() == {held.claim.token}
            if waits == 3:
                parts.backend.away = False
            return True

        parts.delivery.finish(held, signed_report(held.claim), patience)
    assert waits == 3
    assert parts.submitter.status(DEVICE, job_id).state is State.DONE


def test_keep_says_what_is_wrong(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = entry(parts)
    monkeypatch.setattr(durable, "os", _FullDisk())
    with pytest.raises(BackendUnavailable, match="the disk is full"):
        parts.outbox.keep(kept)
    assert len(parts.outbox) == 0
    assert isinstance(kept.signed, SignedReport)


def test_a_late_report_waits_for_room_to_be_parked(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The own disk is full and the job is somebody else's: the measurement is kept all the same."""
    parts.submit()
    held = parts.keeper.hold(parts.claim(), lambda _: None)
    parts.clock.advance(TTL + 1)
    other = parts.backend.reclaim(DEVICE, other_owner(), TTL, new_token())
    parts.backend.ack(other, signed_report(other))
    waits = 0
    with monkeypatch.context() as full:
        full.setattr(durable, "os", _FullDisk())

        def patience(_: float) -> bool:
            nonlocal waits
            waits += 1
            if waits == 3:
                full.undo()
            return waits < 10

        parts.delivery.finish(held, signed_report(held.claim), patience)
    assert waits == 3
    assert len(list((tmp_path / "outbox" / "parked").glob("*.json"))) == 1
    assert parts.events().count(EventName.REPORT_PARKED) == 1


def test_a_report_that_the_storage_does_not_take_keeps_no_other_waiting(parts: Parts) -> None:
    jobs = [parts.submit() for _ in range(4)]
    parts.backend.refused = {"ack"}
    for _ in jobs:
        parts.execute()
    assert parts.delivery.waiting == 4
    parts.backend.refused = set()
    real = parts.backend.inner.ack

    def ack(claim: Claim, signed: SignedReport) -> None:
        if claim.job.id in {jobs[0], jobs[2]}:
            raise BackendUnavailable("this one is too large")
        real(claim, signed)

    parts.backend.inner.ack = ack  # type: ignore[method-assign]
    for _ in range(4):
        parts.delivery.retry()
    ended = [parts.submitter.status(DEVICE, job).state is State.DONE for job in jobs]
    assert ended == [False, True, False, True]
    assert parts.delivery.waiting == 2


def test_what_waits_is_not_for_everybody(parts: Parts, tmp_path: Path) -> None:
    kept = entry(parts)
    before = os.umask(0)
    try:
        parts.outbox.keep(kept)
        os.close(lock_state(tmp_path / "state"))
    finally:
        os.umask(before)
    assert (tmp_path / "outbox" / kept.name).stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o750


def test_half_written_entries_do_not_pile_up(parts: Parts, tmp_path: Path) -> None:
    parts.outbox.keep(entry(parts))
    (tmp_path / "outbox" / "parked").mkdir()
    halves = [tmp_path / "outbox" / ".x.json.new.tmp", tmp_path / "outbox/parked/.y.new.tmp"]
    for half in halves:
        half.write_bytes(b"{")
    assert len(Outbox(tmp_path / "outbox").restore()) == 1
    assert not any(half.exists() for half in halves)


def test_what_an_earlier_process_left_is_renewed_until_it_is_delivered(
    parts: Parts, tmp_path: Path
) -> None:
    job_id = parts.submit()
    parts.backend.refused = {"ack"}
    parts.execute()
    later = Parts(tmp_path, storage=parts.storage, clock=parts.clock)
    later.backend.refused = {"ack"}
    later.delivery.restore()
    for _ in range(20):
        later.clock.advance(TTL / 4)
        later.keeper.renew_due()
        assert parts.backend.inner.reclaim(DEVICE, other_owner(), TTL, new_token()) is None
    later.backend.refused = set()
    later.delivery.retry()
    assert later.submitter.status(DEVICE, job_id).state is State.DONE
    assert later.keeper.held_tokens() == set()
