"""What others do to the folder that they share with us, by mistake or on purpose."""

from __future__ import annotations

import json
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from spooler.durable import Disk
from spooler.errors import BackendUnavailable, LeaseLost
from spooler.model.claim import Claim, Owner
from spooler.model.device import DeviceCard
from spooler.model.state import State
from spooler.model.storage import Standing
from spooler.protocols import Backend
from spooler.storage.sqooler.folder import reading
from spooler.storage.sqooler.folder.backend import FolderBackend
from spooler.testing.bench import (
    DEVICE,
    QUEUE,
    TTL,
    Bench,
    leased,
    new_lease,
    other_owner,
    signed_report,
    take,
)
from tests.storage.folder_bench import KEY

PRECIOUS = '{"d": "the private key"}'


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    place = tmp_path / "secret"
    place.write_text(PRECIOUS, encoding="utf-8")
    return place


def queued(base: Path, job_id: str) -> Path:
    return base / "jobs" / "queued" / DEVICE / f"{job_id}.json"


def result(base: Path, job_id: str) -> Path:
    place = base / "results" / DEVICE / f"{job_id}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def second_of_two(bench: Bench) -> tuple[Backend, str]:
    """A backend that has listed two jobs and claimed one; the id of the other."""
    _, job_id = bench.submit(2)
    backend = bench.backend()
    take(backend)
    return backend, job_id


def test_a_folder_that_is_not_mounted_yet_proves_nothing(bench: Bench, base: Path) -> None:
    """A daemon that begins with reports in its outbox may be there before the disk is."""
    (job_id,) = bench.submit()
    backend = bench.backend()
    claim = backend.start(take(backend), 600.0)
    away = base.with_name("away")
    base.rename(away)
    base.mkdir()
    later = FolderBackend(base, bench.clock, signer=KEY)
    for act in (
        lambda: later.ack(claim, signed_report(claim)),
        lambda: later.catalogue.announce(QUEUE, DeviceCard(DEVICE), bench.clock.now()),
        lambda: later.claim(QUEUE, new_lease()),
        lambda: later.ack(claim, signed_report(claim)),
    ):
        with pytest.raises(BackendUnavailable, match="missing or empty"):
            act()
    assert list(base.iterdir()) == [], "nothing is made in the place of the mount"
    base.rmdir()
    away.rename(base)
    later.ack(claim, signed_report(claim))
    assert bench.submitter.status(DEVICE, job_id).state is State.DONE


def test_the_first_claim_leaves_the_marker_too(bench: Bench, base: Path) -> None:
    """The first announcement may have failed."""
    bench.submit()
    (base / "spooler" / "storage.json").unlink()
    take(FolderBackend(base, bench.clock, signer=KEY))
    assert (base / "spooler" / "storage.json").exists()


def test_a_job_that_became_a_link_is_not_read(bench: Bench, base: Path, secret: Path) -> None:
    backend, job_id = second_of_two(bench)
    queued(base, job_id).unlink()
    queued(base, job_id).symlink_to(secret)
    assert backend.claim(QUEUE, new_lease()) is None


def test_a_job_that_became_a_pipe_does_not_block(bench: Bench, base: Path) -> None:
    backend, job_id = second_of_two(bench)
    queued(base, job_id).unlink()
    os.mkfifo(queued(base, job_id))
    assert backend.claim(QUEUE, new_lease()) is None


def test_a_job_that_grew_is_not_taken_into_memory(bench: Bench, base: Path) -> None:
    backend, job_id = second_of_two(bench)
    with queued(base, job_id).open("r+b") as stream:
        stream.truncate(2**28)
    tracemalloc.start()
    try:
        claim = backend.claim(QUEUE, new_lease())
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
    assert claim is not None
    assert "at most" in claim.job.defect


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "giant"])
def test_whatever_lies_in_the_place_of_a_result(
    bench: Bench, base: Path, secret: Path, kind: str
) -> None:
    """It is kept, and not read: a link may lead to a key of ours, a giant fill the memory."""
    (job_id,) = bench.submit()
    backend = bench.backend()
    claim = take(backend)
    place = result(base, job_id)
    if kind == "link":
        place.symlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
        (place / "inside").touch()
    else:
        with place.open("wb") as stream:
            stream.truncate(2**33)
    backend.ack(claim, signed_report(claim))
    backend.ack(claim, signed_report(claim))
    assert bench.submitter.result(DEVICE, job_id).data == {"value": 1}
    kept = [*base.glob("spooler/replaced/*/*"), *place.parent.glob("*.aside-*")]
    assert len(kept) == 1
    for path in base.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 2**20:
            assert PRECIOUS not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize(
    "place",
    [
        "results/{}/{}.json",
        "status/{}/{}.json",
        "spooler/reports/{}/{}.json",
        "spooler/history/{}/{}.json",
        "spooler/cancels/{}/{}.json",
        "jobs/finished/{}/{}.json",
    ],
)
def test_a_folder_in_the_place_of_a_document_holds_nothing_up(
    bench: Bench, base: Path, place: str
) -> None:
    (job_id,) = bench.submit()
    backend = bench.backend()
    claim = take(backend)
    blocked = base / place.format(DEVICE, job_id)
    blocked.unlink(missing_ok=True)
    blocked.mkdir(parents=True)
    (blocked / "inside").touch()
    backend.release(claim, "died", refund=False)
    claim = take(backend)
    backend.ack(claim, signed_report(claim))
    assert bench.submitter.status(DEVICE, job_id).state is State.DONE
    assert blocked.is_file() == ("spooler/history" not in place and "cancels" not in place)


