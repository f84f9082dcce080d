import pytest

from tests.faults import storages
from tests.faults.on_mongodb import MONGODB
from tests.servers.mongodb import MongoServer, mongo_prefix, mongodb_server


@pytest.fixture
def storage(request: pytest.FixtureRequest) -> storages.Storage:
    """The storage that a test is parametrized with, and its server where it has one."""
    made: storages.Storage = request.param
    if made is MONGODB:
        server: MongoServer = request.getfixturevalue("mongodb_server")
        server.revive()
        storages.SERVER[:] = [server.uri]
    return made


__all__ = ["mongo_prefix", "mongodb_server", "storage"]
