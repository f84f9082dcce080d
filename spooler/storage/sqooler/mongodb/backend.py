"""The daemon's view of a MongoDB server in the format of sqooler's storage."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from typing import Any

from spooler.errors import BackendUnavailable, LeaseLost
from spooler.model.claim import Claim, Lease
from spooler.model.job import Job, Queue
from spooler.model.result import SignedReport
from spooler.model.state import State
from spooler.model.storage import Traits, Write
from spooler.protocols import Clock, Judge, Signer
from spooler.storage.sqooler.mongodb.address import MongoAddress
from spooler.storage.sqooler.mongodb.announcing import MongoCatalogue
from spooler.storage.sqooler.mongodb.claims.claiming import MongoClaiming
from spooler.storage.sqooler.mongodb.claims.ending import MongoEndings, render, shown
from spooler.storage.sqooler.mongodb.claims.ledger import MongoLedger
from spooler.storage.sqooler.mongodb.claims.queue import job_of
from spooler.storage.sqooler.mongodb.claims.steps import Sender
from spooler.storage.sqooler.mongodb.client import open_client, translated
from spooler.storage.sqooler.mongodb.documents import NotStorable, encode
from spooler.storage.sqooler.mongodb.layout import DATABASES, Abilities, MongoLayout, number_of
from spooler.storage.sqooler.mongodb.watch import MongoWatch
from spooler.storage.sqooler.rendering import Renderer

#: The words of a status that is final; a signed one has them below `payload`.
_FINAL = {"$nin": ["DONE", "ERROR"]}


class MongoBackend:
    """A sqooler storage on a MongoDB server as the daemon sees it."""

    traits = Traits()

    def __init__(
        self,
        address: MongoAddress,
        clock: Clock,
        *,
        signer: Signer | None = None,
        former_keys: Sequence[dict[str, str]] = (),
        max_payload: int = 4 * 1024 * 1024,
        now: Callable[[], Any] = lambda: "$$NOW",
        abilities: Callable[[Abilities], Abilities] = lambda found: found,
    ) -> None:
        """Nothing is asked of the server yet.

        For tests: `now` is the server's time in the words of an aggregation, `abilities` may
        take some of them away.
        """
        self._address = address
        self._clock = clock
        self._max_payload = max_payload
        self._client = open_client(address)
        self._layout = MongoLayout(self._client, address.prefix)
        self._limited = abilities
        self._found: Abilities | None = None
        self._renderer = Renderer(signer)
        send = Sender(self._client, lambda: self._abilities().together)
        self._ledger = MongoLedger(self._layout, now, clock.monotonic)
        self._endings = MongoEndings(self._layout, clock, self._renderer, send)
        self._claiming = MongoClaiming(
            self._layout, self._ledger, self._endings, clock, max_payload
        )
        self._watches: list[MongoWatch] = []
        self.catalogue = MongoCatalogue(address, self._layout, self._renderer, former_keys)

    @property
    def address(self) -> str:
        return self._address.public

    # --- claiming ---------------------------------------------------------------------------

    def claim(self, queue: Queue, lease: Lease) -> Claim | None:
        with self._translated():
            return self._claiming.oldest(queue.name, lease)

    def reclaim(self, queue: Queue, lease: Lease, judge: Judge) -> Claim | None:
        with self._translated():
            return self._claiming.expired(queue.name, lease, judge)

    # --- writing about a claim --------------------------------------------------------------

    def start(self, claim: Claim, seconds: float) -> Claim:
        del seconds  # a lease has no end that a renewal could not move
        return self._renewed(claim, started=True)

    def renew(self, claim: Claim) -> Claim:
        return self._renewed(claim, started=False)

    def _renewed(self, claim: Claim, *, started: bool) -> Claim:
        with self._translated(), self._dropping(claim):
            return self._ledger.renew(claim, started=started)

    def show(self, claim: Claim, text: str) -> None:
        """Replace a status that is not final; the first one is the client's, so none is made."""
        if self._claiming.held.held(claim.lease.token) is None:
            return  # it has ended, or is somebody else's; what has not been seen yet is below
        number = number_of(claim.job.id)
        text = text.encode("utf-8", "replace").decode()
        document = json.loads(self._renderer.status(claim.job.id, State.RUNNING, text))
        wanted = {"_id": number, "status": _FINAL, "payload.status": _FINAL}
        with suppress(NotStorable), self._translated():
            place = self._layout.status(claim.job.queue)
            place.replace_one(wanted, encode(document, number))

    def ack(self, claim: Claim, signed: SignedReport) -> None:
        held = self._claiming.held.held(claim.lease.token)
        with self._translated(), self._dropping(claim):
            body = None if held is None else held.body
            if body is None:
                body = self._claiming.body(claim.job.queue, number_of(claim.job.id))
            self._endings.end(claim, signed, body)
        self._claiming.held.drop(claim.lease.token)

    def release(self, claim: Claim, reason: str, *, refund: bool, delay: float = 0.0) -> None:
        with self._translated(), self._dropping(claim):
            self._ledger.give_back(claim, reason, refund=refund, delay=delay)
        self._claiming.held.drop(claim.lease.token)
        self._claiming.queues[claim.job.queue].forget()

    # --- looking ----------------------------------------------------------------------------

    def depth(self, queue: Queue) -> int:
        with self._translated():
            self._endings.file(queue.name)
            lying = self._claiming.queues[queue.name].lying()
            return max(0, lying - self._ledger.held(queue.name)) if lying else 0

    def peek(self, queue: Queue) -> Iterator[Job]:
        with self._translated():
            waiting = list(self._claiming.queues[queue.name].found())
            withdrawn = self._ledger.withdrawn(queue.name, [each.number for each in waiting])
        for each in waiting:
            body = each.body
            if body is None and each.size <= self._max_payload:
                with self._translated():
                    body = self._claiming.body(queue.name, each.number)
            job = job_of(queue.name, each, body, self._max_payload)
            yield replace(job, withdrawn=each.number in withdrawn)

    def preview(self, claim: Claim, signed: SignedReport) -> tuple[Write, ...]:
        return tuple(Write(*each) for each in shown(render(self._renderer, signed)))

    def subscribe(self, queue: Queue, wake: Callable[[], None]) -> MongoWatch | None:
        """None where the server has no change streams; one that is away is taken to have them."""
        with suppress(BackendUnavailable), self._translated():
            if not self._abilities().push:
                return None
        lying = self._layout.queue(queue.name)
        watch = MongoWatch(lying, queue.name, wake, self._clock.monotonic)
        self._watches = [each for each in self._watches if not each.closed] + [watch]
        self._claiming.queues[queue.name].listed = watch.expect
        return watch

    def ping(self) -> None:
        """Also try the right to write everywhere, by deleting what does not exist."""
        with self._translated():
            self._client.admin.command("ping")
            for name in DATABASES:
                self._layout.database(name)["spooler"].delete_one({"_id": "nothing"})

    def close(self) -> None:
        while self._watches:
            self._watches.pop().close()
        with suppress(BackendUnavailable), self._translated():
            self._endings.settle_all()
        self._client.close()

    def _abilities(self) -> Abilities:
        """Return what the server can do; asked once."""
        if self._found is None:
            self._found = self._limited(Abilities.of(self._client.admin.command("hello")))
        return self._found

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._address)

    @contextmanager
    def _dropping(self, claim: Claim) -> Iterator[None]:
        """Forget a claim that turns out to be lost."""
        try:
            yield
        except LeaseLost:
            self._claiming.held.drop(claim.lease.token)
            raise
