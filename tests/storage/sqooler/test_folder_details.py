"""What only a folder has: names, staged files, views, and what others leave there."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooler.clock import SystemClock, moment
from spooler.durable import Disk
from spooler.errors import BackendUnavailable, KeyRefused, PushUnavailable, Scope
from spooler.model.device import DeviceCard
from spooler.model.job import Queue
from spooler.model.state import State
from spooler.model.storage import Standing
from spooler.signing.keys import generate
from spooler.signing.sqooler_form import public_jwk_of, sign_document, verify_document
from spooler.storage.sqooler.folder.backend import FolderBackend
from spooler.storage.sqooler.folder.layout import ClaimName, Phase
from spooler.storage.sqooler.folder.reading import UPLOAD_PAUSE
from spooler.testing.bench import (
    DEVICE,
    QUEUE,
    TTL,
    Bench,
    leased,
    new_lease,
    signed_report,
    sparing,
    take,
)
from spooler.testing.clock import ManualClock
from tests.storage.folder_bench import KEY, folder_bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield from folder_bench(tmp_path)


def files(base: Path) -> set[str]:
    return {str(path.relative_to(base)) for path in base.rglob("*") if path.is_file()}


def test_a_job_leaves_only_what_is_documented(bench: Bench, tmp_path: Path) -> None:
    (job_id,) = bench.submit()
    backend = bench.backend()
    claim = backend.start(take(backend), 600.0)
    assert f"jobs/running/{job_id}.json" in files(tmp_path)
    backend.ack(claim, signed_report(claim))
    backend.close()
    assert files(tmp_path) == {
        f"backends/configs/{DEVICE}.json",
        "backends/public_keys/lab.json",
        f"jobs/finished/{DEVICE}/{job_id}.json",
        f"results/{DEVICE}/{job_id}.json",
        f"spooler/reports/{DEVICE}/{job_id}.json",
        "spooler/storage.json",
        f"status/{DEVICE}/{job_id}.json",
    }


def test_everything_written_is_signed(bench: Bench, tmp_path: Path) -> None:
    (job_id,) = bench.submit()
    backend = bench.backend()
    claim = take(backend)
    backend.show(claim, "shot 3 of 10")
    key = public_jwk_of(KEY)
    status = tmp_path / "status" / DEVICE / f"{job_id}.json"
    running = json.loads(status.read_text())
    assert verify_document(running, key)
    assert running["payload"]["status"] == "INITIALIZING"
    assert running["payload"]["detail"] == "Got your json.; shot 3 of 10"
    backend.ack(claim, signed_report(claim))
    for place in (status, tmp_path / "results" / DEVICE / f"{job_id}.json"):
        assert verify_document(json.loads(place.read_text()), key), place
    assert verify_document(
        json.loads((tmp_path / "backends" / "configs" / f"{DEVICE}.json").read_text()), key
    )


@contextmanager
def blocked(place: Path) -> Iterator[None]:
    """Let a file stand where a folder should be."""
    away = place.with_name(f"{place.name}-away")
    if place.exists():
        place.rename(away)
    place.touch()
    try:
        yield
    finally:
        place.unlink()
        if away.exists():
            away.rename(place)


def staged_files(base: Path) -> list[str]:
    return [name for name in files(base) if name.endswith(".tmp")]


def test_what_was_staged_and_never_committed_is_swept(bench: Bench, tmp_path: Path) -> None:
    bench.submit()
    backend = bench.backend()
    claim = take(backend)
    with blocked(tmp_path / "spooler" / "reports"), pytest.raises(BackendUnavailable):
        backend.ack(claim, signed_report(claim))
    assert staged_files(tmp_path)
    other = bench.backend()
    assert other.reclaim(QUEUE, new_lease(), leased) is None
    bench.clock.advance(TTL + 1)
    assert other.reclaim(QUEUE, new_lease(), leased) is not None
    assert not staged_files(tmp_path)


@pytest.mark.parametrize("standing", [Standing.DEAD, Standing.LEASED])
def test_a_committed_end_is_completed_by_anyone(
    bench: Bench, tmp_path: Path, standing: Standing
) -> None:
    (job_id,) = bench.submit()
    backend = bench.backend()
    claim = take(backend)
    finished = tmp_path / "jobs" / "finished"
    with blocked(finished), pytest.raises(BackendUnavailable):
        backend.ack(claim, signed_report(claim, data={"value": 9}))
    assert [path.name for path in (tmp_path / "spooler" / "claims" / DEVICE).iterdir()]
    other = bench.backend()
    other.reclaim(QUEUE, new_lease(), lambda _: Standing.SPARED)
    bench.clock.advance(TTL + 1)
    assert not (finished / DEVICE / f"{job_id}.json").exists()
    assert other.reclaim(QUEUE, new_lease(), lambda _: standing) is None
    assert (finished / DEVICE / f"{job_id}.json").exists()
    assert bench.submitter.status(DEVICE, job_id).state is State.DONE
    assert bench.submitter.result(DEVICE, job_id).data == {"value": 9}
    backend.ack(claim, signed_report(claim, data={"value": 9}))


def test_another_key_is_refused_and_a_former_one_is_not(tmp_path: Path) -> None:
    old, new = generate("old"), generate("new")
    card, at = DeviceCard(DEVICE), datetime.now(UTC)
    FolderBackend(tmp_path, SystemClock(), signer=old).catalogue.announce(QUEUE, card, at)
    with pytest.raises(KeyRefused, match=r"'old'.*'new'"):
        FolderBackend(tmp_path, SystemClock(), signer=new).catalogue.announce(QUEUE, card, at)
    with pytest.raises(KeyRefused, match="no key is configured"):
        FolderBackend(tmp_path, SystemClock()).catalogue.announce(QUEUE, card, at)
    rotated = FolderBackend(tmp_path, SystemClock(), signer=new, former_keys=[old.public()])
    rotated.catalogue.announce(QUEUE, card, at)
    assert (tmp_path / "backends" / "public_keys" / "old.json").exists(), "old results need it"
    with pytest.raises(KeyRefused, match="another public key is already published"):
        FolderBackend(tmp_path, SystemClock(), signer=generate("new")).catalogue.announce(
            Queue("other", "other"), card, at
        )


@given(
    st.builds(
        ClaimName,
        job_id=st.from_regex(r"[A-Za-z0-9_-]{1,100}", fullmatch=True),
        attempt=st.integers(1, 999_999),
        process=st.from_regex(r"[0-9]{1,12}-[0-9a-f]{32}", fullmatch=True),
        token=st.from_regex(r"[0-9a-f]{1,40}", fullmatch=True),
        phase=st.sampled_from(Phase),
        beat=st.integers(0, 999_999_999),
        ttl=st.integers(1, 999_999_999),
    )
)
def test_claim_names_say_what_they_mean(name: ClaimName) -> None:
    assert ClaimName.parse(str(name)) == name
    assert len(str(name)) < 255, "a file name has room for it"


@given(st.text(max_size=60))
def test_other_names_are_no_claims(text: str) -> None:
    found = ClaimName.parse(text)
    assert found is None or str(found) == text


def test_one_listing_serves_many_claims(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of a claim does not grow with the queue: listings are counted, not timed."""
    bench.submit(120)
    backend = bench.backend()
    listings = 0
    real = Disk.entries

    def entries(self: Disk, folder: str) -> object:
        nonlocal listings
        listings += "queued" in folder
        return real(self, folder)

    monkeypatch.setattr(Disk, "entries", entries)
    for _ in range(120):
        take(backend)
    assert listings == 1


