"""Which job a daemon gets: the oldest that waits, or one whose holder is gone."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from bson.objectid import ObjectId

from spooler.model.claim import Claim, Owner
from spooler.model.job import Job
from spooler.protocols import Clock
from spooler.storage.sqooler.mongodb.endings import MongoEndings
from spooler.storage.sqooler.mongodb.layout import MongoLayout, Phase, number_of
from spooler.storage.sqooler.mongodb.ledger import MongoLedger
from spooler.storage.sqooler.mongodb.queue import MongoQueue, Waiting, job_of


@dataclass
class _DeviceQueue:
    """What is known about the queue of one device; `lock` guards it among our threads."""

    queue: MongoQueue
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class Taken:
    """A claim of ours, and the bytes of its job when we have them."""

    claim: Claim
    body: bytes | None = None


class MongoClaiming:
    """Finds jobs and makes them ours."""

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
        self._queues: dict[str, _DeviceQueue] = {}
        self._queues_lock = threading.Lock()
        #: Tokens of claims whose call did not come to an end, so that a repeat finds its own.
        self._doubtful: set[str] = set()

    def queue(self, device: str) -> MongoQueue:
        """What is known about the queue of a device."""
        return self._state(device).queue

    def forget(self, device: str) -> None:
        """Have the next claim ask the server what waits."""
        state = self._state(device)
        with state.lock:
            state.queue.forget()

    def oldest(self, device: str, owner: Owner, ttl: float, token: str) -> Taken | None:
        """The oldest job that waits, or what an earlier call with this token has taken."""
        state = self._state(device)
        with state.lock:
            doubtful = token in self._doubtful
            found = self._recalled(device, owner, token)
            self._doubtful.add(token)
            found = found or self._oldest(state.queue, device, owner, ttl, token, again=doubtful)
            self._doubtful.discard(token)
        return found

    def expired(
        self, device: str, owner: Owner, ttl: float, token: str, spare: Collection[str]
    ) -> Taken | None:
        """A job whose holder is gone, or what an earlier call with this token has taken."""
        self._endings.publishing.settle(device)
        found = self._recalled(device, owner, token)
        self._doubtful.add(token)
        found = found or self._expired(device, owner, ttl, token, spare)
        self._doubtful.discard(token)
        return found

    def _oldest(
        self, queue: MongoQueue, device: str, owner: Owner, ttl: float, token: str, *, again: bool
    ) -> Taken | None:
        """Go through the known queue; when all of it has gone to others, look once more.

        Where an earlier call with this token has failed, the first job may have gone to it.
        """
        for _ in range(2):
            self._look(queue, device)
            lost = 0
            while (waiting := queue.take()) is not None:
                with queue.keeping(waiting):
                    taken = self._take(device, waiting, owner, ttl, token)
                    if taken is None and again:
                        taken = self._recalled(device, owner, token)
                if taken is not None:
                    queue.restore()
                    return taken
                lost += 1
                queue.skip(lost)
            if not lost:
                break
        return None

    def _look(self, queue: MongoQueue, device: str) -> None:
        if device in self._endings.publishing.unfiled and queue.used_up:
            self._endings.publishing.settle(device)
        queue.refresh()

    def _take(
        self, device: str, waiting: Waiting, owner: Owner, ttl: float, token: str
    ) -> Taken | None:
        blank = Job(str(waiting.number), device, submitted_at=waiting.seen)
        claim = self._ledger.take(blank, owner, ttl, token)
        if claim is None:
            return None
        body = waiting.body
        if body is None and waiting.size <= self._max_payload:
            body = self.body(device, waiting.number)
        return Taken(replace(claim, job=job_of(device, waiting, body, self._max_payload)), body)

    def _recalled(self, device: str, owner: Owner, token: str) -> Taken | None:
        if token not in self._doubtful:
            return None
        claim = self._ledger.recall(device, owner, token)
        return None if claim is None else self._with_job(claim)

    def _with_job(self, claim: Claim) -> Taken:
        """A claim whose job has to be fetched."""
        number = number_of(claim.job.id)
        body = self.body(claim.job.device, number)
        waiting = Waiting(number, len(body or b""), body, self._clock.now())
        job = job_of(claim.job.device, waiting, body, self._max_payload)
        return Taken(replace(claim, job=job), body)

    def body(self, device: str, number: ObjectId) -> bytes | None:
        """The bytes of a job in the queue."""
        found = self._layout.queue(device).find_one({"_id": number})
        return None if found is None else bytes(found.raw)

    def _expired(
        self, device: str, owner: Owner, ttl: float, token: str, spare: Collection[str]
    ) -> Taken | None:
        """Complete what is decided, and take over the first claim that is not."""
        for entry in self._ledger.expired(device, owner, spare):
            if entry.phase is Phase.COMMITTED:
                body = self.body(device, entry.number)
                if not self._endings.complete(device, entry.number, body):
                    self._ledger.tell_of_unreadable(device, entry.number)
                continue
            claim = self._ledger.take_over(device, entry, owner, ttl, token)
            if claim is not None:
                return self._with_job(claim)
        return None

    def _state(self, device: str) -> _DeviceQueue:
        with self._queues_lock:
            if device not in self._queues:
                queue = MongoQueue(self._layout, device, self._clock, self._ledger.now)
                self._queues[device] = _DeviceQueue(queue)
            return self._queues[device]
