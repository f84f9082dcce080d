"""The SQLite backend keeps the contract, and what it promises beyond."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from spooler.errors import (
    BackendUnavailable,
    ConfigError,
    JobGone,
    KeyRefused,
    PayloadInvalid,
    Scope,
    UnknownDevice,
    UnknownJob,
)
from spooler.model.claim import Claim
from spooler.model.device import DeviceCard
from spooler.model.records import report_to_json
from spooler.model.result import SignedReport
from spooler.model.state import State
from spooler.model.storage import Standing, Traits
from spooler.signing.keys import generate
from spooler.storage.sqlite import database, schema
from spooler.storage.sqlite.backend import SqliteBackend
from spooler.storage.sqlite.submitter import SqliteSubmitter
from spooler.testing.backend_contract import BackendContract
from spooler.testing.bench import (
    DEVICE,
    QUEUE,
    TTL,
    Bench,
    dead,
    leased,
    new_lease,
    signed_report,
    take,
)
from spooler.testing.clock import ManualClock
from tests.storage.sqlite_bench import (
    KEY,
    MAX_PAYLOAD,
    rows,
    sqlite_backend,
    sqlite_bench,
    sqlite_submitter,
)

DAY = 86400.0


class TestSqlite(BackendContract):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[Bench]:
        yield from sqlite_bench(tmp_path)


class TestSqliteThatTakesLittle(BackendContract):
    """The same with a limit that the suite's reports reach."""

    @pytest.fixture
    def bench(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
        monkeypatch.setattr(SqliteBackend, "traits", Traits(largest_report=2000))
        yield from sqlite_bench(tmp_path)


class Place:
    """One file, a clock, a daemon and a submitter."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "jobs.db"
        self.clock = ManualClock()
        self.backend = sqlite_backend(self.path, self.clock)
        self.submitter = sqlite_submitter(self.path, self.clock)

    def announce(self) -> None:
        self.backend.catalogue.announce(QUEUE, DeviceCard(DEVICE), self.clock.now())

    def submit(self) -> str:
        return self.submitter.submit(DEVICE, {"number": 0})

    def end(self, claim: Claim, *, value: int = 1) -> None:
        """End a job with a signed result."""
        report = signed_report(claim, data={"value": value}).report
        self.backend.ack(claim, SignedReport(report, KEY.jws(report_to_json(report))))

    def done(self, *, value: int = 1) -> str:
        job_id = self.submit()
        self.end(take(self.backend), value=value)
        return job_id


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.backend.close()
    made.submitter.close()


@pytest.fixture
def place(empty: Place) -> Place:
    empty.announce()
    return empty


# --- the file --------------------------------------------------------------------------------


def test_looking_makes_no_file(empty: Place) -> None:
    assert empty.submitter.devices() == []
    with pytest.raises(UnknownDevice, match="start its daemon first"):
        empty.submit()
    with pytest.raises(UnknownJob):
        empty.submitter.cancel(DEVICE, "x")
    empty.backend.ping()
    empty.backend.catalogue.check_key_owner(QUEUE)
    assert empty.backend.reclaim(QUEUE, new_lease(), dead) is None
    assert empty.backend.depth(QUEUE) == 0
    assert not list(empty.path.parent.iterdir())


def test_a_claim_in_hand_makes_no_file(empty: Place, tmp_path: Path) -> None:
    """The daemon starts before the disk is mounted, with a report to deliver."""
    other = Place(tmp_path / "elsewhere")
    other.announce()
    other.submit()
    claim = take(other.backend)
    for verb in (empty.backend.renew, lambda it: empty.backend.ack(it, signed_report(it))):
        with pytest.raises(BackendUnavailable, match="cannot be opened"):
            verb(claim)
    assert not empty.path.exists()


def test_the_daemon_makes_the_file_with_its_folder(tmp_path: Path) -> None:
    made = Place(tmp_path / "some" / "where")
    assert made.backend.claim(QUEUE, new_lease()) is None
    assert [each.name for each in made.path.parent.glob("*.db")] == ["jobs.db"]
    assert made.path.stat().st_mode & 0o007 == 0
    assert rows(made.path, "PRAGMA journal_mode") == [("wal",)]
    assert not list(made.path.parent.glob(".*"))


def test_the_files_beside_it_have_its_permissions(tmp_path: Path) -> None:
    """Also when they are made by somebody whose umask says otherwise."""
    made, path = Place(tmp_path), tmp_path / "jobs.db"
    before = os.umask(0o007)
    try:
        made.announce()
        made.backend.close()
        os.umask(0o077)
        made.submit()
    finally:
        os.umask(before)
    beside = [path, path.with_name("jobs.db-wal"), path.with_name("jobs.db-shm")]
    assert [oct(each.stat().st_mode & 0o777) for each in beside] == ["0o660"] * 3
    made.submitter.close()


def test_several_daemons_make_the_file_at_once(tmp_path: Path) -> None:
    backends = [sqlite_backend(tmp_path / "new" / "jobs.db", ManualClock()) for _ in range(6)]
    barrier, troubles = threading.Barrier(6), []

    def announce(backend: SqliteBackend) -> None:
        barrier.wait()
        try:
            backend.catalogue.announce(QUEUE, DeviceCard(DEVICE), ManualClock().now())
        except BackendUnavailable as trouble:
            troubles.append(trouble)

    threads = [threading.Thread(target=announce, args=(each,)) for each in backends]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert troubles == []
    assert all(each.depth(QUEUE) == 0 for each in backends)
    assert len(list((tmp_path / "new").glob("*.db"))) == 1


def other_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as made:
        made.execute("CREATE TABLE photos (x)")


def newer_edition(path: Path) -> None:
    sqlite_backend(path, ManualClock()).claim(QUEUE, new_lease())
    rows(path, "PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (other_program, "is not a database of spooler; name another file"),
        (lambda path: path.write_text("Dear diary, " * 500), "is not a database of spooler"),
        (lambda path: path.write_bytes(b""), "is not a database of spooler"),
        (newer_edition, "has schema version 99 and this spooler reads version 1"),
    ],
)
def test_a_file_that_is_not_ours_is_refused(empty: Place, make, sentence: str) -> None:  # type: ignore[no-untyped-def]
    make(empty.path)
    before = empty.path.read_bytes()
    for verb in (empty.announce, empty.submitter.devices, lambda: empty.backend.depth(QUEUE)):
        with pytest.raises(ConfigError, match=sentence):
            verb()
    assert empty.path.read_bytes() == before


def test_a_file_that_goes_away_is_not_made_again(place: Place) -> None:
    place.submit()
    aside = place.path.with_name("aside")
    place.backend.close(), place.submitter.close()
    place.backend.depth(QUEUE)
    place.path.rename(aside)
    for _ in range(2):
        with pytest.raises(BackendUnavailable) as caught:
            place.backend.claim(QUEUE, new_lease())
        assert caught.value.scope is Scope.STORAGE
    assert not place.path.exists()
    aside.rename(place.path)
    assert take(place.backend).job.payload == {"number": 0}


def test_a_file_that_was_replaced_is_opened_anew(place: Place, tmp_path: Path) -> None:
    other = Place(tmp_path / "backup")
    other.announce()
    job_id = other.submit()
    other.submitter.close(), other.backend.close()
    assert place.backend.depth(QUEUE) == 0
    place.submitter.close()
    other.path.replace(place.path)
    with pytest.raises(BackendUnavailable, match="replaced or removed"):
        place.backend.depth(QUEUE)
    assert take(place.backend).job.id == job_id


# --- troubles --------------------------------------------------------------------------------


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def test_a_lock_that_stays_is_an_outage_and_looking_goes_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.1)
    job_id = place.submit()
    claim = take(place.backend)
    with locked(place.path):
        for verb in (
            lambda: place.backend.claim(QUEUE, new_lease()),
            lambda: place.backend.renew(claim),
            lambda: place.backend.ack(claim, signed_report(claim)),
            lambda: place.submitter.cancel(DEVICE, job_id),
            place.backend.ping,
        ):
            with pytest.raises(BackendUnavailable, match="locked by another process") as caught:
                verb()
            assert caught.value.scope is Scope.STORAGE
        assert place.submitter.status(DEVICE, job_id).state is State.RUNNING
    place.end(place.backend.renew(claim))
    assert place.submitter.status(DEVICE, job_id).state is State.DONE


def test_a_thread_does_not_wait_for_ever_for_another(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.1)
    shared = database.Database(place.path)
    inside, over = threading.Event(), threading.Event()

    def hold() -> None:
        with shared.writing():
            inside.set()
            over.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert inside.wait(30)
    with pytest.raises(BackendUnavailable, match="busy with another request"), shared.reading():
        pass
    over.set()
    holder.join()
    with shared.reading():
        pass
    shared.close()


FULL = """
import resource, sys
from pathlib import Path
from spooler.errors import BackendUnavailable
from spooler.testing.bench import DEVICE, QUEUE, new_lease, signed_report, take
from spooler.testing.clock import ManualClock
from tests.storage.sqlite_bench import sqlite_backend, sqlite_submitter
path = Path(sys.argv[1])
backend, submitter = sqlite_backend(path, ManualClock()), sqlite_submitter(path, ManualClock())
first = take(backend)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
try:
    backend.ack(first, signed_report(first, data={"value": "x" * 3_000_000}))
except BackendUnavailable as trouble:
    print(trouble.scope, trouble)
assert submitter.status(DEVICE, first.job.id).state == "running"
backend.ack(backend.renew(first), signed_report(first))
"""


def test_a_full_disk_leaves_everything_as_it_was(place: Place) -> None:
    job_id = place.submit()
    place.backend.close(), place.submitter.close()
    asked = [sys.executable, "-c", FULL, str(place.path)]
    said = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.startswith(f"storage {place.path}: the disk ")
    assert place.submitter.result(DEVICE, job_id).data == {"value": 1}
    assert rows(place.path, "PRAGMA integrity_check") == [("ok",)]


def test_a_damaged_file_is_an_outage(place: Place) -> None:
    for _ in range(50):
        place.submit()
    place.backend.close(), place.submitter.close()
    sound = place.path.read_bytes()
    place.path.write_bytes(sound[:4096] + b"\xff" * (len(sound) - 4096))
    with pytest.raises(BackendUnavailable, match="the database is damaged"):
        place.backend.claim(QUEUE, new_lease())
    place.path.write_bytes(sound)
    assert take(place.backend).job.payload == {"number": 0}, "it is read anew once restored"


# --- many jobs -------------------------------------------------------------------------------

RACER = """
import sys
from pathlib import Path
from spooler.clock import SystemClock
from spooler.testing.bench import QUEUE, new_lease, signed_report
from tests.storage.sqlite_bench import sqlite_backend
backend = sqlite_backend(Path(sys.argv[1]), SystemClock())
claim = backend.claim(QUEUE, new_lease())
print("ready", flush=True)
sys.stdin.readline()
while claim is not None:
    backend.ack(backend.start(claim, 1.0), signed_report(claim))
    print(claim.job.id, flush=True)
    claim = backend.claim(QUEUE, new_lease())
"""


def test_two_processes_get_every_job_once(place: Place) -> None:
    ids = [place.submit() for _ in range(200)]
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(place.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for each in racers:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in racers:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    found = [each.communicate(timeout=60)[0].split() for each in racers]
    assert [each.returncode for each in racers] == [0, 0]
    assert all(found), "each process has had some"
    assert Counter(found[0] + found[1]) == Counter(ids)


STATEMENTS = {
    name: text
    for name, text in vars(schema).items()
    if name.isupper() and isinstance(text, str) and name != "TABLES"
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_walks_through_a_table(place: Place, name: str) -> None:
    """Only the list of devices is read as a whole."""
    with closing(sqlite3.connect(place.path)) as connection:
        names = re.findall(r":(\w+)", STATEMENTS[name])
        values = dict.fromkeys(names, 1)
        plan = [
            row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {STATEMENTS[name]}", values)
        ]
    walks = [step for step in plan if step.startswith(("SCAN", "USE TEMP"))]
    assert walks == (
        ["SCAN devices USING INDEX sqlite_autoindex_devices_1"] if name == "DEVICES" else []
    )
    index = {"OLDEST_FIRST": "waiting", "DEPTH": "waiting", "OPEN_CLAIMS": "running"}.get(name, "")
    assert any(f"INDEX {index} " in step for step in plan) or not index


def steps_of(path: Path, name: str) -> int:
    """How many steps SQLite's machine takes for the first row of a statement."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    with closing(sqlite3.connect(path)) as connection:
        connection.set_progress_handler(count, 1)
        asked = {"queue": DEVICE, "now": 2e9, "token": "t"}
        connection.execute(STATEMENTS[name], asked).fetchone()
    return steps


@pytest.mark.parametrize("name", ["OLDEST_FIRST", "OWN_CLAIM", "OPEN_CLAIMS", "DEPTH"])
def test_ended_jobs_cost_a_claim_nothing(place: Place, name: str) -> None:
    place.submit()
    take(place.backend)
    place.submit()
    before = steps_of(place.path, name)
    rows(
        place.path,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)"
        " INSERT INTO jobs (queue, id, submitted_at, submitter, state)"
        " SELECT ?, 'ended' || i, '', '', 'done' FROM n",
        DEVICE,
    )
    assert steps_of(place.path, name) == before


