from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path

import pytest

from spooler import durable
from spooler.app.state_lock import StateLock
from spooler.daemon.claims.records import Phase, Record, Records
from spooler.errors import BackendUnavailable
from spooler.model.claim import Claim
from spooler.model.result import SignedReport
from spooler.model.state import State
from spooler.observe.events import EventName
from spooler.testing.bench import DEVICE, QUEUE, TTL, leased, new_lease
from tests.daemon.parts import Parts, opener


def entry(parts: Parts) -> Record:
    parts.submit()
    claim = parts.claim()
    signed = parts.report(claim, {"value": "ü \u2028", "list": [1.5, None]})
    return Record(claim, DEVICE, Phase.REPORT, signed)


def nothing_unreadable(path: Path, why: str) -> None:
    pytest.fail(f"{path}: {why}")


def test_a_record_survives_the_process(parts: Parts) -> None:
    kept = entry(parts)
    parts.records.keep(kept)
    restored = Records(parts.records.folder)
    restored.load(opener(), nothing_unreadable)
    (found,) = restored.of(Phase.REPORT)
    assert found.signed == kept.signed
    same = ("owner", "attempt", "token", "handle", "started")
    assert [getattr(found.claim, key) for key in same] == [getattr(kept.claim, key) for key in same]
    assert (found.device, found.digest) == (kept.device, kept.digest)
    parts.records.drop(kept.token)
    emptied = Records(parts.records.folder)
    emptied.load(opener(), nothing_unreadable)
    assert len(emptied) == 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"claim": {}}', b"null", b"\xff"])
def test_a_damaged_record_is_told_of_and_kept(parts: Parts, content: bytes) -> None:
    place = parts.records.folder / "spins.x.1.t.json"
    place.write_bytes(content)
    told: list[Path] = []
    records = Records(parts.records.folder)
    records.load(opener(), lambda path, _: told.append(path))
    assert len(records) == 0
    assert told == [place]
    assert place.read_bytes() == content


@pytest.mark.parametrize(
    "wrong",
    [{"handle": None}, {"queue": ["spins"]}, {"job_id": "a\0b"}, {"attempt": "1"}, {"ttl": None}],
)
def test_a_record_whose_claim_is_none_is_told_of_and_kept(
    parts: Parts, wrong: dict[str, object]
) -> None:
    """Handed to the storage, it would end the feed's thread, and that of each daemon after it."""
    parts.submit()
    parts.backend.away = True
    parts.finish(parts.hold().claim)
    (place,) = parts.records.folder.glob("[!.]*.json")
    said = json.loads(place.read_text())
    place.write_text(json.dumps({**said, "claim": {**said["claim"], **wrong}}))
    later = parts.later()
    later.recovery.run(later.desk.served)
    assert [path for path, _ in later.unreadable] == [place]
    assert place.exists()
    assert later.backend.calls.count("ack") == 0


def test_a_record_that_is_named_after_another_claim_is_not_used(parts: Parts) -> None:
    kept = entry(parts)
    parts.records.keep(kept)
    folder = parts.records.folder
    (folder / f"{kept.token}.json").rename(folder / "other.json")
    told: list[str] = []
    records = Records(folder)
    records.load(opener(), lambda path, _: told.append(path.name))
    assert (len(records), told) == (0, ["other.json"])


def test_an_outage_is_outlived(parts: Parts) -> None:
    job_id = parts.submit()
    held = parts.hold()
    parts.backend.away = True
    parts.finish(held.claim)
    assert parts.delivery.waiting == 1
    assert parts.estates.tokens() == {held.claim.token}
    parts.delivery.retry()
    assert parts.delivery.waiting == 1
    parts.backend.away = False
    parts.delivery.retry()
    assert parts.delivery.waiting == 0
    assert parts.state_of(job_id) is State.DONE
    assert parts.leases.tokens() == set(), "a delivered claim is renewed no more"
    assert parts.events().count(EventName.STORAGE_UNAVAILABLE) == 1, "one line per outage"
    assert EventName.STORAGE_RECOVERED in parts.events()


def test_a_lost_answer_does_no_harm(parts: Parts) -> None:
    job_id = parts.submit()
    held = parts.hold()
    parts.backend.deaf = {"ack"}
    parts.finish(held.claim, {"value": 3})
    assert parts.delivery.waiting == 1
    parts.backend.deaf = set()
    parts.delivery.retry()
    assert parts.delivery.waiting == 0
    assert parts.submitter.result(DEVICE, job_id).data == {"value": 3}
    assert EventName.REPORT_PARKED not in parts.events()


