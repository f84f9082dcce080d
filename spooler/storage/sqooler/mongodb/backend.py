"""The daemon's view of a MongoDB server in the format of sqooler's storage."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from typing import Any

from spooler.errors import BackendUnavailable, LeaseLost
from spooler.model.claim import Claim, Owner
from spooler.model.device import DeviceCard
from spooler.model.job import Job
from spooler.model.result import SignedReport
from spooler.model.state import State
from spooler.model.storage import Traits, Write
from spooler.protocols import Clock, Signer
from spooler.storage.sqooler.mongodb.address import MongoAddress
from spooler.storage.sqooler.mongodb.announcing import MongoAnnouncing
from spooler.storage.sqooler.mongodb.claiming import MongoClaiming, Taken
from spooler.storage.sqooler.mongodb.client import open_client, translated
from spooler.storage.sqooler.mongodb.documents import encode
from spooler.storage.sqooler.mongodb.endings import MongoEndings, Transactions
from spooler.storage.sqooler.mongodb.ends import shown
from spooler.storage.sqooler.mongodb.layout import Abilities, MongoLayout, number_of
from spooler.storage.sqooler.mongodb.ledger import MongoLedger
from spooler.storage.sqooler.mongodb.queue import job_of
from spooler.storage.sqooler.mongodb.watch import MongoWatch
from spooler.storage.sqooler.rendering import Renderer

#: The id of no document.
_NOTHING = "nothing"


class MongoBackend:
    """A sqooler storage on a MongoDB server as the daemon sees it."""

    def __init__(
        self,
        address: MongoAddress,
        clock: Clock,
        *,
        signer: Signer | None = None,
        former_keys: Sequence[dict[str, str]] = (),
        max_payload: int = 4 * 1024 * 1024,
        transactions: Transactions = "auto",
        now: Callable[[], Any] = lambda: "$$NOW",
        abilities: Callable[[Abilities], Abilities] = lambda found: found,
    ) -> None:
        """Nothing is asked of the server yet.

        `transactions`: "auto" takes them where an end is too large for another way, "always"
        wherever the server has them. For tests: `now` is the server's time in the words of an
        aggregation, `abilities` may take some of them away.
        """
        self._address = address
        self._clock = clock
        self._max_payload = max_payload
        self._client = open_client(address)
        self._layout = MongoLayout(self._client, address.prefix)
        self._limited = abilities
        self._found: Abilities | None = None
        self._renderer = Renderer(signer)
        self._ledger = MongoLedger(self._layout, now, clock.monotonic)
        self._endings = MongoEndings(
            self._layout, clock, self._renderer, self._abilities, transactions
        )
        self._announcing = MongoAnnouncing(self._layout, self._renderer, former_keys)
        self._claiming = MongoClaiming(
            self._layout, self._ledger, self._endings, clock, max_payload
        )
        self._watches: list[MongoWatch] = []
        self._held: dict[str, Taken] = {}

    @property
    def traits(self) -> Traits:
        """A server that has not answered yet is taken for one with change streams: most are."""
        push = True if self._found is None else self._found.push
        with suppress(BackendUnavailable), self._translated():
            push = self._abilities().push
        return Traits(renewable=True, fenced=True, ordered=True, push=push)

    # --- the device -------------------------------------------------------------------------

    def announce(self, card: DeviceCard, at: datetime) -> None:
        with self._translated():
            self._announcing.announce(card, at)

    def demand_ours(self, device: str) -> None:
        with self._translated():
            self._announcing.demand_ours(device)

    def depth(self, device: str) -> int:
        with self._translated():
            if device in self._endings.publishing.unfiled:
                self._endings.publishing.settle(device)
            lying = self._claiming.queue(device).lying()
            return max(0, lying - self._ledger.held(device)) if lying else 0

    def ping(self) -> None:
        """Also whether we may write everywhere, by deleting what is not there."""
        with self._translated():
            self._client.admin.command("ping")
            for place in self._layout.one_of_each_database():
                place.delete_one({"_id": _NOTHING})

    def subscribe(self, device: str, wake: Callable[[], None]) -> MongoWatch | None:
        with self._translated():
            if not self._abilities().push:
                return None
        watch = MongoWatch(self._layout.queue(device), device, wake, self._clock.monotonic)
        self._watches = [each for each in self._watches if not each.closed] + [watch]
        self._claiming.queue(device).listed = watch.expect
        return watch

    # --- claiming ---------------------------------------------------------------------------

    def claim(self, device: str, owner: Owner, ttl: float, token: str) -> Claim | None:
        held = self._held.get(token)
        if held is not None:
            return held.claim
        with self._translated():
            return self._hold(self._claiming.oldest(device, owner, ttl, token))

    def _hold(self, taken: Taken | None) -> Claim | None:
        if taken is None:
            return None
        self._held[taken.claim.token] = taken
        return taken.claim

    def reclaim(
        self, device: str, owner: Owner, ttl: float, token: str, *, spare: Collection[str] = ()
    ) -> Claim | None:
        with self._translated():
            return self._hold(self._claiming.expired(device, owner, ttl, token, spare))

    # --- writing about a claim --------------------------------------------------------------

    def renew(
        self, claim: Claim, ttl: float, *, started: bool = False, progress: str = ""
    ) -> Claim:
        with self._translated():
            try:
                renewed = self._ledger.renew(claim, ttl, started=started)
            except LeaseLost:
                self._held.pop(claim.token, None)
                raise
            if progress:
                self._show(claim, progress)
        held = self._held.get(claim.token)
        self._held[claim.token] = Taken(renewed, None if held is None else held.body)
        return renewed

    def _show(self, claim: Claim, progress: str) -> None:
        """Put the progress into the status, where there is one: the first is the client's."""
        number = number_of(claim.job.id)
        text = progress.encode("utf-8", "replace").decode()
        document = json.loads(self._renderer.status(claim.job.id, State.RUNNING, text))
        content = encode(document, number)
        self._layout.status(claim.job.device).replace_one({"_id": number}, content)

    def ack(self, claim: Claim, signed: SignedReport) -> None:
        held = self._held.get(claim.token)
        body = None if held is None else held.body
        try:
            with self._translated():
                if body is None:
                    body = self._claiming.body(claim.job.device, number_of(claim.job.id))
                self._endings.end(claim, signed, body)
        except LeaseLost:
            self._held.pop(claim.token, None)
            raise
        self._held.pop(claim.token, None)

    def release(self, claim: Claim, reason: str, *, refund: bool, delay: float = 0.0) -> None:
        with self._translated():
            self._ledger.give_back(claim, reason, refund=refund, delay=delay)
        self._held.pop(claim.token, None)
        self._claiming.forget(claim.job.device)

    # --- looking ----------------------------------------------------------------------------

    def peek(self, device: str) -> Iterator[Job]:
        with self._translated():
            waiting = list(self._claiming.queue(device).every())
        for each in waiting:
            body = each.body
            if body is None and each.size <= self._max_payload:
                with self._translated():
                    body = self._claiming.body(device, each.number)
            yield job_of(device, each, body, self._max_payload)

    def preview(self, claim: Claim, signed: SignedReport) -> tuple[Write, ...]:
        return tuple(Write(*each) for each in shown(self._endings.preview(signed)))

    def close(self) -> None:
        while self._watches:
            self._watches.pop().close()
        with suppress(BackendUnavailable), self._translated():
            self._endings.publishing.settle_all()
        self._client.close()

    def _abilities(self) -> Abilities:
        """What the server can do; asked once."""
        if self._found is None:
            self._found = self._limited(Abilities.of(self._client.admin.command("hello")))
        return self._found

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._address)
