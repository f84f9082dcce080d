"""What only MongoDB's core has: its ids, its names, its documents, its moves."""

from __future__ import annotations

import datetime
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import bson
import pytest
from bson import Binary, ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from spooler.errors import BackendUnavailable
from spooler.storage.sqooler.client.core import NotADocument
from spooler.storage.sqooler.client.mongodb import MongodbCore
from spooler.storage.sqooler.mongodb.address import MongoAddress
from spooler.storage.sqooler.mongodb.documents import NotStorable, as_json
from spooler.storage.sqooler.mongodb.moving import Mover
from tests.servers.mongodb import MongoServer

X, Y = "a" * 24, "b" * 24
Raw = CodecOptions(document_class=RawBSONDocument)


@pytest.fixture
def address(mongodb_server: MongoServer, mongo_prefix: str) -> MongoAddress:
    return MongoAddress(uri=mongodb_server.uri, prefix=mongo_prefix)


@pytest.fixture
def core(address: MongoAddress) -> Iterator[MongodbCore]:
    with MongodbCore(address, "lab") as made:
        yield made


@pytest.fixture
def theirs(mongodb_server: MongoServer, mongo_prefix: str) -> Callable[[str, str], Any]:
    """A collection as somebody else sees it."""
    return lambda database, name: mongodb_server.client[mongo_prefix + database][name]


ways = pytest.mark.parametrize("transactions", [True, False], ids=["at-once", "by-steps"])


def mover(core: MongodbCore, *, transactions: bool) -> Mover:
    core.mover = Mover(core.client, transactions=transactions)
    return core.mover


# --- ids, names, documents -------------------------------------------------------------------


def test_documents_lie_where_sqooler_has_them(core: MongodbCore, theirs: Any) -> None:
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    core.upload({"b": 1, "a": {"y": 1.0, "x": [1, 2.5]}, "at": at}, "jobs/queued/dev", X)
    (found,) = theirs("jobs", "queued.dev").with_options(codec_options=Raw).find()
    expected = {"_id": ObjectId(X), "b": 1, "a": {"y": 1.0, "x": [1, 2.5]}, "at": at}
    assert found.raw == bson.encode(expected)
    assert core.get("jobs/queued/dev", X)["at"] == at
    assert core.get("jobs/queued/dev", X)["at"].tzinfo is not None


def test_ids_come_in_the_order_of_insertion(core: MongodbCore) -> None:
    names = [f"{number:024x}" for number in (7, 3, 9, 1)]
    for name in names:
        core.upload({}, "p/q", name)
    core.update({"new": 1}, "p/q", names[0])
    assert core.ids("p/q") == names


def test_foreign_documents_are_left_alone(core: MongodbCore, theirs: Any) -> None:
    theirs("p", "q").insert_many([{"_id": f"string{n}"} for n in range(50)] + [{"_id": 5}])
    core.upload({}, "p/q", X)
    assert core.ids("p/q") == [X]
    assert core.exists("p/q", X)
    assert theirs("p", "q").count_documents({}) == 52


@pytest.mark.parametrize("name", ["dev", "x" * 24, "a" * 23, "a" * 25, "123"])
def test_an_id_that_is_no_object_id(core: MongodbCore, theirs: Any, name: str) -> None:
    theirs("p", "q").insert_one({"_id": name})
    with pytest.raises(ValueError, match="must be 24 hex digits"):
        core.upload({}, "p/q", name)
    for act in (
        lambda: core.get("p/q", name),
        lambda: core.update({}, "p/q", name),
        lambda: core.delete("p/q", name),
        lambda: core.move("p/q", "p/r", name),
    ):
        with pytest.raises(FileNotFoundError, match="no such document"):
            act()
    assert not core.exists("p/q", name)


