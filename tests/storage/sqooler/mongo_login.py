"""Logs in to a server and asks it for something, as every verb does."""

from __future__ import annotations

from spooler.storage.sqooler.mongodb.address import MongoAddress
from spooler.storage.sqooler.mongodb.client import open_client, translated


def log_in(address: MongoAddress) -> None:
    """Ask once; LoginRefused when the server does not let us in."""
    with open_client(address) as client, translated(address):
        client[f"{address.prefix}jobs"]["running"].find_one({}, {"_id": 1})