def test_a_job_that_is_too_large_is_not_read(place: Place) -> None:
    place.submitter.submit(DEVICE, {"much": "x" * MAX_PAYLOAD})
    job = take(place.backend).job
    assert (job.payload, job.digest) == (None, "")
    assert f"at most {MAX_PAYLOAD} are accepted" in job.defect


def test_a_job_that_is_no_object_says_so(place: Place) -> None:
    place.submit()
    rows(place.path, "UPDATE requests SET payload = CAST('[1]' AS BLOB)")
    assert take(place.backend).job.defect == "the job is a list; send a JSON object"


def test_a_payload_that_is_no_json_is_refused(place: Place) -> None:
    for payload in ({"x": float("nan")}, {"x": object()}, {"x": "\ud800"}):
        with pytest.raises(PayloadInvalid):
            place.submitter.submit(DEVICE, payload)  # type: ignore[dict-item]
    assert place.backend.depth(QUEUE) == 0


def test_an_id_is_given_once(place: Place) -> None:
    place.submitter.submit(DEVICE, {"number": 1}, job_id="mine")
    with pytest.raises(PayloadInvalid, match="already has a job 'mine'"):
        place.submitter.submit(DEVICE, {"number": 2}, job_id="mine")
    assert take(place.backend).job.payload == {"number": 1}


