"""The real sqooler on the same storage, on the other side of every document."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo import MongoClient

from spooler.storage.sqooler.client import documents as ours
from spooler.storage.sqooler.client.local import LocalProviderExtended
from spooler.storage.sqooler.client.mongodb import MongodbProviderExtended
from spooler.storage.sqooler.mongodb.address import MongoAddress
from tests.servers.mongodb import MongoServer
from tests.storage.sqooler import upstream

pytestmark = pytest.mark.interop

JOB = {
    "experiment_0": {
        "instructions": [["load", [0], [5]], ["rlx", [0], [0.1]], ["measure", [0], []]],
        "num_wires": 1,
        "shots": 3,
        "wire_order": "interleaved",
        "seed": 4,
    }
}
THEIR_PRIVATE, THEIR_PUBLIC = upstream.security.create_jwk_pair("lab-1")
OUR_PRIVATE = ours.jwk_from_config_str(THEIR_PRIVATE.to_config_str())
OUR_PUBLIC = ours.public_from_private_jwk(OUR_PRIVATE)
ID = "a" * 24
KEYS = {"ours": (OUR_PRIVATE, OUR_PUBLIC), "theirs": (THEIR_PRIVATE, THEIR_PUBLIC)}
SCHEMES: dict[str, Any] = {"ours": ours, "theirs": upstream.schemes}
DIRECTIONS = [("ours", "theirs"), ("theirs", "ours"), ("ours", "ours")]

Sides = dict[str, Any]


@dataclass
class Places:
    """Opens one storage of a kind from both sides, and shows all that is in it."""

    open: Callable[[str], Any]
    shown: Callable[[], dict[str, str]]
    clear: Callable[[], None]
    kind: str


@pytest.fixture(params=["local", "mongodb"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Places]:
    if request.param == "local":
        yield _folder(tmp_path)
        return
    server: MongoServer = request.getfixturevalue("bare_mongodb")
    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    clients: list[MongoClient[Any]] = []

    def hard_wired(uri: str) -> MongoClient[Any]:
        """sqooler's own client, with its own options, but for our server."""
        assert uri == "mongodb+srv://u:p@h/?retryWrites=true&w=majority"
        options = "&retryWrites=true&w=majority"
        clients.append(MongoClient(server.uri + options))
        return clients[-1]

    patch.setattr(upstream.mongodb, "MongoClient", hard_wired)

    def opened(side: str) -> Any:
        if side == "ours":
            made = MongodbProviderExtended(MongoAddress(uri=server.uri), "lab")
            clients.append(made.client)
            return made
        login = {"mongodb_username": "u", "mongodb_password": "p", "mongodb_database_url": "h"}
        return upstream.MongodbProviderExtended(
            upstream.schemes.MongodbLoginInformation(**login), "lab"
        )

    yield Places(opened, lambda: _documents(server), lambda: _drop(server), "mongodb")
    for client in clients:
        client.close()


def _folder(folder: Path) -> Places:
    login = {"base_path": str(folder)}

    def opened(side: str) -> Any:
        if side == "ours":
            return LocalProviderExtended(ours.LocalLoginInformation(**login), "lab")
        return upstream.LocalProviderExtended(
            upstream.schemes.LocalLoginInformation(**login), "lab"
        )

    def shown() -> dict[str, str]:
        return {
            str(file.relative_to(folder)): file.read_text()
            for file in folder.rglob("*")
            if file.is_file()
        }

    def clear() -> None:
        for file in folder.rglob("*.json"):
            file.unlink()

    return Places(opened, shown, clear, "local")


def _documents(server: MongoServer) -> dict[str, str]:
    """Everything in sqooler's databases, by place; an id of configurations and keys is random."""
    found = {}
    for database in ("backends", "jobs", "results", "status"):
        for name in server.client[database].list_collection_names():
            for document in server.client[database][name].find():
                number = "" if database == "backends" else document["_id"]
                assert isinstance(document.pop("_id"), ObjectId)
                found[f"{database}/{name}/{number}"] = json.dumps(document, default=_typed)
    return found