def test_the_settle_time_is_not_the_wall_clock_s(tmp_path: Path, bench: Bench) -> None:
    """A broken file with a date in the future is not waited for until then."""
    queue = tmp_path / "jobs" / "queued" / DEVICE
    queue.mkdir(parents=True, exist_ok=True)
    place = queue / f"{'a' * 24}.json"
    place.write_text('{"cut')
    future = time.time() + 86_400
    os.utime(place, (future, future))
    backend = bench.backend()
    assert backend.claim(QUEUE, new_lease()) is None
    bench.clock.advance(UPLOAD_PAUSE)
    claim = backend.claim(QUEUE, new_lease())
    assert claim is not None
    assert "cut off" in claim.job.defect


@pytest.mark.parametrize(
    ("half", "waits"),
    [
        (b"", True),
        (b'{"cut', True),
        (b'{"cut": "\xc3', True),
        (b'{"x": 1}\0\0\0', True),
        (b'{"x" 1}', False),
        (b"[]", False),
    ],
)
def test_an_upload_may_pause_for_as_long_as_is_set(
    tmp_path: Path, half: bytes, *, waits: bool
) -> None:
    """What no more bytes can mend is told sooner."""
    clock = ManualClock()
    backend = FolderBackend(tmp_path, clock, upload_pause=60.0)
    place = tmp_path / "jobs" / "queued" / DEVICE / f"{'a' * 24}.json"
    place.parent.mkdir(parents=True)
    place.write_bytes(half)
    os.utime(place, (clock.now().timestamp(),) * 2)
    assert backend.claim(QUEUE, new_lease()) is None
    clock.advance(59.0)
    assert (backend.claim(QUEUE, new_lease()) is None) is waits
    if waits:
        place.write_bytes(b" " + half)  # it goes on
        assert backend.claim(QUEUE, new_lease()) is None
        clock.advance(59.0)
        assert backend.claim(QUEUE, new_lease()) is None
        clock.advance(1.0)
        claim = backend.claim(QUEUE, new_lease())
        assert claim is not None
        assert claim.job.defect


