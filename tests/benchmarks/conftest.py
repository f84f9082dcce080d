from tests.servers.mongodb import bare_mongodb, mongodb_server

__all__ = ["bare_mongodb", "mongodb_server"]
