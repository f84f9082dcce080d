"""A MongoDB server keeps the contract of a storage, with a list of writes in one command or not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spooler.testing.backend_contract import BackendContract
from spooler.testing.bench import Bench
from tests.servers.mongodb import MongoServer
from tests.storage.mongo_bench import SERVERS, mongo_bench


class TestMongo(BackendContract):
    @pytest.fixture(params=SERVERS)
    def bench(
        self, mongodb_server: MongoServer, mongo_prefix: str, request: pytest.FixtureRequest
    ) -> Iterator[Bench]:
        yield from mongo_bench(mongodb_server, mongo_prefix, request.param)