def test_only_arrivals_are_watched(bench: Bench) -> None:
    """What the kernel was asked for: departures would hold the next arrival back for 0.5 s."""
    backend = bench.backend()
    before = _inotify_masks()
    subscription = backend.subscribe(QUEUE, lambda: None)
    assert subscription is not None
    (mask,) = _inotify_masks() - before
    moved_from, moved_to, created, closed = 0x40, 0x80, 0x100, 0x8
    assert not mask & moved_from
    assert mask & (moved_to | created | closed) == moved_to | created | closed
    subscription.close()


def _inotify_masks() -> set[int]:
    """The masks of this process's inotify watches, by the kernel's word."""
    found = set()
    for place in Path("/proc/self/fdinfo").iterdir():
        try:
            text = place.read_text()
        except FileNotFoundError:
            continue
        for line in text.splitlines():
            if line.startswith("inotify "):
                fields = dict(part.split(":", 1) for part in line.split()[1:] if ":" in part)
                found.add(int(fields["mask"], 16))
    return found


def test_an_end_waits_for_the_client_s_first_status(tmp_path: Path) -> None:
    """In the daemon it waits in the outbox; here it is seen to be asked for again."""
    clock = SystemClock()
    backend = FolderBackend(tmp_path, clock, signer=KEY)
    queue = tmp_path / "jobs" / "queued" / DEVICE
    queue.mkdir(parents=True)
    job_id = "b" * 24
    (queue / f"{job_id}.json").write_text("{}")
    claim = take(backend)
    with pytest.raises(BackendUnavailable, match="first status") as waits:
        backend.ack(claim, signed_report(claim))
    assert waits.value.scope is Scope.JOB
    assert waits.value.retry_after is not None
    status = tmp_path / "status" / DEVICE / f"{job_id}.json"
    assert not status.exists()
    status.parent.mkdir(parents=True)
    status.write_text(json.dumps({"job_id": job_id, "status": "INITIALIZING"}))
    backend.ack(claim, signed_report(claim))
    assert json.loads(status.read_text())["payload"]["status"] == "DONE"


def test_a_folder_that_is_away_proves_nothing(bench: Bench, tmp_path: Path) -> None:
    """An unmounted disk looks like an empty folder: no claim is lost, nothing is made there."""
    (job_id,) = bench.submit()
    backend = bench.backend()
    backend.catalogue.announce(QUEUE, DeviceCard(DEVICE), bench.clock.now())
    claim = take(backend)
    away = tmp_path.with_name(f"{tmp_path.name}-away")
    tmp_path.rename(away)
    tmp_path.mkdir()
    for act in (
        lambda: backend.renew(claim),
        lambda: backend.ack(claim, signed_report(claim)),
        lambda: backend.release(claim, "x", refund=True),
        lambda: backend.claim(QUEUE, new_lease()),
        lambda: backend.catalogue.announce(QUEUE, DeviceCard(DEVICE), bench.clock.now()),
    ):
        with pytest.raises(BackendUnavailable, match="missing or empty"):
            act()
    assert list(tmp_path.iterdir()) == [], "nothing is made in the place of the mount"
    tmp_path.rmdir()
    away.rename(tmp_path)
    backend.ack(backend.renew(claim), signed_report(claim))
    assert bench.submitter.status(DEVICE, job_id).state is State.DONE


