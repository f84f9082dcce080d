"""The harness on MongoDB: peers do the jobs, the wire counts and delays. No times."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
from bson.objectid import ObjectId

from benchmarks import mongo_peers
from benchmarks.__main__ import main
from benchmarks.aims import aims
from benchmarks.found import Found
from benchmarks.mongo_daemons import demand_once
from benchmarks.mongo_drain import Drains
from benchmarks.mongo_peers import BARE
from benchmarks.mongo_place import MongoPlace, Server, opened_server
from benchmarks.place import DEVICE, BenchmarkError
from benchmarks.running import run_to_end
from benchmarks.sizes import FULL
from benchmarks.wire import Run, Tally, Wire, command_of, database_of
from tests.benchmarks.tiny import TINY
from tests.servers.mongodb import DATABASES, VARIABLE, MongoServer

pytestmark = [pytest.mark.interop, pytest.mark.acceptance]

#: Commands of a job. What many share (a listing, a renewal) is a fraction more, at most.
EXPECTED = {"spooler": 3, "thread": 3, "sqooler": 17, "bare": 3, "searching": 3, "storage": 3}


@pytest.fixture
def server(bare_mongodb: MongoServer) -> Iterator[Server]:
    made = Server(bare_mongodb.uri, "the server of the tests")
    yield made
    made.client.close()


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    with server.wire(0.0) as made:
        yield made


@pytest.fixture
def place(tmp_path: Path, server: Server, wire: Wire) -> MongoPlace:
    return MongoPlace(tmp_path, server, server.over(wire))


@pytest.fixture
def done(place: MongoPlace) -> MongoPlace:
    """A place whose three jobs are done."""
    place.submit(3)
    run_to_end(BARE.drain(place, 3), place)
    place.demand_done(3, moved=False)
    return place


def test_a_job_left_is_noticed(done: MongoPlace) -> None:
    with pytest.raises(BenchmarkError, match=r"4 jobs were to be done, and there are 3 results"):
        done.demand_done(4, moved=False)
    with pytest.raises(BenchmarkError, match=r"3 waiting and 0 finished"):
        done.demand_done(3)


def test_a_false_signature_is_noticed(done: MongoPlace) -> None:
    done.collection("results", DEVICE).update_many({}, {"$set": {"payload.backend_version": "9"}})
    with pytest.raises(BenchmarkError, match="signature"):
        done.demand_done(3, moved=False)


def test_a_status_that_is_not_done_is_noticed(done: MongoPlace) -> None:
    statuses = done.collection("status", DEVICE)
    statuses.update_one({}, {"$set": {"payload.status": "ERROR"}})
    with pytest.raises(BenchmarkError, match="do not say that it is done"):
        done.demand_done(3, moved=False)


def test_a_job_that_ran_twice_is_noticed(tmp_path: Path) -> None:
    book = tmp_path / "book"
    book.write_text("a\nb\n")
    demand_once(book, ["a", "b"])
    book.write_text("a\nb\na\n")
    with pytest.raises(BenchmarkError, match=r"\{'a': 2\}"):
        demand_once(book, ["a", "b"])
    with pytest.raises(BenchmarkError, match=r"'c': 0"):
        demand_once(book, ["a", "b", "c"])


def test_a_server_in_use_is_left_alone(server: Server) -> None:
    server.client["results"]["somebody"].insert_one({})
    with pytest.raises(BenchmarkError, match="holds the databases results"):
        server.demand_free()


def test_a_server_that_no_wire_leads_to_is_refused() -> None:
    for uri in ("mongodb://a:1,b:2/", "mongodb+srv://a/", "mongodb://a/?tls=true"):
        with pytest.raises(BenchmarkError, match=f"{VARIABLE} must name one server"):
            Server(uri, "")


# --- the wire -----------------------------------------------------------------------------------


def test_the_way_over_the_wire_keeps_the_login(wire: Wire) -> None:
    uri = "mongodb://u:p@h:1/admin?replicaSet=x&authSource=y&directConnection=false"
    server = Server(uri, "")
    with server.client:
        said = f"mongodb://u:p@127.0.0.1:{wire.port}/admin?directConnection=true&authSource=y"
        assert server.over(wire) == said


def test_commands_are_counted_as_the_driver_tells_of_them(server: Server, wire: Wire) -> None:
    """Large ones too, which come in pieces; what the driver sends by itself is left out."""
    with pymongo.MongoClient[dict[str, Any]](server.over(wire)) as client:
        things = client["results"]["things"]
        big = ObjectId()
        things.insert_one({"_id": big, "text": "x" * 300_000})
        assert things.count_documents({"text": "y"}) == 0
        things.find_one_and_update({"_id": big}, {"$set": {"text": ""}})
        client["status"]["things"].update_one({"_id": 1}, {"$set": {"a": 1}})
    told = [(each.command, each.database) for each in wire.exchanges]
    expected = ["insert", "aggregate", "findAndModify"]
    assert told == [*((name, "results") for name in expected), ("update", "status")]
    assert [each.names(big.binary) for each in wire.exchanges] == [True, False, True, False]
    assert all(each.answered >= each.asked for each in wire.exchanges)
    assert wire.results == wire.exchanges[:1]
    assert [each.tells_the_end for each in wire.exchanges] == [False, False, False, True]


@pytest.mark.parametrize("each_way", [0.0, 0.001, 0.01])
def test_the_wire_is_as_long_as_it_is_said_to_be(server: Server, each_way: float) -> None:
    """Never shorter: a sleep may take longer, and how much longer stands in the report."""
    with (
        server.wire(each_way) as wire,
        pymongo.MongoClient[dict[str, Any]](server.over(wire)) as client,
    ):
        for _ in range(5):
            since = time.perf_counter()
            client.admin.command("ping")
            assert time.perf_counter() - since >= 2 * each_way
        ping = wire.exchanges[-1]
        assert (ping.command, ping.database) == ("ping", "admin")
        assert ping.answered - ping.asked >= each_way


def test_a_server_can_look_like_one_without_change_streams(server: Server) -> None:
    for standalone in (False, True):
        with (
            server.wire(0.0, standalone=standalone) as wire,
            pymongo.MongoClient[dict[str, Any]](server.over(wire)) as client,
        ):
            assert ("setName" in client.admin.command("hello")) is not standalone


def test_a_body_behind_a_list_of_documents_is_found() -> None:
    body = b"\x20\0\0\0\x02insert\0\x02\0\0\0a\0\x02$db\0\x02\0\0\0d\0\0"
    documents = b"\x01\x09\0\0\0docs\0"
    header = bytes(12) + (2013).to_bytes(4, "little") + bytes(4)
    message = header + documents + b"\0" + body
    assert (command_of(message), database_of(message)) == ("insert", "d")


# --- all of it ----------------------------------------------------------------------------------


def test_from_one_end_to_the_other(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    bare_mongodb: MongoServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All measurements, tiny: every peer does the jobs, with as many commands as expected."""
    monkeypatch.setenv(VARIABLE, bare_mongodb.uri)
    code = main(["--only", "mongodb", "--folder", str(tmp_path)], sizes=TINY)
    printed = capsys.readouterr()
    assert code == 0, printed.err
    text = printed.out
    assert "Not measured" not in text
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    for peer in mongo_peers.ALL:
        (row,) = [each for each in rows if each[0] == peer.label]
        assert int(float(row[-1])) == EXPECTED[peer.name], row
    for line in ("| 0 ms | 2 |", "spooler, change stream: claimed", "spooler, poll every 1 s"):
        assert line in text
    assert "2 ms added: 70% of a bare loop" in text
    assert list(tmp_path.iterdir()) == []
    assert set(DATABASES).isdisjoint(bare_mongodb.client.list_database_names())


def test_the_server_of_our_own(
    tmp_path: Path, mongodb_server: MongoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its data where it is told to, and nothing is left of it."""
    if not mongodb_server.owned:
        pytest.skip("SecantusDB may not be installed")
    monkeypatch.delenv(VARIABLE, raising=False)
    with opened_server(tmp_path) as server:
        assert server.name.endswith("on disk")
        assert list(tmp_path.iterdir())
        assert 0 < server.round_trip(None) < 60
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("seconds", "met"), [(1.0, True), (1.4, True), (1.5, False)])
def test_verdicts_follow_the_figures(*, seconds: float, met: bool) -> None:
    rounds = [{"spooler": Run(10, seconds, {}), "bare": Run(10, 1.0, {"insert": Tally(30, 0.1)})}]
    found = Found(mongo=[Drains("a server", {0.02: rounds})])
    verdicts = {aim.text: aim.met for aim in aims(found, FULL)}
    assert verdicts["a server: 20 ms added: 70% of a bare loop"] is met
