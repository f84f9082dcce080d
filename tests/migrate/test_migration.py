"""Storages that move, between folder and MongoDB, both ways, with interruptions."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spooler.clock import SystemClock
from spooler.errors import BackendUnavailable, ConfigError
from spooler.migrate import open_side
from spooler.migrate import side as transfer
from spooler.migrate.folder import FolderSide
from spooler.migrate.migration import Summary, migrate
from spooler.migrate.mongodb import MongoSide
from spooler.migrate.side import Past, Side
from spooler.signing.sqooler_form import create_jwk_pair
from spooler.storage import open_submitter
from spooler.storage.settings import (
    MemorySettings,
    SqliteSettings,
    SqoolerLocalSettings,
    SqoolerMongodbSettings,
    StorageSettings,
)
from spooler.storage.sqooler.client.documents import (
    BackendConfigSchemaIn,
    ResultDict,
    StatusMsgDict,
)
from tests.servers.mongodb import MongoServer

PRIVATE, PUBLIC = create_jwk_pair("lab-1")
WAITING = [f"{number:024x}" for number in (9, 4, 7, 2, 8)]
DONE, FAILED = "d" * 24, "e" * 24


def nothing(_: object) -> None:
    return


@dataclass
class Ends:
    source: StorageSettings
    target: StorageSettings

    def migrate(self, **options: Any) -> Summary:
        given = {"move": False, "force": False, "tell": nothing} | options
        return migrate(self.source, self.target, **given)

    def sides(self, stack: ExitStack) -> tuple[Side, Side]:
        return (
            stack.enter_context(closing(open_side(self.source))),
            stack.enter_context(closing(open_side(self.target))),
        )


@pytest.fixture
def places(
    tmp_path: Path, mongodb_server: MongoServer, mongo_prefix: str
) -> Callable[[str], StorageSettings]:
    def place(kind: str) -> StorageSettings:
        if kind.startswith("folder"):
            return SqoolerLocalSettings(type="sqooler-local", path=tmp_path / kind, fsync=False)
        return SqoolerMongodbSettings.model_validate(
            {
                "type": "sqooler-mongodb",
                "uri": mongodb_server.uri,
                "prefix": f"{mongo_prefix}{kind}_",
            }
        )

    return place


BOTH_WAYS = [("folder", "mongodb"), ("mongodb", "folder")]


@pytest.fixture(params=BOTH_WAYS, ids=["to-mongodb", "to-folder"])
def ends(
    request: pytest.FixtureRequest, places: Callable[[str], StorageSettings]
) -> Iterator[Ends]:
    source, target = request.param
    made = Ends(places(source), places(target))
    with closing(open_side(made.source)) as side:
        fill(side)
    yield made


def config() -> BackendConfigSchemaIn:
    return BackendConfigSchemaIn(
        description="d",
        version="0.1.0",
        display_name="dev",
        cold_atom_type="spin",
        gates=[],
        max_experiments=1,
        max_shots=1,
        simulator=True,
        supported_instructions=[],
        num_wires=1,
        wire_order="interleaved",
        num_species=1,
        sign=True,
    )


def fill(side: Side) -> None:
    """A storage with one device, five waiting jobs, one done and one failed."""
    provider = side.documents
    provider.upload_config(config(), "dev", PRIVATE)
    provider.timestamp_queue("dev", PRIVATE)
    provider.upload_public_key(PUBLIC, "dev")
    for job_id, word in ((DONE, "DONE"), (FAILED, "ERROR")):
        provider.upload({"n": 1.0, "b": [1, 1e-7]}, "jobs/running", job_id)
        provider.upload_status("dev", "u", job_id)
        status = StatusMsgDict.model_validate(
            {"job_id": job_id, "status": word, "detail": "Got it.", "error_message": "None"}
        )
        result = ResultDict(
            display_name="dev", backend_version="0.1.0", job_id=job_id, status="DONE"
        )
        provider.update_in_database(result, status, job_id, "dev", PRIVATE)
    for job_id in WAITING:
        provider.upload_status("dev", "u", job_id)
        side.queue("dev", job_id, {"job": job_id, "z": 1, "a": 2.0}, Past())


def everything(side: Side) -> dict[str, str]:
    """All documents, by place and by what they are about."""
    found = {}
    for path in side.paths():
        for document_id in side.documents.ids(path):
            content = side.read(path, document_id)
            payload = content.get("payload", content)
            about = payload.get("display_name" if path.endswith("configs") else "kid", document_id)
            about = about if path in transfer.NAMED else document_id
            found[f"{path}/{about}"] = json.dumps(content)
    for device in side.queues():
        for job_id in side.waiting(device):
            found[f"queued/{device}/{job_id}"] = json.dumps(side.body(device, job_id))
    return found


def test_a_copy_is_the_same_and_may_be_made_again(ends: Ends) -> None:
    with ExitStack() as stack:
        source, target = ends.sides(stack)
        before = everything(source)
        first = ends.migrate()
        assert (first.copied, first.present, first.removed, first.refused) == (17, 0, 0, [])
        assert everything(source) == everything(target) == before
        assert target.waiting("dev") == WAITING
        assert target.documents.verify_result("dev", DONE)
        newer = config().model_copy(update={"version": "0.2.0"})
        target.documents.update_config(newer, "dev", PRIVATE)
        second = ends.migrate()
        assert (second.copied, second.present, second.refused) == (0, 16, [])
        assert len(second.notes) == 1, "the target's own configuration stays, and that is said"


def test_two_copies_have_the_same_digest(ends: Ends) -> None:
    first = ends.migrate()
    assert first.digest == ends.migrate().digest
    with ExitStack() as stack:
        source, _ = ends.sides(stack)
        source.documents.update({"other": 1}, "jobs/deleted", FAILED)
    third = ends.migrate()
    assert third.digest != first.digest
    assert third.refused == [
        f"jobs/deleted/{FAILED}: the target has another document in its place; compare the two"
    ]


def test_a_move_leaves_nothing_behind(ends: Ends) -> None:
    with ExitStack() as stack:
        source, target = ends.sides(stack)
        before = everything(source)
        done = ends.migrate(move=True)
        assert (done.copied, done.removed, done.refused) == (17, 17, [])
        assert everything(source) == {}
        assert everything(target) == before
        assert target.waiting("dev") == WAITING


def test_there_and_back(ends: Ends) -> None:
    with ExitStack() as stack:
        source, target = ends.sides(stack)
        before = everything(source)
        ends.migrate(move=True)
        assert Ends(ends.target, ends.source).migrate(move=True).refused == []
        assert everything(source) == before
        assert everything(target) == {}
        assert source.waiting("dev") == WAITING


def test_what_is_known_of_a_waiting_job_goes_along(ends: Ends) -> None:
    past = Past(
        cancelled=True,
        attempts=(
            {"number": 1, "owner": "o", "at": "2026-11-22T12:00:00+00:00", "ended": "power cut"},
        ),
    )
    with ExitStack() as stack:
        source, target = ends.sides(stack)
        source.queue("dev", "c" * 24, {}, past)
        source.documents.upload_status("dev", "u", "c" * 24)
        ends.migrate(move=True)
        assert target.past("dev", "c" * 24) == past
        assert target.past("dev", WAITING[0]) == Past()
    with closing(open_submitter(ends.target, SystemClock())) as submitter:
        assert "cancellation" in submitter.status("dev", "c" * 24).reason


# --- somebody is at work ---------------------------------------------------------------------


def claim(side: Side, job_id: str) -> None:
    """What a daemon leaves in the storage that has claimed a job."""
    if isinstance(side, FolderSide):
        base = Path(side.documents.base_path)  # type: ignore[attr-defined]
        (base / "spooler/claims/dev").mkdir(parents=True)
        job = base / f"jobs/queued/dev/{job_id}.json"
        job.rename(base / f"spooler/claims/dev/{job_id}.1.ab.cd.c0-30000")
        return
    assert isinstance(side, MongoSide)
    from datetime import UTC, datetime

    from bson import ObjectId

    entry = {"_id": ObjectId(job_id), "phase": "held", "until": datetime.now(UTC), "token": "x"}
    side._layout.ledger("dev").insert_one(entry)


def test_while_jobs_run_nothing_is_done(ends: Ends) -> None:
    with ExitStack() as stack:
        source, target = ends.sides(stack)
        claim(source, WAITING[1])
        done = ends.migrate(move=True)
        assert (done.busy, done.claimed, done.copied, done.removed) == (True, 1, 0, 0)
        assert everything(target) == {}
        done = ends.migrate(move=True, force=True)
        assert (done.busy, done.claimed, done.copied) == (False, 1, 16)
        assert target.waiting("dev") == [WAITING[0], *WAITING[2:]]
        assert source.claimed() == 1


def test_a_job_that_is_taken_out_is_no_daemons(ends: Ends) -> None:
    with ExitStack() as stack:
        source, _ = ends.sides(stack)
        assert source.take_out("dev", WAITING[0])
        assert not source.take_out("dev", WAITING[0])
        assert source.waiting("dev") == WAITING[1:]
        assert source.in_hand("dev") == [WAITING[0]]
        claim(source, WAITING[1])
        assert not source.take_out("dev", WAITING[1])


# --- interruptions ---------------------------------------------------------------------------


class Killed(BaseException):
    pass


VERBS = ("_create", "_replace", "_move", "_remove")


def stop_at(monkeypatch: pytest.MonkeyPatch, steps: int, *, before: bool) -> Callable[[], bool]:
    """Kill the migration right before or after its n-th write, at either end."""
    left = [steps]

    def counted(verb: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any) -> Any:
            left[0] -= 1
            if before and left[0] == -1:
                raise Killed
            answer = verb(*args)
            if left[0] == -1:
                raise Killed
            return answer

        return step

    from spooler.storage.sqooler.client.local import LocalCore
    from spooler.storage.sqooler.client.mongodb import MongodbCore

    for kind in (LocalCore, MongodbCore):
        for name in VERBS:
            monkeypatch.setattr(kind, name, counted(getattr(kind, name)))
    for name in ("take_out",):
        monkeypatch.setattr(MongoSide, name, counted(getattr(MongoSide, name)))
    return lambda: left[0] < 0


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("start", [0, 16, 30])
def test_killed_anywhere_a_move_goes_on(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, start: int, before: bool
) -> None:
    """Killed at every third write or so, again and again: each run goes on from there."""
    with ExitStack() as stack:
        source, target = ends.sides(stack)
        whole = everything(source)
        killed = 0
        for number in range(40):
            with monkeypatch.context() as patch:
                was_killed = stop_at(patch, (start if number == 0 else 3) + number, before=before)
                with suppress(Killed):
                    ends.migrate(move=True, force=False)
            if not was_killed():
                break
            killed += 1
            known = everything(source).keys() | everything(target).keys()
            held = {f"queued/dev/{job_id}" for job_id in source.in_hand("dev")}
            assert whole.keys() <= known | held, "something is nowhere"
            queued = set(source.waiting("dev")) & set(target.waiting("dev"))
            assert queued == set(), "a job could be claimed at both ends"
        assert killed
        assert everything(target) == whole
        assert everything(source) == {}
        assert target.waiting("dev") == WAITING


def test_a_job_that_went_on_at_the_target_is_not_put_back(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between copying a job and removing it; the target's daemon is quick."""
    with ExitStack() as stack:
        source, target = ends.sides(stack)

        def killed(*_: object) -> None:
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(type(source), "put_away", killed)
            with suppress(Killed):
                ends.migrate(move=True)
        (job_id,) = source.in_hand("dev")
        target.documents.move("jobs/queued/dev", "jobs/finished/dev", job_id)
        final = {"job_id": job_id, "status": "DONE", "detail": "", "error_message": "None"}
        target.documents.update(final, "status/dev", job_id)
        done = ends.migrate(move=True)
        assert done.refused == []
        assert target.waiting("dev") == WAITING[1:]
        assert target.documents.get("status/dev", job_id) == final
        assert everything(source) == {}
        assert source.in_hand("dev") == []