def test_a_folder_in_the_queue_does_not_keep_a_job_from_going_back(
    bench: Bench, base: Path
) -> None:
    (job_id,) = bench.submit()
    backend = bench.backend()
    claim = take(backend)
    queued(base, job_id).mkdir()
    backend.release(claim, "x", refund=True)
    assert take(backend).job.id == job_id


def test_a_claimed_file_that_may_not_be_read_does_not_stop_recovery(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its submitter owns it, and may close it to us at any time."""
    bench.submit()
    bench.backend().claim(QUEUE, new_lease())

    def closed(_: Disk, place: str, **how: object) -> bytes:
        raise PermissionError(13, "Permission denied", place)

    monkeypatch.setattr(Disk, "read", closed)
    other = bench.backend()
    other.reclaim(QUEUE, new_lease(), leased)
    bench.clock.advance(TTL + 1)
    claim = other.reclaim(QUEUE, new_lease(), leased)
    assert claim is not None
    assert "permission denied; give the user" in claim.job.defect
    assert "chmod" not in claim.job.defect, "its submitter can do nothing with our paths"


def test_a_waiting_file_that_may_not_be_read_is_logged_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (job_id,) = bench.submit()

    def closed(_: Disk, place: str, **how: object) -> bytes:
        raise PermissionError(13, "Permission denied", place)

    monkeypatch.setattr(Disk, "read", closed)
    backend = bench.backend()
    for _ in range(3):
        assert backend.claim(QUEUE, new_lease()) is None
    (said,) = [each.getMessage() for each in caplog.records if each.name == "spooler.storage"]
    assert job_id in said
    assert "permission denied" in said


def test_files_seen_while_they_are_written_are_forgotten(bench: Bench, base: Path) -> None:
    """sqooler's clients write in place: most of their jobs are seen empty once."""
    backend = FolderBackend(base, bench.clock)
    place = queued(base, "a" * 24)
    place.parent.mkdir(parents=True, exist_ok=True)

    def write(content: bytes) -> None:
        place.write_bytes(content)
        now = bench.clock.now().timestamp()
        os.utime(place, (now, now))

    for _ in range(2):  # the second time it would be taken for one that has not changed for long
        write(b"")
        assert backend.claim(QUEUE, new_lease()) is None
        write(b"{}")
        claim = take(backend)
        bench.clock.advance(10.0)
        backend.ack(claim, signed_report(claim))


JUNK = (b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"attempts": 3, "token": []}')


@pytest.mark.parametrize("junk", JUNK)
def test_junk_in_the_place_of_a_report_parks_what_comes_late(
    bench: Bench, base: Path, junk: bytes
) -> None:
    (job_id,) = bench.submit()
    backend = bench.backend()
    claim = take(backend)
    (base / "spooler" / "claims" / DEVICE / claim.handle).unlink()
    place = base / "spooler" / "reports" / DEVICE / f"{job_id}.json"
    place.parent.mkdir(parents=True)
    place.write_bytes(junk)
    with pytest.raises(LeaseLost):
        backend.ack(claim, signed_report(claim))


_ATTEMPT = '{"attempts": [{"number": %s, "owner": "x", "at": "2026-01-01T00:00:00", "ended": "y"}]'
_SINCE = ', "since": "2026-01-01T00:00:00+00:00", "delay": 0}'


@pytest.mark.parametrize("number", ["1e999", "9999999", "-5", '"x"', "[]"])
def test_an_attempt_has_a_number_that_can_be_counted_on(
    bench: Bench, base: Path, number: str
) -> None:
    """A claim whose name nobody can read would be a job that is lost."""
    (job_id,) = bench.submit()
    place = base / "spooler" / "history" / DEVICE / f"{job_id}.json"
    place.parent.mkdir(parents=True)
    place.write_text(_ATTEMPT % number + _SINCE, encoding="utf-8")
    backend = bench.backend()
    claim = take(backend)
    assert claim.attempt == 1
    backend.ack(claim, signed_report(claim))


OWNER = {"host": "h", "pid": 1, "process": "123-ab", "estate": "/var/lib/spooler"}
ODD_OWNERS = [
    *({"pid": value} for value in ("x", 1e30, -1, 0, None, 2**32, True)),
    *({"estate": value} for value in (None, 7, ["/"], "x" * 5000, "a\0b")),
    *({"host": value} for value in (None, {}, "h" * 300)),
    {"process": "another"},
    {"more": "x" * 20_000},
]


def owner_seen(bench: Bench, base: Path, content: bytes) -> Owner:
    """Whom a judge is asked about where an owner's file has this content."""
    bench.submit()
    take(bench.backend(), replace(other_owner(), process="123-ab"))
    (base / "spooler" / "owners" / "123-ab.json").write_bytes(content)
    seen = []

    def judge(claim: Claim) -> Standing:
        seen.append(claim.owner)
        return Standing.LEASED

    assert bench.backend().reclaim(QUEUE, new_lease(), judge) is None
    (owner,) = seen
    return owner


@pytest.mark.parametrize("odd", ODD_OWNERS, ids=lambda odd: str(odd)[:30])
def test_an_owner_that_cannot_be_has_no_estate(
    bench: Bench, base: Path, odd: dict[str, object]
) -> None:
    said = json.dumps({**OWNER, **odd}).encode()
    assert owner_seen(bench, base, said) == Owner("", 0, "123-ab")


@pytest.mark.parametrize("junk", JUNK)
def test_junk_in_the_place_of_an_owner_is_nobody(bench: Bench, base: Path, junk: bytes) -> None:
    assert owner_seen(bench, base, junk) == Owner("", 0, "123-ab")


def test_a_document_that_says_something_twice_says_nothing(tmp_path: Path) -> None:
    """One reader takes the first of two values, another the last."""
    place = tmp_path / "card.json"
    for text, said in (('{"kid": "lab"}', {"kid": "lab"}), ('{"kid": "a", "kid": "lab"}', {})):
        place.write_text(text)
        assert reading.document(Disk(), place) == said


def test_an_owner_of_the_first_edition_has_no_estate(bench: Bench, base: Path) -> None:
    said = json.dumps({key: OWNER[key] for key in ("host", "pid", "process")}).encode()
    assert owner_seen(bench, base, said) == Owner("h", 1, "123-ab")


def test_an_owner_s_estate_is_handed_to_the_judge(bench: Bench, base: Path) -> None:
    said = json.dumps(OWNER).encode()
    assert owner_seen(bench, base, said) == Owner("h", 1, "123-ab", "/var/lib/spooler")


@pytest.mark.parametrize("phase", ["c0-1", "s0-1", "d0-1", "e0-1"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_what_only_looks_like_a_claim_stops_no_recovery(
    bench: Bench, base: Path, secret: Path, phase: str, kind: str
) -> None:
    (job_id,) = bench.submit()
    take(bench.backend())
    place = base / "spooler" / "claims" / DEVICE / f"{'0' * 24}.1.0-ab.ab.{phase}"
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(secret)
    backend = bench.backend()
    assert backend.reclaim(QUEUE, new_lease(), leased) is None
    bench.clock.advance(TTL + 1)
    claim = backend.reclaim(QUEUE, new_lease(), leased)
    assert claim is not None
    assert claim.job.id == job_id
    assert backend.reclaim(QUEUE, new_lease(), leased) is None


def test_a_storage_that_is_closed_to_us_at_the_end_is_no_error(
    bench: Bench, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.submit()
    backend = FolderBackend(base, bench.clock)
    take(backend)
    asked = []

    def refuse(_: Disk, place: str) -> bool:
        asked.append(place)
        raise PermissionError(13, "Permission denied", place)

    (base / "spooler" / "claims").rename(base / "spooler" / "elsewhere")
    monkeypatch.setattr(Disk, "remove", refuse)
    backend.close()
    assert len(asked) == 1


def test_files_that_nobody_takes_are_told_of_once(
    bench: Bench, base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever has called a job file so waits for it."""
    queue = base / "jobs" / "queued" / DEVICE
    queue.mkdir(parents=True, exist_ok=True)
    named = ["my job.json", f"{'9' * 24}.JSON", "guest@lab.json"]
    for name in [*named, "half.part", ".hidden.json", "notes.txt"]:
        (queue / name).write_text("{}")
    backend = bench.backend()
    ids = bench.submit(3)
    for _ in ids:
        assert backend.claim(QUEUE, new_lease()) is not None
    assert backend.claim(QUEUE, new_lease()) is None
    told = [
        record.getMessage()
        for record in caplog.records
        if "not the name of a job file" in record.getMessage()
    ]
    assert len(told) == 3
    assert all(any(name in text for text in told) for name in named)