def test_old_jobs_are_forgotten_as_the_page_says(place: Place) -> None:
    page = Path(__file__).parents[2] / "docs" / "sqlite.md"
    (text,) = re.findall(r"```sql\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
    old, waits, new = place.done(), place.submit(), place.submit()
    place.end(take(place.backend)), place.end(take(place.backend))
    stays = place.submit()
    rows(place.path, "UPDATE jobs SET submitted_at = '2025-12-31T23:59:59+00:00' WHERE number <> 3")
    rows(place.path, "UPDATE jobs SET submitted_at = '2026-01-01T00:00:00+00:00' WHERE number = 3")
    with closing(sqlite3.connect(place.path)) as other:
        other.executescript(text)
    for job_id in (old, waits):
        with pytest.raises(UnknownJob):
            place.submitter.status(DEVICE, job_id)
    assert verdict(place, new)[0]
    assert place.submitter.status(DEVICE, stays).state is State.QUEUED
    assert rows(place.path, "SELECT count(*) FROM reports") == [(1,)]


def test_a_deleted_job_is_gone_with_all_that_was_known_of_it(place: Place) -> None:
    place.submit()
    place.backend.release(take(place.backend), "crash", refund=False)
    claim = take(place.backend)
    with closing(database.Database(place.path)) as shared, shared.writing() as connection:
        connection.execute("DELETE FROM jobs")
    with pytest.raises(JobGone):
        place.backend.renew(claim)
    for count in (
        "SELECT count(*) FROM requests",
        "SELECT count(*) FROM attempts",
        "SELECT count(*) FROM jobs",
    ):
        assert rows(place.path, count) == [(0,)]


# --- clocks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-400 * DAY, -TTL, TTL + 1, 400 * DAY])
def test_a_stepped_clock_neither_ends_nor_keeps_a_lease(place: Place, seconds: float) -> None:
    place.submit()
    claim = take(place.backend)
    watcher = sqlite_backend(place.path, place.clock)
    assert watcher.reclaim(QUEUE, new_lease(), leased) is None
    place.clock.step(seconds)
    assert watcher.reclaim(QUEUE, new_lease(), leased) is None, "a live lease was taken"
    place.backend.renew(claim)
    assert watcher.reclaim(QUEUE, new_lease(), leased) is None
    place.clock.advance(TTL + 1)
    assert watcher.reclaim(QUEUE, new_lease(), leased) is not None, "a dead lease was kept"
    watcher.close()


@pytest.mark.parametrize(("seconds", "waits"), [(-400 * DAY, 0.0), (-30.0, 90.0), (400 * DAY, 0.0)])
def test_a_delayed_job_waits_twice_its_delay_at_most(
    place: Place, seconds: float, waits: float
) -> None:
    place.submit()
    place.backend.release(take(place.backend), "later", refund=True, delay=60.0)
    assert list(place.backend.peek(QUEUE)) == []
    place.clock.advance(31.0)
    assert place.backend.claim(QUEUE, new_lease()) is None
    place.clock.step(seconds)
    if waits:
        assert place.backend.claim(QUEUE, new_lease()) is None
        place.clock.advance(waits)
    take(place.backend)


@pytest.mark.parametrize("deed", ["renew", "ack", "release"])
def test_what_the_holder_does_while_it_is_judged_counts(place: Place, deed: str) -> None:
    place.submit()
    claim = take(place.backend)
    watcher = sqlite_backend(place.path, place.clock)

    def judge(_: Claim) -> Standing:
        if deed == "renew":
            place.backend.renew(claim)
        elif deed == "ack":
            place.end(claim)
        else:
            place.backend.release(claim, "stopping", refund=True)
        return Standing.DEAD

    assert watcher.reclaim(QUEUE, new_lease(), judge) is None
    watcher.close()


# --- signatures ------------------------------------------------------------------------------


def verdict(place: Place, job_id: str) -> tuple[bool, str]:
    said = place.submitter.verify(DEVICE, job_id)
    return said.ok, said.detail


def test_a_signed_result_verifies(place: Place) -> None:
    job_id = place.done()
    assert verdict(place, job_id) == (True, "signed by the key 'lab' of device 'spins'")
    assert place.submitter.verify(DEVICE, job_id).kid == "lab"


def test_a_result_that_does_not_exist_or_is_not_signed(place: Place) -> None:
    job_id = place.submit()
    with pytest.raises(UnknownJob):
        place.submitter.verify(DEVICE, job_id)
    claim = take(place.backend)
    place.backend.ack(claim, signed_report(claim))
    assert verdict(place, job_id) == (False, "the result is not signed")


def test_a_tampered_report_does_not_verify(place: Place) -> None:
    job_id = place.done()
    rows(
        place.path,
        "UPDATE reports SET report = CAST(replace(CAST(report AS TEXT), ?, ?) AS BLOB)",
        '"value":1',
        '"value":2',
    )
    assert place.submitter.result(DEVICE, job_id).data == {"value": 2}
    assert verdict(place, job_id) == (False, "the stored report is not the one that was signed")


@pytest.mark.parametrize("report", [b"", b"\xff", b"[]", b"{}", b'{"status": 1, "result": 2}'])
def test_a_report_that_is_none_is_said_to_be_unreadable(place: Place, report: bytes) -> None:
    job_id = place.done()
    rows(place.path, "UPDATE reports SET report = ?", report)
    for ask in (place.submitter.result, place.submitter.verify):
        with pytest.raises(UnknownJob, match="cannot be read"):
            ask(DEVICE, job_id)


def test_a_tampered_signature_does_not_verify(place: Place) -> None:
    job_id = place.done()
    rows(place.path, "UPDATE reports SET jws = substr(jws, 1, length(jws) - 20) || ?", "A" * 20)
    ok, detail = verdict(place, job_id)
    assert not ok
    assert "does not belong" in detail


def test_the_result_of_another_job_does_not_verify(place: Place) -> None:
    other, job_id = place.done(value=1), place.done(value=2)
    rows(
        place.path,
        "UPDATE reports SET (report, jws) = (SELECT report, jws FROM reports WHERE job = 1)",
    )
    assert verdict(place, other)[0]
    assert verdict(place, job_id) == (
        False,
        f"the stored report is about job {other!r} of device 'spins'",
    )
    with pytest.raises(UnknownJob, match=f"has no result: the stored report is about .*{other}"):
        place.submitter.result(DEVICE, job_id)


def test_the_result_of_the_same_job_of_another_queue_does_not_verify(place: Place) -> None:
    job_id = place.done()
    rows(place.path, "UPDATE jobs SET queue = 'fridge'")
    rows(place.path, "INSERT INTO devices SELECT 'fridge', card, last_seen, kid FROM devices")
    rows(place.path, "INSERT INTO keys SELECT 'fridge', kid, jwk FROM keys")
    said = place.submitter.verify("fridge", job_id)
    assert (said.ok, said.detail) == (
        False,
        f"the stored report is about job {job_id!r} of device 'spins'",
    )


def test_a_key_that_was_never_announced_does_not_verify(place: Place) -> None:
    job_id = place.submit()
    claim, stranger = take(place.backend), generate("stranger")
    report = signed_report(claim).report
    place.backend.ack(claim, SignedReport(report, stranger.jws(report_to_json(report))))
    ok, detail = verdict(place, job_id)
    assert not ok
    assert "'stranger', which is not a known key" in detail


def announced_by(place: Place, signer, former=()) -> None:  # type: ignore[no-untyped-def]
    backend = sqlite_backend(place.path, place.clock, signer=signer, former_keys=former)
    try:
        backend.catalogue.check_key_owner(QUEUE)
        backend.catalogue.announce(QUEUE, DeviceCard(DEVICE), place.clock.now())
    finally:
        backend.close()


def test_another_key_is_refused_and_a_rotated_one_is_not(place: Place) -> None:
    job_id, new = place.done(), generate("lab-2")
    with pytest.raises(KeyRefused, match="announced under the key 'lab', and this is the key"):
        announced_by(place, new)
    with pytest.raises(KeyRefused, match="no key is configured"):
        announced_by(place, None)
    with pytest.raises(KeyRefused, match="under the key 'lab'"):
        announced_by(place, generate("lab"))
    assert verdict(place, job_id)[0]
    announced_by(place, new, (KEY.public(),))
    assert verdict(place, job_id)[0], "the former key is kept"
    announced_by(place, new)
    assert verdict(place, job_id)[0], "also when the daemon no longer brings it"
    with pytest.raises(KeyRefused):
        announced_by(place, KEY)
    third = generate("lab")
    with pytest.raises(KeyRefused, match="another public key is already kept under the kid 'lab'"):
        announced_by(place, third, (new.public(),))


def test_a_device_without_a_key_gets_one(tmp_path: Path) -> None:
    path, clock = tmp_path / "jobs.db", ManualClock()
    bare = sqlite_backend(path, clock, signer=None)
    card = DeviceCard(DEVICE, version="2", properties={"gates": ["x"]}, note="warm")
    bare.catalogue.announce(QUEUE, card, clock.now())
    bare.close()
    submitter = sqlite_submitter(path, clock)
    assert submitter.devices(count=True) == [replace(card, pending=0, last_seen=clock.now())]
    signed = sqlite_backend(path, clock)
    signed.catalogue.announce(QUEUE, card, clock.now())
    with pytest.raises(KeyRefused):
        sqlite_backend(path, clock, signer=None).catalogue.check_key_owner(QUEUE)
    signed.close(), submitter.close()


# --- the submitter ---------------------------------------------------------------------------


def test_a_status_says_when(place: Place) -> None:
    job_id = place.submit()
    claim = place.backend.start(take(place.backend), 600.0)
    began = place.clock.now()
    place.clock.advance(5.0)
    assert place.submitter.status(DEVICE, job_id).started_at == began
    report = signed_report(claim).report
    status = replace(report.status, started_at=began, finished_at=place.clock.now())
    place.backend.ack(claim, SignedReport(replace(report, status=status)))
    assert place.submitter.status(DEVICE, job_id) == status


def test_a_withdrawn_job_says_so(place: Place) -> None:
    job_id = place.submit()
    place.submitter.cancel(DEVICE, job_id)
    status = place.submitter.status(DEVICE, job_id)
    assert (status.state, status.reason) == (State.QUEUED, "cancellation requested")
    place.backend.release(take(place.backend), "later", refund=True)
    assert take(place.backend).cancelled


def test_a_submitter_uses_several_threads(place: Place) -> None:
    submitter = SqliteSubmitter(database.Database(place.path), place.clock)
    threads = [threading.Thread(target=submitter.submit, args=(DEVICE, {})) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert place.backend.depth(QUEUE) == 8
    submitter.close()


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE jobs SET submitted_at = 'yesterday'",
        "UPDATE jobs SET id = x'ff00'",
        "UPDATE jobs SET submitter = CAST(x'ff' AS TEXT)",
        "DELETE FROM requests",
        "INSERT INTO attempts SELECT number, 1, 'somebody', 'once', 'died', 1 FROM jobs",
    ],
)
def test_a_row_that_cannot_be_read_troubles_its_queue_alone(place: Place, text: str) -> None:
    """Programs of others write the file too; the other queues are served meanwhile."""
    place.announce()
    place.submit()
    rows(place.path, text)
    with pytest.raises(BackendUnavailable) as trouble:
        place.backend.claim(QUEUE, new_lease())
    assert trouble.value.scope is Scope.QUEUE
    place.backend.ping()
    assert place.backend.depth(QUEUE) == 1, "it is not claimed"
