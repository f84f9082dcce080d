from tests.servers.mongodb import bare_mongodb, mongo_prefix, mongodb_server

__all__ = ["bare_mongodb", "mongo_prefix", "mongodb_server"]