@pytest.mark.parametrize(
    "path", ["p", "p/system", "p/system/x", "a.b/c", "p/a.b", "admin/x", "local/x", "x" * 64 + "/y"]
)
def test_a_path_that_mongodb_cannot_have(
    mongodb_server: MongoServer, mongo_prefix: str, path: str
) -> None:
    del mongo_prefix
    with (
        MongodbCore(MongoAddress(uri=mongodb_server.uri), "lab") as core,
        pytest.raises(ValueError, match="not usable in MongoDB"),
    ):
        core.upload({}, path, X)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"a.b": 1}, "'a.b' has a dot"),
        ({"x": [{"$set": 1}]}, r"'\$set' has a dot, or a dollar"),
        ({"a": {"b\0c": 1}}, "dollar sign"),
        ({"_id": 1}, "'_id' is the storage's own"),
        ({"a": {1: 2}}, "the key 1 is not text"),
        ({"a": 2**63}, "more than 64 bits"),
        ({"a": float("inf")}, "none that JSON has"),
        ({"a": "\ud800"}, "not valid Unicode"),
        ({"\udc00": 1}, "not valid Unicode"),
        ({"a": "x" * (16 * 2**20)}, "the limit is 16 MiB"),
    ],
)
def test_what_mongodb_cannot_hold(core: MongodbCore, content: dict[Any, Any], reason: str) -> None:
    core.upload({}, "p/q", Y)
    for write in (lambda: core.upload(content, "p/q", X), lambda: core.update(content, "p/q", Y)):
        with pytest.raises(NotStorable, match=reason) as caught:
            write()
        assert len(str(caught.value)) < 200
    assert core.ids("p/q") == [Y]
    assert core.get("p/q", Y) == {}


def test_an_id_inside_is_the_users_own(core: MongodbCore) -> None:
    core.upload({"a": {"_id": 1}}, "p/q", X)
    assert core.get("p/q", X) == {"a": {"_id": 1}}


def test_a_job_of_nearly_sixteen_megabytes(core: MongodbCore) -> None:
    content = {"blob": "x" * int(15.9 * 2**20)}
    core.upload(content, "p/q", X)
    core.move("p/q", "p/r", X)
    assert core.get("p/r", X) == content


def test_text_that_is_no_utf8_is_one_sentence(
    core: MongodbCore, theirs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = bson.encode({"_id": ObjectId(X), "a": "xyz"}).replace(b"xyz", b"x\xffz")
    try:
        theirs("p", "q").with_options(codec_options=Raw).insert_one(RawBSONDocument(bad))
    except OperationFailure:  # a server that looks into documents: then as if it did not
        stored = SimpleNamespace(find_one=lambda _: bson.decode(bad))
        monkeypatch.setattr(core, "collection", lambda _: stored)
    with pytest.raises(NotADocument, match="not valid UTF-8") as caught:
        core.get("p/q", X)
    assert "\n" not in str(caught.value)


@ways
def test_documents_are_moved_as_bytes(core: MongodbCore, theirs: Any, transactions: bool) -> None:
    """Also such as no decoder would give back the same."""
    mover(core, transactions=transactions)
    odd = bson.encode(
        {"_id": ObjectId(X), "w": bson.Int64(5), "r": {"$ref": "c", "$id": 1}, "n": float("nan")}
    )
    theirs("p", "q").with_options(codec_options=Raw).insert_one(RawBSONDocument(odd))
    core.move("p/q", "p/r", X)
    (moved,) = theirs("p", "r").with_options(codec_options=Raw).find()
    assert moved.raw == odd


def test_documents_of_others_as_json() -> None:
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, 6000)  # noqa: DTZ001 - as some drivers give it
    given = {"at": at, "n": bson.Int64(5), "x": Binary(b"abc="), "l": [None, True, 1.0, "t"]}
    said = as_json(bson.decode(bson.encode(given)))
    assert said == {
        "at": "2026-01-02T03:04:05.006000+00:00",
        "n": 5,
        "x": "abc=",
        "l": [None, True, 1.0, "t"],
    }
    assert type(said["n"]) is int
    for foreign in (ObjectId(X), bson.Decimal128("1"), Binary(b"\xff"), bson.Regex("x")):
        with pytest.raises(NotADocument, match="JSON cannot represent"):
            as_json({"a": [foreign]})


# --- found by what they say ------------------------------------------------------------------