def test_an_end_that_does_not_answer(
    places: Callable[[str], StorageSettings], mongodb_server: MongoServer
) -> None:
    ends = Ends(places("folder"), places("mongodb"))
    with closing(open_side(ends.source)) as side:
        fill(side)
    with (
        mongodb_server.failpoint("insert", times="alwaysOn", errorCode=13),
        pytest.raises(BackendUnavailable, match="readWrite"),
    ):
        ends.migrate(move=True)
    assert ends.migrate(move=True).refused == []


# --- what cannot go --------------------------------------------------------------------------


def test_what_mongodb_cannot_hold_stays_with_a_sentence(
    places: Callable[[str], StorageSettings], tmp_path: Path
) -> None:
    ends = Ends(places("folder"), places("mongodb"))
    with ExitStack() as stack:
        source, target = ends.sides(stack)
        fill(source)
        source.documents.upload({"a.b": 1}, "jobs/queued/dev", "1" * 24)
        source.documents.upload({}, "jobs/queued/dev", "by-hand")
        source.documents.upload({"$x": 1}, "results/dev", "2" * 24)
        (tmp_path / "folder/jobs/deleted/torn.json").write_text("{")
        done = ends.migrate(move=True)
        assert [sentence.partition(": ")[0] for sentence in done.refused] == [
            f"results/dev/{'2' * 24}",
            "jobs/deleted/torn",
            f"jobs/queued/dev/{'1' * 24}",
            "jobs/queued/dev/by-hand",
        ]
        assert done.copied == 17
        assert set(source.waiting("dev")) == {"1" * 24, "by-hand"}, "still in their queue"
        assert source.in_hand("dev") == []
        assert len(target.waiting("dev")) == 5


