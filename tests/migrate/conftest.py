from tests.servers.mongodb import mongo_prefix, mongodb_server

__all__ = ["mongo_prefix", "mongodb_server"]
