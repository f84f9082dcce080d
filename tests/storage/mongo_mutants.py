"""Planted faults in the MongoDB backend, as in mutants.py."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from spooler.storage.sqooler.mongodb import ledger as mongo_ledger
from spooler.storage.sqooler.mongodb.backend import MongoBackend
from spooler.storage.sqooler.mongodb.endings import MongoEndings
from spooler.storage.sqooler.mongodb.ends import Writes
from spooler.storage.sqooler.mongodb.ledger import MongoLedger
from spooler.storage.sqooler.mongodb.publishing import Publishing
from spooler.storage.sqooler.mongodb.queue import MongoQueue
from spooler.storage.sqooler.mongodb.steps import change
from spooler.storage.sqooler.mongodb.watch import MongoWatch

Mutant = Callable[[], Any]


@contextmanager
def _patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, value)
        yield


def claims_without_condition() -> Any:
    """Takes a job whoever has it."""
    real = MongoLedger.take

    def take(self: MongoLedger, job: Any, owner: Any, ttl: float, token: str) -> Any:
        from spooler.storage.sqooler.mongodb.layout import number_of

        self.of(job.device).update_one(
            {"_id": number_of(job.id), "phase": "held"}, {"$unset": {"phase": "", "until": ""}}
        )
        return real(self, job, owner, ttl, token)

    return _patched(MongoLedger, "take", take)


def youngest_first() -> Any:
    """Hands out the jobs in the wrong order."""
    real = MongoQueue.take

    def take(self: MongoQueue) -> Any:
        self._waiting = deque(reversed(self._waiting))
        return real(self)

    return _patched(MongoQueue, "take", take)


def forgets_new_jobs() -> Any:
    """Lists the queue once and never again."""
    real = MongoQueue.look

    def look(self: MongoQueue) -> None:
        if self._listed_at == float("-inf"):
            real(self)

    return _patched(MongoQueue, "look", look)


def renews_without_looking() -> Any:
    """Extends a lease without asking whether it is still there."""
    return _patched(
        MongoLedger,
        "renew",
        lambda self, claim, ttl, *, started: replace(claim, started=claim.started or started),
    )


def forgets_the_start() -> Any:
    """Does not note that the handler has started."""
    real = MongoLedger.renew
    return _patched(
        MongoLedger,
        "renew",
        lambda self, claim, ttl, *, started: real(self, claim, ttl, started=False),
    )


def no_fence() -> Any:
    """Publishes whatever it is given, by whomever."""
    real = Writes.commit

    def commit(self: Writes, claim: Any, end: Any, *, at_once: bool) -> Any:
        step = real(self, claim, end, at_once=at_once)
        wanted = {"_id": step.write._filter["_id"]}
        return change(step.place, wanted, step.write._doc, make=True)

    return _patched(Writes, "commit", commit)


def everything_has_expired() -> Any:
    """Takes over claims that are alive."""
    real = mongo_ledger.dead
    return _patched(mongo_ledger, "dead", lambda *asked: real(*asked) or True)


def nothing_ever_expires() -> Any:
    """Never takes over anything."""
    return _patched(MongoLedger, "expired", lambda *_: [])


def spares_nobody() -> Any:
    """Takes over claims whose reports wait in our outbox."""
    real = MongoLedger.expired
    return _patched(
        MongoLedger, "expired", lambda self, device, owner, spare: real(self, device, owner, ())
    )


def takes_over_by_day() -> Any:
    """Takes a claim over without becoming its owner."""
    real = MongoLedger.take_over
    return _patched(
        MongoLedger,
        "take_over",
        lambda self, device, entry, owner, ttl, token: real(
            self, device, entry, owner, ttl, entry.token
        ),
    )


def counts_no_attempts() -> Any:
    """Forgets how often a job was tried."""
    real = MongoLedger.give_back
    return _patched(
        MongoLedger,
        "give_back",
        lambda self, claim, reason, *, refund, delay: real(
            self, claim, reason, refund=True, delay=delay
        ),
    )


def counts_refunded_attempts() -> Any:
    """Counts an attempt that never was one."""
    real = MongoLedger.give_back
    return _patched(
        MongoLedger,
        "give_back",
        lambda self, claim, reason, *, refund, delay: real(
            self, claim, reason, refund=False, delay=delay
        ),
    )


def waits_for_nothing() -> Any:
    """Hands out a job that should wait."""
    real = MongoLedger.give_back
    return _patched(
        MongoLedger,
        "give_back",
        lambda self, claim, reason, *, refund, delay: real(
            self, claim, reason, refund=refund, delay=0.0
        ),
    )


def publishes_no_status() -> Any:
    """Leaves the status as it was."""
    from spooler.storage.sqooler.mongodb.steps import put

    def placed(self: Writes, end: Any, *, make: bool = False) -> Any:
        return put(self._layout.replaced(end.device), {"_id": end.job_id}, {}, make=True)

    return _patched(Writes, "status", placed)


def publishes_nothing() -> Any:
    """Decides the end, and leaves it at that."""
    from spooler.storage.sqooler.mongodb.steps import apart

    return _patched(
        MongoEndings,
        "_end_together",
        lambda self, claim, end, body: apart([self._writes.commit(claim, end, at_once=False)]),
    )


def leaves_the_job_in_the_queue() -> Any:
    """Forgets that an ended job is ended, once its documents are published."""
    return _patched(
        Publishing,
        "note_settled",
        lambda self, end: self._layout.ledger(end.device).delete_many({}),
    )


def never_wakes() -> Any:
    """Watches and says nothing."""
    real = MongoWatch.__init__
    return _patched(
        MongoWatch,
        "__init__",
        lambda self, queue, device, wake, monotonic: real(
            self, queue, device, lambda: None, monotonic
        ),
    )


def preview_writes() -> Any:
    """A dry run that is none."""
    real = MongoBackend.preview

    def preview(self: MongoBackend, claim: Any, signed: Any) -> Any:
        self.ack(claim, signed)
        return real(self, claim, signed)

    return _patched(MongoBackend, "preview", preview)


def forgets_its_tokens() -> Any:
    """A repeated claim takes a second job."""
    real = MongoBackend.claim

    def claim(self: MongoBackend, *asked: Any) -> Any:
        self._held.clear()
        return real(self, *asked)

    return _patched(MongoBackend, "claim", claim)


def ack_only_once() -> Any:
    """Takes a repeated report for a late one."""
    from spooler.errors import LeaseLost

    def refuse(*_: Any) -> None:
        raise LeaseLost("never heard of it")

    return _patched(MongoEndings, "_demand_ended_by", refuse)


def deaf_to_cancels() -> Any:
    """Never says that a job is withdrawn."""
    real = mongo_ledger.claim_of
    return _patched(
        mongo_ledger,
        "claim_of",
        lambda job, owner, said: replace(real(job, owner, said), cancelled=False),
    )


MONGO = (
    claims_without_condition,
    youngest_first,
    forgets_new_jobs,
    renews_without_looking,
    forgets_the_start,
    no_fence,
    everything_has_expired,
    nothing_ever_expires,
    spares_nobody,
    takes_over_by_day,
    counts_no_attempts,
    counts_refunded_attempts,
    waits_for_nothing,
    publishes_no_status,
    publishes_nothing,
    leaves_the_job_in_the_queue,
    never_wakes,
    preview_writes,
    forgets_its_tokens,
    ack_only_once,
    deaf_to_cancels,
)

#: In which way of ending a job a fault shows; "together" where it does not matter.
WAY = {ack_only_once: "at-once"}