def slow(parts: Parts) -> None:
    """Make the storage slow, and have the daemon find that out."""
    parts.backend.after["ack"] = lambda *_: parts.clock.advance(0.02)
    parts.submit()
    parts.execute()
    assert parts.delivery.waiting == 0, "nobody knew that it is slow"


def test_a_slow_storage_does_not_keep_the_device(parts: Parts) -> None:
    """Its reports are left to the feed's thread, a few at most; they are on the disk by then."""
    slow(parts)
    jobs = [parts.submit() for _ in range(6)]
    left = []
    for _ in jobs:
        parts.bell_answer()
        parts.execute()
        left.append((parts.delivery.waiting, parts.bell_answer()))
    rung, silent = {"deliver"}, set[str]()
    assert left == [(1, rung), (2, rung), (3, rung), (4, rung), (4, silent), (4, silent)]
    ended = [parts.state_of(job) is State.DONE for job in jobs]
    assert ended == [*[False] * 4, True, True], "who finds many of them waiting delivers himself"
    assert len(parts.leases.tokens()) == 4, "what is not delivered is still held"
    assert parts.estates.tokens() == parts.leases.tokens()
    parts.backend.after.clear()
    parts.delivery.retry()
    assert all(parts.state_of(job) is State.DONE for job in jobs)
    parts.submit()
    parts.execute()
    assert parts.delivery.waiting == 0, "it is quick again"
    assert parts.leases.tokens() == set()


def test_the_next_job_runs_while_a_report_is_under_way(parts: Parts) -> None:
    asked, answer = threading.Event(), threading.Event()

    def stand_still(*_: object) -> None:
        asked.set()
        assert answer.wait(30)

    slow(parts)
    parts.runner.requests.clear()
    jobs = [parts.submit() for _ in range(2)]
    parts.execute()
    parts.backend.before["ack"] = stand_still
    feed = threading.Thread(target=parts.delivery.retry)
    feed.start()
    assert asked.wait(30)
    parts.execute()
    assert [each.job_id for each in parts.runner.requests] == jobs
    parts.clock.advance(TTL / 2)
    parts.backend.calls.clear()
    parts.leases.renew_due()
    assert parts.backend.calls == ["renew", "renew"], "a delivery is no reason not to renew"
    answer.set()
    feed.join()
    parts.delivery.retry()
    assert parts.delivery.waiting == 0
    assert all(parts.state_of(job) is State.DONE for job in jobs)


def test_no_job_is_begun_while_refused_reports_pile_up(parts: Parts) -> None:
    """A full storage still gives jobs away, by renames; their results would wait in vain."""
    parts.backend.refused = {"ack"}
    jobs = [parts.submit() for _ in range(7)]
    for _ in jobs[:5]:
        assert parts.delivery.keeps_up(DEVICE)
        parts.execute()
    assert not parts.delivery.keeps_up(DEVICE)
    assert parts.delivery.keeps_up("another"), "another queue has not met that"
    parts.clock.advance(61)
    assert parts.delivery.keeps_up(DEVICE), "one more: it may be these reports, not the storage"
    assert not parts.delivery.keeps_up(DEVICE)
    parts.backend.refused = set()
    parts.delivery.retry()
    assert parts.delivery.keeps_up(DEVICE)
    assert all(parts.state_of(job) is State.DONE for job in jobs[:5])


def test_a_later_process_delivers(parts: Parts) -> None:
    job_id = parts.submit()
    parts.backend.away = True
    parts.finish(parts.hold().claim)
    later = parts.later()
    later.recovery.adopt()
    assert later.delivery.waiting == 1
    later.clock.advance(TTL + 1)
    assert later.desk.recover() == 0, "recovery leaves it to delivery"
    later.delivery.retry()
    assert later.state_of(job_id) is State.DONE


def test_a_late_report_is_parked_and_overwrites_nothing(parts: Parts) -> None:
    job_id = parts.submit()
    held = parts.hold()
    parts.backend.away = True
    parts.finish(held.claim, {"value": "old"})
    parts.backend.away = False
    parts.clock.advance(TTL + 1)
    other = parts.backend.reclaim(QUEUE, new_lease(), leased)
    parts.backend.ack(other, parts.report(other, {"value": "new"}))
    parts.delivery.retry()
    assert parts.submitter.result(DEVICE, job_id).data == {"value": "new"}
    assert parts.delivery.waiting == 0
    (parked,) = parts.parked()
    said = json.loads(parked.read_text())
    assert said["phase"] == "parked"
    assert "no longer held" in said["reason"]
    assert parts.told(EventName.REPORT_PARKED)[0]["reason"] == said["reason"]
    assert b"old" in opener()(said["jws"], "")


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
    held = parts.hold()
    monkeypatch.setattr(durable, "os", _FullDisk())
    parts.finish(held.claim)
    assert parts.state_of(job_id) is State.DONE


