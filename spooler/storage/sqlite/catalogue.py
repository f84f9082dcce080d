"""The devices of a SQLite storage, and the public keys that their results are verified with."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from spooler.errors import KeyRefused
from spooler.model.device import DeviceCard, seen
from spooler.model.job import Queue
from spooler.protocols import Signer
from spooler.storage.sqlite.database import Database
from spooler.storage.sqlite.rows import readable
from spooler.storage.sqlite.schema import ANNOUNCE, ANNOUNCED_KEY, DEPTH, DEVICES, KEEP_KEY, KEYS


class SqliteCatalogue:
    """Announces devices under one key, and keeps the former ones: older results verify."""

    def __init__(
        self, database: Database, signer: Signer | None, former_keys: Sequence[dict[str, str]]
    ) -> None:
        self._database = database
        self._kid = signer.kid if signer else ""
        self._keys = [signer.public(), *former_keys] if signer else []

    def announce(self, queue: Queue, card: DeviceCard, at: datetime) -> None:
        shown = asdict(card)
        del shown["name"], shown["last_seen"]
        device = {"device": queue.name, "card": json.dumps(shown), "at": at.isoformat()}
        with self._database.writing(make=True) as connection:
            self._demand_ours(connection, queue)
            connection.execute(ANNOUNCE, {**device, "kid": self._kid})
            for key in self._keys:
                kept = {"device": queue.name, "kid": key["kid"], "jwk": json.dumps(key)}
                connection.execute(KEEP_KEY, kept)

    def inspect(self, queue: Queue) -> str:
        del queue  # its server, or its file, says what is wrong when it is asked
        return ""

    def check_key_owner(self, queue: Queue) -> None:
        with self._database.reading() as connection:
            self._demand_ours(connection, queue)

    def _demand_ours(self, connection: sqlite3.Connection, queue: Queue) -> None:
        """Raise KeyRefused unless the announced key is one of ours, and no kid means two keys."""
        with readable(f"the announcement of device {queue.name!r}"):
            self._compare(connection, queue)

    def _compare(self, connection: sqlite3.Connection, queue: Queue) -> None:
        asked = {"device": queue.name}
        standing = connection.execute(ANNOUNCED_KEY, asked).fetchone()
        ours = {key["kid"]: key["x"] for key in self._keys}
        if standing is not None:
            kid = standing["kid"]
            if not ours:
                raise KeyRefused(
                    f"device {queue.name!r} is announced under the key {kid!r} and no key is "
                    "configured here; set [signing] key, or use another device name"
                )
            if ours.get(kid) != json.loads(standing["jwk"])["x"]:
                raise KeyRefused(
                    f"device {queue.name!r} is announced under the key {kid!r}, and this is "
                    f"the key {self._kid!r}; use the announced key, or rotate with `spooler keys "
                    "rotate`, which keeps the old key, or use another device name"
                )
        for row in connection.execute(KEYS, asked):
            if ours.get(row["kid"], json.loads(row["jwk"])["x"]) != json.loads(row["jwk"])["x"]:
                raise KeyRefused(
                    f"another public key is already kept under the kid {row['kid']!r}; make a "
                    "key with its own kid: spooler keys generate"
                )


def read_devices(connection: sqlite3.Connection, *, count: bool) -> list[DeviceCard]:
    """Return every announced device, by name; with `count` what waits now."""
    return [
        DeviceCard(
            name=row["name"],
            last_seen=seen(datetime.fromisoformat(row["last_seen"])),
            **{**json.loads(row["card"]), **(_waiting(connection, row["name"]) if count else {})},
        )
        for row in connection.execute(DEVICES)
    ]


def _waiting(connection: sqlite3.Connection, queue: str) -> dict[str, int]:
    (found,) = connection.execute(DEPTH, {"queue": queue}).fetchone()
    return {"pending": int(found)}