def test_of_two_about_the_same_sqoolers_choice_counts_and_it_is_said(
    core: MongodbCore, theirs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    configs = theirs("backends", "configs")
    signed = {"header": {}, "payload": {"display_name": "dev"}, "signature": ""}
    configs.insert_one({"_id": ObjectId(X), **signed})
    assert core.find("backends/configs", "display_name", "dev") == X
    configs.insert_one({"_id": ObjectId(Y), "display_name": "dev"})
    with caplog.at_level(logging.WARNING):
        assert core.find("backends/configs", "display_name", "dev") == Y
    assert f"2 documents about 'dev' in backends/configs; {Y} is used" in caplog.text


def test_they_are_found_by_an_index(core: MongodbCore, theirs: Any) -> None:
    core.upload({"display_name": "dev"}, "backends/configs", X)
    core.upload({"kid": "k"}, "backends/public_keys", X)
    indexes = theirs("backends", "configs").index_information()
    assert {"display_name_1", "payload.display_name_1"} <= indexes.keys()
    assert "kid_1" in theirs("backends", "public_keys").index_information()


def test_without_the_right_to_make_an_index_it_works_too(
    core: MongodbCore, mongodb_server: MongoServer
) -> None:
    with mongodb_server.failpoint("createIndexes", times="alwaysOn", errorCode=13):
        core.upload({"kid": "k"}, "backends/public_keys", X)
    assert core.find("backends/public_keys", "kid", "k") == X


# --- moving ----------------------------------------------------------------------------------


@ways
def test_a_server_may_lack_transactions(core: MongodbCore, transactions: bool) -> None:
    mover(core, transactions=transactions)
    core.upload({"a": 1}, "p/q", X)
    core.move("p/q", "p/r", X)
    assert (core.ids("p/q"), core.get("p/r", X)) == ([], {"a": 1})
    core.upload({"a": 2}, "p/q", X)
    with pytest.raises(FileExistsError):
        core.move("p/q", "p/r", X)
    assert (core.get("p/q", X), core.get("p/r", X)) == ({"a": 2}, {"a": 1})


def test_it_is_found_out_whether_there_are_transactions(
    core: MongodbCore, mongodb_server: MongoServer
) -> None:
    core.upload({}, "p/q", X)
    core.move("p/q", "p/r", X)
    assert core.mover.transactions is True
    with mongodb_server.failpoint("insert", errorCode=20):
        core.move("p/r", "p/q", X)
    assert core.mover.transactions is False
    assert core.ids("p/q") == [X]


class Killed(BaseException):
    pass


class Dying:
    """A collection at which the process dies right before, or right after, its n-th call."""

    def __init__(self, collection: Any, left: list[int], *, before: bool) -> None:
        self._collection, self._left, self._before = collection, left, before
        self.full_name = collection.full_name

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb = getattr(self._collection, name)

        def call(*args: Any, **options: Any) -> Any:
            self._left[0] -= 1
            if self._before and self._left[0] < 0:
                raise Killed
            answer = verb(*args, **options)
            if self._left[0] < 0:
                raise Killed
            return answer

        return call


@ways
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("stop_at", range(4))
def test_killed_anywhere_nothing_is_lost_and_the_next_mover_completes_it(
    core: MongodbCore,
    monkeypatch: pytest.MonkeyPatch,
    transactions: bool,
    before: bool,
    stop_at: int,
) -> None:
    mover(core, transactions=transactions)
    core.upload({"a": 1}, "p/q", X)
    left, real = [stop_at], core.raw
    with monkeypatch.context() as patch:
        patch.setattr(core, "raw", lambda place: Dying(real(place), left, before=before))
        with suppress(Killed):
            core.move("p/q", "p/r", X)
    there = [path for path in ("p/q", "p/r") if core.exists(path, X)]
    assert there, "the document is nowhere"
    if "p/q" in there:
        core.move("p/q", "p/r", X)
    assert (core.ids("p/q"), core.get("p/r", X)) == ([], {"a": 1})


@ways
def test_of_several_movers_one_moves_each_document(
    address: MongoAddress, core: MongodbCore, transactions: bool
) -> None:
    names = [f"{number:024x}" for number in range(15)]
    for name in names:
        core.upload({"n": name}, "p/q", name)
    moved: list[str] = []
    barrier = threading.Barrier(4)

    def move_all() -> None:
        with MongodbCore(address, "lab") as mine:
            mover(mine, transactions=transactions)
            barrier.wait()
            for name in names:
                with suppress(FileNotFoundError):
                    mine.move("p/q", "p/r", name)
                    moved.append(name)

    threads = [threading.Thread(target=move_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(moved) == names
    assert (core.ids("p/q"), sorted(core.ids("p/r"))) == ([], names)


def test_two_who_move_by_steps_at_the_same_moment(
    core: MongodbCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the write and the delete of one comes all of the other."""
    mover(core, transactions=False)
    core.upload({"a": 1}, "p/q", X)
    real, start = core.raw, ("p", "q")
    inner: list[bool] = []

    class Between(Dying):
        def __getattr__(self, name: str) -> Callable[..., Any]:
            verb = getattr(self._collection, name)

            def call(*args: Any, **options: Any) -> Any:
                if name == "delete_one" and not inner:
                    inner.append(True)
                    core.move("p/q", "p/r", X)
                return verb(*args, **options)

            return call

    monkeypatch.setattr(
        core,
        "raw",
        lambda place: (
            Between(real(place), [0], before=False) if place.segments == start else real(place)
        ),
    )
    with pytest.raises(FileNotFoundError):
        core.move("p/q", "p/r", X)
    assert (core.ids("p/q"), core.get("p/r", X)) == ([], {"a": 1})


# --- outages ---------------------------------------------------------------------------------


def test_a_server_that_restarts_in_between(core: MongodbCore, mongodb_server: MongoServer) -> None:
    core.upload({"a": 1}, "p/q", X)
    mongodb_server.restart()
    assert core.get("p/q", X) == {"a": 1}
    core.move("p/q", "p/r", X)


VERBS: dict[str, Callable[[MongodbCore], object]] = {
    "upload": lambda core: core.upload({}, "p/q", Y),
    "get": lambda core: core.get("p/q", X),
    "update": lambda core: core.update({}, "p/q", X),
    "move": lambda core: core.move("p/q", "p/r", X),
    "delete": lambda core: core.delete("p/q", X),
    "ids": lambda core: core.ids("p/q"),
    "exists": lambda core: core.exists("p/q", X),
    "find": lambda core: core.find("p/q", "kid", "k"),
    "branches": lambda core: core.branches("p"),
}


def test_every_verb_says_in_time_that_the_server_is_away(
    address: MongoAddress, mongodb_server: MongoServer
) -> None:
    quick = MongoAddress(
        uri=address.uri, prefix=address.prefix, connect_timeout=0.2, operation_timeout=0.4
    )
    with MongodbCore(quick, "lab") as core:
        core.upload({}, "p/q", X)
        with mongodb_server.stop_cont():
            for name, verb in VERBS.items():
                begin = time.monotonic()
                with pytest.raises(BackendUnavailable, match=r"in time|cannot be rea") as caught:
                    verb(core)
                assert "\n" not in str(caught.value), name
                assert time.monotonic() - begin < 3, name
        mongodb_server.kill()
        for name in ("upload", "get", "move"):
            with pytest.raises(BackendUnavailable, match="cannot be reached"):
                VERBS[name](core)
        mongodb_server.start()
        patient = MongodbCore(address, "lab")
        with patient:
            assert patient.exists("p/q", X)


@pytest.mark.parametrize("verb", [name for name in VERBS if name != "move"])
def test_one_lost_answer_is_no_trouble(
    core: MongodbCore, mongodb_server: MongoServer, verb: str
) -> None:
    command = {
        "upload": "insert",
        "update": "update",
        "delete": "delete",
        "branches": "listCollections",
    }.get(verb, "find")
    core.upload({"kid": "k"}, "p/q", X)
    with mongodb_server.failpoint(command, times=1, closeConnection=True):
        VERBS[verb](core)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (13, "grant spooler's user the role readWrite on the databases .*jobs"),
        (18, "refuses the login"),
        (14031, "no room on its disk"),
        (50, "did not answer in time"),
        (8, "refuses: "),
    ],
)
def test_what_the_server_says_becomes_a_sentence(
    core: MongodbCore, mongodb_server: MongoServer, code: int, reason: str
) -> None:
    with (
        mongodb_server.failpoint("delete", times="alwaysOn", errorCode=code),
        pytest.raises(BackendUnavailable, match=reason) as caught,
    ):
        core.delete("p/q", X)
    assert "127.0.0.1" in str(caught.value)
    assert not isinstance(caught.value.__cause__, OperationFailure)


def test_a_server_without_a_primary_is_asked_until_the_time_is_up(
    address: MongoAddress, mongodb_server: MongoServer
) -> None:
    quick = MongoAddress(uri=address.uri, prefix=address.prefix, operation_timeout=1.0)
    with MongodbCore(quick, "lab") as core:
        with mongodb_server.failpoint("insert", times=1, errorCode=91):
            core.upload({}, "p/q", X)
        with (
            mongodb_server.failpoint("insert", times="alwaysOn", errorCode=91),
            pytest.raises(BackendUnavailable, match=r"no primary|in time"),
        ):
            core.upload({}, "p/q", Y)


def test_a_write_that_is_not_safe_yet_is_not_done(
    core: MongodbCore, mongodb_server: MongoServer
) -> None:
    trouble = {"code": 64, "errmsg": "waiting for replication timed out"}
    with (
        mongodb_server.failpoint("insert", writeConcernError=trouble),
        pytest.raises(BackendUnavailable, match="in time"),
    ):
        core.upload({}, "p/q", X)


def test_a_client_is_only_made_where_it_is_needed() -> None:
    code = (
        "import sys, spooler.storage.sqooler.mongodb.address, spooler.settings, spooler.storage;"
        "print([name for name in sys.modules if name.split('.')[0] in ('pymongo', 'bson')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