def _typed(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else repr(value)


def _drop(server: MongoServer) -> None:
    for database in ("backends", "jobs", "results", "status"):
        server.client.drop_database(database)


@pytest.fixture
def sides(places: Places) -> Sides:
    return {side: places.open(side) for side in ("ours", "theirs")}


def config(side: str, *, sign: bool, **more: Any) -> Any:
    gate = {
        "coupling_map": [[0]],
        "description": "d",
        "name": "rlx",
        "parameters": ["omega"],
        "qasm_def": "{}",
    }
    return SCHEMES[side].BackendConfigSchemaIn(
        **{
            "description": "A collective spin.",
            "version": "0.1.0",
            "display_name": "dev",
            "cold_atom_type": "spin",
            "gates": [gate],
            "max_experiments": 3,
            "max_shots": 10,
            "simulator": True,
            "supported_instructions": ["load", "rlx"],
            "num_wires": 1,
            "wire_order": "interleaved",
            "num_species": 1,
            "sign": sign,
            **more,
        }
    )


def result(side: str, job_id: str) -> Any:
    return SCHEMES[side].ResultDict(
        display_name="dev",
        backend_version="0.1.0",
        job_id=job_id,
        status="DONE",
        results=[
            {
                "header": {"name": "experiment_0", "extra metadata": "text", "f": 1e-7},
                "shots": 3,
                "success": True,
                "data": {
                    "memory": ["1", "2", "3"],
                    "instructions": [{"name": "rlx", "wires": [0], "params": [0.1]}],
                },
            }
        ],
    )


def status(side: str, job_id: str, word: str = "DONE") -> Any:
    return SCHEMES[side].StatusMsgDict(
        job_id=job_id, status=word, detail="Got your json.; Ran.", error_message="None"
    )


def ours_of(sides: Sides) -> Any:
    return sides["ours"]


def same(one: Any, two: Any) -> bool:
    return bool(one.model_dump_json() == two.model_dump_json())


def announced(sides: Sides, side: str, *, sign: bool) -> None:
    private, public = KEYS[side]
    sides[side].upload_config(config(side, sign=sign), "dev", private if sign else None)
    if sign:
        sides[side].upload_public_key(public, "dev")


@pytest.mark.parametrize("sign", [True, False])
def test_both_leave_the_same_documents(places: Places, sign: bool) -> None:
    found = []
    for side in ("ours", "theirs"):
        provider = places.open(side)
        private, public = KEYS[side]
        key = private if sign else None
        provider.upload_config(config(side, sign=sign), "dev", key)
        if sign:
            provider.upload_public_key(public, "dev")
        for job_id, word in (("0" * 24, "DONE"), ("1" * 24, "ERROR"), ("2" * 24, "")):
            provider.upload(json.loads(json.dumps(JOB)), "jobs/queued/dev", job_id)
            provider.upload_status("dev", "u", job_id, key)
            if word:
                provider.move("jobs/queued/dev", "jobs/running", job_id)
                provider.update_in_database(
                    result(side, job_id), status(side, job_id, word), job_id, "dev", key
                )
        found.append(places.shown())
        places.clear()
    mine, theirs = found
    assert sorted(mine) == sorted(theirs)
    for path, text in theirs.items():
        if sign and path.startswith("status") and "INITIALIZING" not in text:
            # We sign the last status too; sqooler leaves it unsigned.
            assert json.dumps(json.loads(mine[path])["payload"]) == text
        elif path.startswith("backends/public_keys"):
            assert json.loads(mine[path]) == json.loads(text)
        else:
            assert mine[path] == text, path


@pytest.mark.parametrize(("writer", "reader"), DIRECTIONS)
@pytest.mark.parametrize("sign", [True, False])
def test_what_one_writes_the_other_reads(
    sides: Sides, writer: str, reader: str, sign: bool
) -> None:
    write, read = sides[writer], sides[reader]
    announced(sides, writer, sign=sign)
    key = KEYS[writer][0] if sign else None
    assert read.get_backends() == ["dev"]
    assert same(read.get_config("dev"), write.get_config("dev"))
    assert same(read.get_backend_dict("dev"), write.get_backend_dict("dev"))
    assert same(read.get_backend_status("dev"), write.get_backend_status("dev"))
    assert read.get_backend_status("dev").operational is False
    write.timestamp_queue("dev", key)
    assert read.get_backend_status("dev").operational is True
    if sign:
        assert same(read.get_public_key("dev"), KEYS[reader][1])

    job_id = write.upload_job(JOB, "dev", "u")
    assert read.get_file_queue("jobs/queued/dev") == [job_id]
    assert read.get_job("jobs/queued/dev", job_id) == JOB
    assert read.get_status("dev", "u", job_id).status == "ERROR"
    write.upload_status("dev", "u", job_id, key)
    assert same(read.get_status("dev", "u", job_id), write.get_status("dev", "u", job_id))
    write.upload_result(result(writer, job_id), "dev", job_id, key)
    got = read.get_result("dev", "u", job_id)
    assert same(got, write.get_result("dev", "u", job_id))
    assert got.backend_name == "lab_dev_simulator"
    if sign:
        assert read.verify_result("dev", job_id) is True


@pytest.mark.parametrize(("client", "worker"), DIRECTIONS)
@pytest.mark.parametrize("sign", [True, False])
@pytest.mark.parametrize("word", ["DONE", "ERROR"])
def test_one_submits_and_the_other_works(
    sides: Sides, client: str, worker: str, sign: bool, word: str
) -> None:
    submit, work = sides[client], sides[worker]
    announced(sides, worker, sign=sign)
    key = KEYS[worker][0] if sign else None
    job_id = submit.upload_job(job_dict=JOB, display_name="dev", username="u")
    submit.upload_status(display_name="dev", username="u", job_id=job_id)

    job = work.get_next_job_in_queue("dev", key)
    assert (job.job_id, job.job_json_path) == (job_id, "jobs/running")
    assert work.get_job(job.job_json_path, job.job_id) == JOB
    work.update_in_database(
        result(worker, job_id), status(worker, job_id, word), job_id, "dev", key
    )
    assert work.get_next_job_in_queue("dev", key).job_id == "None"

    assert submit.get_backend_status("dev").operational is True
    assert same(
        submit.get_status(display_name="dev", username="u", job_id=job_id),
        status(client, job_id, word),
    )
    got = submit.get_result(display_name="dev", username="u", job_id=job_id)
    assert got.status == word
    if word == "DONE":
        expected = result(client, job_id)
        expected.backend_name = "lab_dev_simulator"
        assert same(got, expected)
        if sign:
            assert submit.verify_result("dev", job_id) is True
    place = "jobs/finished/dev" if word == "DONE" else "jobs/deleted"
    assert submit.get_file_queue(place) == [job_id]


@pytest.mark.parametrize(("first", "second"), DIRECTIONS)
def test_a_signed_configuration_and_the_other_side(sides: Sides, first: str, second: str) -> None:
    announced(sides, first, sign=True)
    for side in (second, first, second):
        sides[side].timestamp_queue("dev", KEYS[side][0])
    newer = config(second, sign=True, description="newer \u00e9", version="0.2.0")
    sides[second].update_config(newer, "dev", KEYS[second][0])
    read = sides[first].get_config("dev")
    assert (read.description, read.version, read.kid) == ("newer \u00e9", "0.2.0", "lab-1")

    stranger = upstream.security.create_jwk_pair("lab-2")[0]
    key = stranger if second == "theirs" else ours.JWK(**stranger.model_dump())
    for wrong in (key, None):
        with pytest.raises(ValueError):
            sides[second].update_config(newer, "dev", wrong)
    assert sides[first].get_config("dev").version == "0.2.0"
    sides[first].update_config(config(first, sign=True), "dev", KEYS[first][0])


@pytest.mark.parametrize(("writer", "reader"), DIRECTIONS)
def test_a_result_signed_by_a_stranger(sides: Sides, writer: str, reader: str) -> None:
    announced(sides, writer, sign=True)
    stranger = upstream.security.create_jwk_pair("lab-1")[0]
    key = stranger if writer == "theirs" else ours.JWK(**stranger.model_dump())
    sides[writer].upload_result(result(writer, "0" * 24), "dev", "0" * 24, key)
    assert sides[reader].verify_result("dev", "0" * 24) is False


@pytest.mark.parametrize(("writer", "reader"), DIRECTIONS)
def test_the_core_verbs(sides: Sides, writer: str, reader: str) -> None:
    write, read = sides[writer], sides[reader]
    write.upload({"a": 1.0, "b": "\u00e9"}, "jobs/y", ID)
    assert read.get("jobs/y", ID) == {"a": 1.0, "b": "\u00e9"}
    with pytest.raises(FileExistsError):
        read.upload({}, "jobs/y", ID)
    read.update({"a": 2}, "jobs/y", ID)
    write.move("jobs/y", "jobs/z", ID)
    assert read.get("jobs/z", ID) == {"a": 2}
    read.delete("jobs/z", ID)
    for side in (write, read):
        for verb in (side.get, side.delete):
            with pytest.raises(FileNotFoundError):
                verb("jobs/z", ID)
        with pytest.raises(FileNotFoundError):
            side.update({}, "jobs/z", ID)
        # sqooler does not look whether there is something to move in a database.
        absent = (FileNotFoundError, TypeError) if side is not ours_of(sides) else FileNotFoundError
        with pytest.raises(absent):
            side.move("jobs/z", "jobs/y", ID)


def test_both_say_the_same_of_what_is_not_there(sides: Sides) -> None:
    announced(sides, "ours", sign=True)
    mine, theirs = sides["ours"], sides["theirs"]
    unknown = "0" * 24
    assert same(mine.get_result("dev", "u", unknown), theirs.get_result("dev", "u", unknown))
    assert mine.get_status("dev", "u", unknown).status == "ERROR"
    assert theirs.get_status("dev", "u", unknown).status == "ERROR"
    for side in (mine, theirs):
        for act in (
            lambda side=side: side.get_config("none"),
            lambda side=side: side.get_backend_dict("none"),
            lambda side=side: side.get_public_key("none"),
            lambda side=side: side.verify_result("dev", unknown),
            lambda side=side: side.timestamp_queue("none"),
            lambda side=side: side._delete_config("none"),
            lambda side=side: side._delete_result("dev", unknown),
        ):
            with pytest.raises(FileNotFoundError):
                act()
    for name in ("configs", "results", "status", "running", "queue", "deleted", "finished", "pks"):
        assert mine.get_attribute_path(name, "dev") == theirs.get_attribute_path(name, "dev")
    # sqooler has no answer for configurations in a database; we have.
    configs = ("configs",) if isinstance(mine, LocalProviderExtended) else ()
    for name in (*configs, "job", "results", "status"):
        assert mine.get_attribute_id(name, unknown, "dev") == theirs.get_attribute_id(
            name, unknown, "dev"
        )


@pytest.mark.parametrize(("writer", "reader"), DIRECTIONS)
@pytest.mark.parametrize("places", ["mongodb"], indirect=True)
def test_a_server_that_restarts_between_the_two(
    sides: Sides, bare_mongodb: MongoServer, writer: str, reader: str
) -> None:
    announced(sides, writer, sign=True)
    sides[writer].timestamp_queue("dev", KEYS[writer][0])
    sides[writer].upload_result(result(writer, ID), "dev", ID, KEYS[writer][0])
    bare_mongodb.restart()
    assert sides[reader].verify_result("dev", ID) is True
    sides[reader].timestamp_queue("dev", KEYS[reader][0])
    at = sides[writer].get_config("dev").last_queue_check
    assert at is not None
    assert at.replace(tzinfo=UTC) > datetime.now(UTC) - timedelta(minutes=1)
