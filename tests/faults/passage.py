"""Every verb that writes, once, on a MongoDB server behind a fault proxy; and what must be then."""

from __future__ import annotations

import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from bson.objectid import ObjectId

from spooler.clock import SystemClock
from spooler.errors import BackendUnavailable, LeaseLost
from spooler.storage.sqooler.mongodb.address import MongoAddress
from spooler.storage.sqooler.mongodb.backend import MongoBackend
from spooler.storage.sqooler.mongodb.layout import Phase
from spooler.testing.bench import (
    DEVICE,
    QUEUE,
    leased,
    new_lease,
    other_owner,
    signed_report,
)
from tests.servers.mongodb import MongoServer
from tests.servers.proxy import FaultProxy
from tests.storage.mongo_bench import KEY, SERVERS, Backends

T = TypeVar("T")
#: The time of one operation here, and what may come on top of it on a busy machine.
PATIENCE, SLACK = 0.5, 6.0

#: Does one call of a verb, named by the first argument, as the test has it.
At = Callable[[str, Callable[[], Any]], Any]


def command(name: str, collection: str = "") -> bytes:
    """What stands in the bytes of a request with this command, and in no other."""
    word = name.encode() + b"\0"
    if not collection:
        return b"\x10" + word  # a number: bulkWrite, commitTransaction
    text = collection.encode() + b"\0"
    return b"\x02" + word + struct.pack("<i", len(text)) + text


def bounded(ask: Callable[[], T], refusals: list[str]) -> tuple[bool, T | None]:
    """Whether a call was refused, and what it said; fails where it is late or says more."""
    began = time.monotonic()
    try:
        return False, ask()
    except BackendUnavailable as error:
        assert "\n" not in str(error)
        refusals.append(str(error))
        return True, None
    finally:
        assert time.monotonic() - began < PATIENCE * 2 + SLACK, "it was not bounded"


def insist(ask: Callable[[], T], most: int = 20) -> T:
    """Ask as the daemon does: again after a refusal, and not for ever."""
    refusals: list[str] = []
    for _ in range(most):
        refused, said = bounded(ask, refusals)
        if not refused:
            return said  # type: ignore[return-value]
    raise AssertionError(f"still refused: {refusals}")


@dataclass
class Passage:
    """Three jobs: one is run, one is given back, and one is taken over from a dead daemon."""

    server: MongoServer
    proxy: FaultProxy
    prefix: str
    kind: str
    jobs: list[str] = field(default_factory=list)
    given_back: str = ""

    def __post_init__(self) -> None:
        self.backends = Backends(self.server, self.prefix)
        self.jobs = self.backends.fill(3)
        stranger = self.backends(self.kind)
        assert stranger.claim(QUEUE, new_lease(ttl=0.0)) is not None
        stranger.close()
        self.backend = self._hasty()
        self.backend._abilities()
        self.owner = other_owner()

    def _hasty(self) -> MongoBackend:
        """A backend behind the proxy that gives up soon."""
        place = urlsplit(self.server.uri)
        uri = self.server.uri.replace(place.netloc, f"127.0.0.1:{self.proxy.port}")
        patience = {"connect_timeout": PATIENCE, "operation_timeout": PATIENCE}
        address = MongoAddress(uri=uri, prefix=self.prefix, **patience)  # type: ignore[arg-type]
        made = MongoBackend(address, SystemClock(), signer=KEY, abilities=SERVERS[self.kind])
        self.backends.opened.append(made)
        return made

    def go(self, at: At) -> None:
        """Each verb once, with the same token and the same report at each repeat."""
        backend, owner = self.backend, self.owner
        first, second, third = new_lease(owner), new_lease(owner), new_lease(owner)
        run = at("claim", lambda: backend.claim(QUEUE, first))
        assert run is not None
        run = at("start", lambda: backend.start(run, 600.0))
        assert run.started
        report = signed_report(run, data={"value": "run"})
        at("ack", lambda: backend.ack(run, report))
        other = at("claim again", lambda: backend.claim(QUEUE, second))
        assert other is not None
        self.given_back = other.job.id
        at("release", lambda: self._release(other))
        over = at("reclaim", lambda: backend.reclaim(QUEUE, third, leased))
        assert over is not None
        assert over.attempt == 1
        taken = signed_report(over, data={"value": "over"})
        at("ack again", lambda: backend.ack(over, taken))
        at("settle", lambda: backend.reclaim(QUEUE, new_lease(owner), leased))

    def _release(self, claim: Any) -> None:
        """A repeat may be told that the job is not ours: then the first call has given it back."""
        try:
            self.backend.release(claim, "again", refund=False)
        except LeaseLost:
            entry = self._entries()[claim.job.id]
            assert entry["phase"] == Phase.WAITING, "the claim was lost to nobody"

    def _entries(self) -> dict[str, dict[str, Any]]:
        return {str(each["_id"]): each for each in self.backends[f"jobs/spooler.{DEVICE}"].find()}

    def check(self) -> None:
        """One claim, one result, one status for each; nothing is lost, nothing is doubled."""
        self.backend.close()
        found = self.backends
        ended = set(self.jobs) - {self.given_back}
        for place, jobs in {
            f"jobs/queued.{DEVICE}": {self.given_back},
            f"jobs/finished.{DEVICE}": ended,
            f"results/{DEVICE}": ended,
            f"status/{DEVICE}": set(self.jobs),
            "jobs/deleted": set(),
            f"spooler/replaced.{DEVICE}": set(),
        }.items():
            said = Counter(str(each["_id"]) for each in found[place].find())
            assert said == Counter(jobs), place
        statuses = {each: self._said("status", each)["status"] for each in self.jobs}
        assert {each for each, said in statuses.items() if said == "DONE"} == ended
        values = {self._said("results", each)["header"]["value"] for each in ended}
        assert values == {"run", "over"}
        entries = self._entries()
        assert {entries[each]["phase"] for each in ended} == {Phase.ENDED}
        given = entries[self.given_back]
        assert (given["phase"], len(given["history"]), given["counted"]) == (Phase.WAITING, 1, 1)

    def _said(self, database: str, job: str) -> dict[str, Any]:
        found = self.backends[f"{database}/{DEVICE}"].find_one({"_id": ObjectId(job)})
        said: dict[str, Any] = found.get("payload", found)
        return said

    def close(self) -> None:
        self.backends.close()