def test_neither_disk_nor_storage(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report stays in memory, the lease stays ours, and both are tried until one is back."""
    job_id = parts.submit()
    held = parts.hold()
    parts.backend.away = True
    with monkeypatch.context() as full:
        full.setattr(durable, "os", _FullDisk())
        waits = 0

        def patience(_: float) -> bool:
            nonlocal waits
            waits += 1
            assert parts.leases.tokens() == {held.claim.token}
            if waits == 3:
                parts.backend.away = False
            return True

        parts.finish(held.claim, patience=patience)
    assert waits == 3
    assert parts.state_of(job_id) is State.DONE


def test_neither_disk_nor_storage_and_no_time_left(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = parts.submit()
    held = parts.hold()
    parts.backend.away = True
    record = Record(held.claim, DEVICE, Phase.REPORT, parts.report(held.claim))
    with monkeypatch.context() as full:
        full.setattr(durable, "os", _FullDisk())
        assert not parts.delivery.keep(record, lambda _: False), "and says so"
    assert parts.state_of(job_id) is State.RUNNING


def test_keep_says_what_is_wrong(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = entry(parts)
    monkeypatch.setattr(durable, "os", _FullDisk())
    with pytest.raises(BackendUnavailable, match="the disk is full"):
        parts.records.keep(kept)
    assert len(parts.records) == 0
    assert isinstance(kept.signed, SignedReport)


def test_a_late_report_waits_for_room_to_be_parked(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The own disk is full and the job is somebody else's: the measurement is kept all the same."""
    parts.submit()
    held = parts.hold()
    parts.clock.advance(TTL + 1)
    other = parts.backend.reclaim(QUEUE, new_lease(), leased)
    parts.backend.ack(other, parts.report(other))
    waits = 0
    with monkeypatch.context() as full:
        full.setattr(durable, "os", _FullDisk())

        def patience(_: float) -> bool:
            nonlocal waits
            waits += 1
            if waits == 3:
                full.undo()
            return waits < 10

        parts.finish(held.claim, patience=patience)
    assert waits == 3
    assert len(parts.parked()) == 1
    assert parts.events().count(EventName.REPORT_PARKED) == 1


def test_a_report_that_the_storage_does_not_take_keeps_no_other_waiting(parts: Parts) -> None:
    """It says that it is away, of all reports but two: an outage ends the pass, not the others."""
    jobs = [parts.submit() for _ in range(4)]
    parts.backend.refused = {"ack"}
    for _ in jobs:
        parts.execute()
    assert parts.delivery.waiting == 4
    parts.backend.refused = set()

    def too_large(claim: Claim, _: SignedReport) -> None:
        if claim.job.id in {jobs[0], jobs[2]}:
            raise BackendUnavailable("this one is too large")

    parts.backend.before["ack"] = too_large
    for _ in range(4):
        parts.delivery.retry()
    assert [parts.state_of(job) is State.DONE for job in jobs] == [False, True, False, True]
    assert parts.delivery.waiting == 2


def test_what_waits_is_not_for_everybody(parts: Parts, tmp_path: Path) -> None:
    kept = entry(parts)
    before = os.umask(0)
    try:
        parts.records.keep(kept)
        parts.records.park(kept, "nobody takes it")
        StateLock(tmp_path / "other").close()
        beside = parts.beside(state_name="third")
    finally:
        os.umask(before)
    (parked,) = parts.parked()
    for file in (parts.records.folder / f"{kept.token}.json", parked):
        assert file.stat().st_mode & 0o777 == 0o600
    folders = (tmp_path / "other", beside.records.folder, parked.parent)
    assert [each.stat().st_mode & 0o777 for each in folders] == [0o700] * 3


def test_half_written_records_do_not_pile_up(parts: Parts) -> None:
    kept = entry(parts)
    parts.records.keep(kept)
    half = parts.records.folder / ".x.json.new.tmp"
    half.write_bytes(b"{")
    records = Records(parts.records.folder)
    records.load(opener(), nothing_unreadable)
    assert records.tokens() == {kept.token}
    assert not half.exists()


def test_what_an_earlier_process_left_is_renewed_until_it_is_delivered(parts: Parts) -> None:
    job_id = parts.submit()
    parts.backend.refused = {"ack"}
    parts.execute()
    later = parts.later()
    later.backend.refused = {"ack"}
    later.recovery.adopt()
    for _ in range(20):
        later.clock.advance(TTL / 4)
        later.leases.renew_due()
        assert parts.backend.inner.reclaim(QUEUE, new_lease(), leased) is None
    later.backend.refused = set()
    later.delivery.retry()
    assert later.state_of(job_id) is State.DONE
    assert later.leases.tokens() == set()
