"""Leases that have not changed for their time to live, by our own monotonic clock.

What a server's clock says of a lease is wrong for as long as that clock was set back. This needs
no clock but the watcher's, and a watcher that has just come waits for one lease time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from spooler.storage.sqooler.mongodb.client import Document

#: Token and end of a lease, whatever stands there, and when we first saw it so.
_Watched: TypeAlias = tuple[Any, Any, float]


class UnchangedLeases:
    """Remembers the open leases of each device from one look to the next."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._watched: dict[str, dict[Any, _Watched]] = {}

    def of(self, device: str, found: Iterable[Document]) -> set[Any]:
        """Which of the open entries of a device have been the same for all of their time."""
        now = self._monotonic()
        before, watched = self._watched.get(device, {}), {}
        over = set()
        for each in found:
            number, token, until = each["_id"], each.get("token"), each.get("until")
            known = before.get(number)
            since = known[2] if known is not None and known[:2] == (token, until) else now
            watched[number] = (token, until, since)
            ttl = each.get("ttl")
            if isinstance(ttl, int) and now - since >= ttl / 1000:
                over.add(number)
        self._watched[device] = watched
        return over
