"""Which job a daemon gets: the oldest that waits, or one whose holder is gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bson.objectid import ObjectId

from spooler.errors import BackendUnavailable, Scope
from spooler.model.claim import Claim, Lease
from spooler.model.job import Job
from spooler.protocols import Clock, Judge
from spooler.storage.kit.per_queue import PerQueue
from spooler.storage.kit.tokens import Tokens
from spooler.storage.sqooler.mongodb.claims.ending import MongoEndings
from spooler.storage.sqooler.mongodb.claims.ledger import MongoLedger
from spooler.storage.sqooler.mongodb.claims.queue import MongoQueue, Waiting, job_of
from spooler.storage.sqooler.mongodb.layout import MongoLayout, Phase, number_of

#: Listings that one call asks for, and refusals after which it asks for the next.
_LOOKS, _ENOUGH = 3, 3


@dataclass(frozen=True, slots=True)
class Taken:
    """A claim of ours, and the bytes of its job when we have them."""

    claim: Claim
    body: bytes | None = None


class MongoClaiming:
    """Finds jobs, makes them ours, and knows which are."""

    def __init__(
        self,
        layout: MongoLayout,
        ledger: MongoLedger,
        endings: MongoEndings,
        clock: Clock,
        max_payload: int,
    ) -> None:
        self._layout = layout
        self._ledger = ledger
        self._endings = endings
        self._clock = clock
        self._max_payload = max_payload
        self.held: Tokens[Taken] = Tokens()
        self.queues = PerQueue(lambda name: MongoQueue(layout, name, clock, ledger.now))

    def oldest(self, queue: str, lease: Lease) -> Claim | None:
        """Take the oldest job that waits, or find what this token has taken before."""
        known = self.queues[queue]
        with known.lock:
            return self._repeatable(queue, lease, lambda: self._oldest(known, lease))

    def expired(self, queue: str, lease: Lease, judge: Judge) -> Claim | None:
        """Take over a job whose holder is gone, or find what this token has taken over before."""
        self._endings.settle(queue)
        return self._repeatable(queue, lease, lambda: self._expired(queue, lease, judge))

    def _repeatable(
        self, queue: str, lease: Lease, ask: Callable[[], Taken | None]
    ) -> Claim | None:
        """Ask, unless this token holds something already, known or not."""
        if (held := self.held.held(lease.token)) is not None:
            return held.claim
        with self.held.asking(lease.token) as doubtful:
            claim = self._ledger.recall(queue, lease) if doubtful else None
            taken = ask() if claim is None else self._with_job(claim)
        if taken is None:
            return None
        self.held.hold(lease.token, taken)
        return taken.claim

    def body(self, queue: str, number: ObjectId) -> bytes | None:
        """Read the bytes of a job in the queue."""
        found = self._layout.queue(queue).find_one({"_id": number})
        return None if found is None else bytes(found.raw)

    def _oldest(self, known: MongoQueue, lease: Lease) -> Taken | None:
        """Go through what is known of the queue; where others are faster, look anew."""
        me = lease.owner.process
        for look in range(1, _LOOKS + 1):
            if known.used_up:
                self._endings.file(known.name)
            known.refresh(me)
            refused = 0
            while (waiting := known.take()) is not None:
                with known.keeping(waiting):
                    taken = self._take(known.name, waiting, lease)
                if isinstance(taken, Taken):
                    return taken
                known.met(me, rival=taken)
                refused += 1
                if refused == _ENOUGH and look < _LOOKS:
                    break
            if not refused:
                return None
            known.forget()
        return None

    def _take(self, queue: str, waiting: Waiting, lease: Lease) -> Taken | str:
        """Make a job ours; else return the process that was faster."""
        blank = Job(str(waiting.number), queue, submitted_at=waiting.seen)
        claim = self._ledger.take(blank, lease)
        if isinstance(claim, str):
            return claim
        body = waiting.body
        if body is None and waiting.size <= self._max_payload:
            body = self.body(queue, waiting.number)
        return Taken(replace(claim, job=job_of(queue, waiting, body, self._max_payload)), body)

    def _with_job(self, claim: Claim) -> Taken:
        """Fetch the job of a claim."""
        queue, number = claim.job.queue, number_of(claim.job.id)
        body = self.body(queue, number)
        waiting = Waiting(number, len(body or b""), body, self._clock.now())
        return Taken(replace(claim, job=job_of(queue, waiting, body, self._max_payload)), body)

    def _expired(self, queue: str, lease: Lease, judge: Judge) -> Taken | None:
        """Complete what is decided, and take over the first claim that is not."""
        for each in self._ledger.due(queue, judge):
            if each.phase is Phase.COMMITTED:
                self._complete(queue, each.number)
                continue
            claim = self._ledger.take_over(each, lease)
            if claim is not None:
                return self._with_job(claim)
        return None

    def _complete(self, queue: str, number: ObjectId) -> None:
        """Publish a decided end; one that cannot be published stops nobody."""
        try:
            if not self._endings.complete(queue, number, self.body(queue, number)):
                self._ledger.tell_of_unreadable(queue, number)
        except BackendUnavailable as error:
            if error.scope is not Scope.JOB:
                raise
            self._ledger.tell_once(queue, number, str(error))