def test_a_claim_of_ours_that_nobody_keeps_is_found_again(bench: Bench) -> None:
    bench.submit()
    backend = bench.backend()
    lease = new_lease()
    claim = backend.claim(QUEUE, lease)
    assert claim is not None
    backend.reclaim(QUEUE, new_lease(lease.owner), leased)
    bench.clock.advance(TTL + 1)
    assert backend.reclaim(QUEUE, new_lease(lease.owner), sparing({claim.token})) is None
    found = backend.reclaim(QUEUE, new_lease(lease.owner), leased)
    assert found is not None
    assert found.job.id == claim.job.id


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b'{"attempts": 3}', b"null"])
def test_junk_of_others_in_our_places_stops_nothing(
    bench: Bench, tmp_path: Path, junk: bytes
) -> None:
    (job_id,) = bench.submit()
    for place in (
        tmp_path / "spooler" / "history" / DEVICE / f"{job_id}.json",
        tmp_path / "spooler" / "owners" / "1-abc.json",
        tmp_path / "spooler" / "claims" / DEVICE / "notes.txt",
        tmp_path / "spooler" / "claims" / DEVICE / f"{'c' * 24}.1.1-abc.ff.c0-1000",
    ):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(junk)
    backend = bench.backend()
    backend.reclaim(QUEUE, new_lease(), leased)
    claim = take(backend)
    assert (claim.job.id, claim.attempt) == (job_id, 1)
    backend.ack(claim, signed_report(claim))


def test_without_watches_it_is_said_what_is_wrong(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr("watchdog.observers.api.BaseObserver.schedule", refuse)
    with pytest.raises(PushUnavailable, match="inotify"):
        bench.backend().subscribe(QUEUE, lambda: None)


def test_only_the_device_s_own_keys_verify(bench: Bench, tmp_path: Path) -> None:
    """A result signed by some other published key is not the device's."""
    (job_id,) = bench.submit()
    backend = bench.backend()
    claim = take(backend)
    backend.ack(claim, signed_report(claim))
    assert bench.submitter.verify(DEVICE, job_id).ok
    place = tmp_path / "results" / DEVICE / f"{job_id}.json"
    document = json.loads(place.read_text())
    forger = generate("forger")
    key = tmp_path / "backends" / "public_keys" / "forger.json"
    key.write_text(json.dumps(public_jwk_of(forger).model_dump(mode="json")))
    place.write_text(json.dumps(sign_document(document["payload"], forger)))
    found = bench.submitter.verify(DEVICE, job_id)
    assert not found.ok
    assert "is not announced under the key" in found.detail
    place.write_text(json.dumps(document))
    assert bench.submitter.verify(DEVICE, job_id).ok
    new = generate("new")
    later = FolderBackend(tmp_path, SystemClock(), signer=new, former_keys=[KEY.public()])
    later.catalogue.announce(QUEUE, DeviceCard(DEVICE), datetime.now(UTC))
    assert bench.submitter.verify(DEVICE, job_id).ok, "signed before a rotation"
    config = tmp_path / "backends" / "configs" / f"{DEVICE}.json"
    announced = json.loads(config.read_text())
    announced["payload"]["kid"] = "forger"
    config.write_text(json.dumps(announced))
    assert not bench.submitter.verify(DEVICE, job_id).ok, "the configuration was altered"


@pytest.mark.parametrize(
    "seconds", [253_402_300_800 + 10**6, -62_135_596_801 - 10**6, 2**62, -(2**62)]
)
def test_a_time_that_no_calendar_has_is_the_nearest_that_one_has(seconds: int) -> None:
    """It only orders the queue: a broken clock of a file server must not end a daemon."""
    found = moment(seconds)
    assert found.year == (9999 if seconds > 0 else 1)
    assert found.astimezone(ZoneInfo("Pacific/Auckland")).isoformat()
    assert found.astimezone(ZoneInfo("Pacific/Honolulu")).isoformat()


def test_the_folders_of_a_device_are_there_before_its_first_job(
    tmp_path: Path, bench: Bench
) -> None:
    """A submitter with umask 022 would make them, and the daemon could write no status."""
    backend = bench.backend()
    assert backend.catalogue is not None
    backend.catalogue.announce(Queue("fresh", "fresh"), DeviceCard("fresh"), bench.clock.now())
    own = ("jobs/queued/fresh", "jobs/finished/fresh", "status/fresh", "results/fresh")
    for folder in (*own, "jobs/running", "jobs/deleted"):
        assert (tmp_path / folder).is_dir(), folder
