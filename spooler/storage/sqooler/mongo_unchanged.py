"""Leases that have not changed for their time to live, by our own monotonic clock.

What a server's clock says of a lease is wrong for as long as that clock was set back. This needs
no clock but the watcher's, and a watcher that has just come waits for one lease time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TypeAlias

from bson.objectid import ObjectId

from spooler.storage.sqooler.mongo_client import Document

#: Token and end of a lease, and when we first saw it so.
_Watched: TypeAlias = tuple[str, datetime, float]


class UnchangedLeases:
    """Remembers the open leases of each device from one look to the next."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._watched: dict[str, dict[ObjectId, _Watched]] = {}

    def of(self, device: str, found: Iterable[Document]) -> set[ObjectId]:
        """Which of the open entries of a device have been the same for all of their time."""
        now = self._monotonic()
        before, watched = self._watched.get(device, {}), {}
        over = set()
        for each in found:
            number, token, until = each["_id"], each["token"], each["until"]
            known = before.get(number)
            since = known[2] if known is not None and known[:2] == (token, until) else now
            watched[number] = (token, until, since)
            if "ttl" in each and now - since >= each["ttl"] / 1000:
                over.add(number)
        self._watched[device] = watched
        return over
