"""The server that the other tests rely on does what they rely on."""

from __future__ import annotations

import time

import pymongo
import pytest
from pymongo.errors import AutoReconnect, PyMongoError

from tests.servers.mongodb import DATABASES, MongoServer


def test_a_killed_server_comes_back_with_its_data(
    mongodb_server: MongoServer, mongo_prefix: str
) -> None:
    things = mongodb_server.client[f"{mongo_prefix}a"]["queued.things"]
    things.insert_many([{"_id": number} for number in range(20)])
    mongodb_server.restart()
    assert things.count_documents({}) == 20


def test_a_test_may_leave_the_server_dead_and_the_next_one_finds_it_alive(
    mongodb_server: MongoServer, mongo_prefix: str
) -> None:
    del mongo_prefix
    mongodb_server.kill()
    mongodb_server.revive()
    assert mongodb_server.client.admin.command("ping")["ok"] == 1


def test_a_planted_fault_is_gone_after_its_block(
    mongodb_server: MongoServer, mongo_prefix: str
) -> None:
    things = mongodb_server.client[f"{mongo_prefix}a"].things
    with (
        mongodb_server.failpoint("insert", times="alwaysOn", closeConnection=True),
        pytest.raises(AutoReconnect),
    ):
        things.insert_one({})
    things.insert_one({})


def test_a_stopped_server_does_not_answer(mongodb_server: MongoServer, mongo_prefix: str) -> None:
    del mongo_prefix
    with (
        pymongo.MongoClient(
            mongodb_server.uri, serverSelectionTimeoutMS=300, socketTimeoutMS=300
        ) as client,
    ):
        client.admin.command("ping")
        begin = time.monotonic()
        with mongodb_server.stop_cont(), pytest.raises(PyMongoError):
            client.admin.command("ping")
        assert time.monotonic() - begin < 10
        assert mongodb_server.client.admin.command("ping")["ok"] == 1


def test_sqoolers_own_names_are_free(bare_mongodb: MongoServer) -> None:
    assert set(DATABASES).isdisjoint(bare_mongodb.client.list_database_names())
    bare_mongodb.client.jobs.running.insert_one({})
