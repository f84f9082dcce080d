"""A MongoDB storage as a bench for the contract suite."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from bson.objectid import ObjectId

from spooler.clock import SystemClock
from spooler.model.device import DeviceCard
from spooler.signing.keys import generate
from spooler.storage.sqooler.client.mongodb import MongodbProviderExtended
from spooler.storage.sqooler.mongodb.address import MongoAddress
from spooler.storage.sqooler.mongodb.backend import MongoBackend
from spooler.storage.sqooler.mongodb.layout import RAW, Abilities
from spooler.storage.sqooler.mongodb.submitter import MongoSubmitter
from spooler.testing.bench import DEVICE, QUEUE, Bench
from spooler.testing.clock import ManualClock
from tests.servers.mongodb import MongoServer

KEY = generate("lab")


def _as_it_is(found: Abilities) -> Abilities:
    return found


def _old(found: Abilities) -> Abilities:
    """As MongoDB 4.4 to 7."""
    return replace(found, together=False)


#: Servers that do a list of writes in one command, and those that do not.
SERVERS: dict[str, Callable[[Abilities], Abilities]] = {"new": _as_it_is, "old": _old}


def address(server: MongoServer, prefix: str, **options: Any) -> MongoAddress:
    return MongoAddress(uri=server.uri, prefix=prefix, **options)


def opener(
    server: MongoServer, prefix: str, clock: Any, kind: str = "new", **more: Any
) -> MongoBackend:
    """A backend whose server's clock is `clock` when that is a manual one."""
    if isinstance(clock, ManualClock):
        more.setdefault("now", lambda: {"$literal": clock.now()})
    options = {"signer": KEY, "abilities": SERVERS[kind], **more}
    return MongoBackend(address(server, prefix), clock, **options)


@dataclass
class Backends:
    """Opens backends below one prefix, and closes them."""

    server: MongoServer
    prefix: str
    opened: list[MongoBackend] = field(default_factory=list)

    def __call__(self, kind: str = "new", clock: Any = None, **more: Any) -> MongoBackend:
        made = opener(self.server, self.prefix, clock or SystemClock(), kind, **more)
        self.opened.append(made)
        return made

    def close(self) -> None:
        while self.opened:
            self.opened.pop().close()

    def __getitem__(self, place: str) -> Any:
        """The collection `database/collection` of the server, as a plain client sees it."""
        database, _, name = place.partition("/")
        return self.server.client[self.prefix + database][name]

    def fill(self, count: int = 1, *, statuses: bool = True, **body: Any) -> list[str]:
        """Jobs with their first statuses, as sqooler's client writes them."""
        ids = [ObjectId(uuid.uuid4().hex[:24]) for _ in range(count)]
        first = {"status": "INITIALIZING", "detail": "Got your json.", "error_message": "None"}
        if statuses:
            documents = [{"_id": each, "job_id": str(each), **first} for each in ids]
            self[f"status/{DEVICE}"].insert_many(documents)
        jobs = [{"_id": each, "number": number, **body} for number, each in enumerate(ids)]
        self[f"jobs/queued.{DEVICE}"].insert_many(jobs)
        return [str(each) for each in ids]


def mongo_bench(
    server: MongoServer,
    prefix: str,
    kind: str = "new",
    watch: Callable[[MongoBackend], None] = lambda _: None,
) -> Iterator[Bench]:
    """A bench below the database prefix `prefix`; what was opened is closed at the end."""
    clock = ManualClock()
    opened: list[MongoBackend] = []

    def backend() -> MongoBackend:
        made = opener(server, prefix, clock, kind)
        opened.append(made)
        watch(made)
        return made

    def digest(job_id: str) -> str:
        queue = server.client[f"{prefix}jobs"][f"queued.{DEVICE}"].with_options(codec_options=RAW)
        found = queue.find_one({"_id": ObjectId(job_id)})
        assert found is not None
        return hashlib.sha256(found.raw).hexdigest()

    backend().catalogue.announce(QUEUE, DeviceCard(DEVICE), clock.now())
    submitter = MongoSubmitter(MongodbProviderExtended(address(server, prefix), "mongodb"))
    try:
        yield Bench(clock, backend, submitter, digest=digest)
    finally:
        for each in opened:
            each.close()
        submitter.close()