def test_what_a_folder_cannot_hold_stays_with_a_sentence(
    places: Callable[[str], StorageSettings],
) -> None:
    ends = Ends(places("mongodb"), places("folder"))
    with ExitStack() as stack:
        source, target = ends.sides(stack)
        raw = source.documents.collection(("jobs", "queued", "dev"))  # type: ignore[attr-defined]
        from bson import Decimal128, ObjectId

        raw.insert_one({"_id": ObjectId("1" * 24), "x": Decimal128("1")})
        raw.insert_one({"_id": "a string", "x": 1})
        results = source.documents.collection(("results", "dev"))  # type: ignore[attr-defined]
        results.insert_one({"_id": ObjectId("2" * 24), "header": {"stored": {"file": "f"}}})
        done = ends.migrate(move=True)
        assert done.copied == 0
        assert len(done.refused) == 2
        assert "spooler result" in done.refused[0]
        assert "Decimal128" in done.refused[1]
        assert source.waiting("dev") == ["1" * 24]
        assert everything(target) == {}


@pytest.mark.parametrize("kind", ["folder", "mongodb"])
def test_one_storage_under_two_names_is_noticed(
    places: Callable[[str], StorageSettings], tmp_path: Path, kind: str
) -> None:
    source = places(kind)
    with closing(open_side(source)) as side:
        fill(side)
        before = everything(side)
        (tmp_path / "link").symlink_to(tmp_path / "folder")
        other = source.model_copy(
            update={"path": tmp_path / "link", "name": "other"}
            if kind == "folder"
            else {"name": "other", "connect_timeout": 4.0}
        )
        with pytest.raises(ConfigError, match="the same storage"):
            migrate(source, other, move=True, force=False, tell=nothing)
        assert everything(side) == before


def test_a_storage_in_memory_is_none() -> None:
    memory = MemorySettings(type="memory")
    with pytest.raises(ConfigError, match="in memory"):
        migrate(memory, memory, move=False, force=False, tell=nothing)


def test_a_sqlite_file_is_not_in_the_format(tmp_path: Path) -> None:
    file = SqliteSettings(type="sqlite", path=tmp_path / "jobs.db")
    with pytest.raises(ConfigError, match="not in sqooler's format"):
        migrate(file, file, move=False, force=False, tell=nothing)


def test_files_of_one_clock_tick_keep_their_order(
    places: Callable[[str], StorageSettings], tmp_path: Path
) -> None:
    ends = Ends(places("mongodb"), places("folder"))
    with ExitStack() as stack:
        source, target = ends.sides(stack)
        fill(source)
        queue = tmp_path / "folder/jobs/queued/dev"
        queue.mkdir(parents=True)
        (queue / f"{'a' * 24}.json").write_text("{}")
        future = 4_000_000_000 * 10**9
        os.utime(queue / f"{'a' * 24}.json", ns=(future, future))
        ends.migrate()
        assert target.waiting("dev") == ["a" * 24, *WAITING]
