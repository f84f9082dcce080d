"""Planted faults in the MongoDB backend, each with the checks whose assertions must notice it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pymongo.collection import Collection

from spooler.errors import LeaseLost
from spooler.model.state import State
from spooler.model.storage import Standing
from spooler.storage.kit.tokens import Tokens
from spooler.storage.sqooler.mongodb.backend import MongoBackend
from spooler.storage.sqooler.mongodb.claims import claiming, ending, ledger, queue
from spooler.storage.sqooler.mongodb.claims.ending import MongoEndings
from spooler.storage.sqooler.mongodb.claims.ledger import MongoLedger
from spooler.storage.sqooler.mongodb.claims.queue import MongoQueue
from spooler.storage.sqooler.mongodb.claims.steps import Sender, change
from spooler.storage.sqooler.mongodb.layout import MongoLayout, Phase, number_of
from spooler.storage.sqooler.mongodb.watch import MongoWatch
from spooler.testing.backend_contract import BackendContract
from spooler.testing.bench import DEVICE, QUEUE, Bench, new_lease, signed_report, take

#: What an assertion raises: a check that ends with anything else has noticed something else.
BY_ASSERTION = (AssertionError, pytest.fail.Exception)

Check = Callable[[Bench], None]


@dataclass(frozen=True)
class Mutant:
    """`owner.name` is replaced by what `make` makes of it; every check must then fail.

    `fails` is what the checks end with, on a server of which `kind`.
    """

    owner: Any
    name: str
    make: Callable[[Any], Callable[..., Any]]
    checks: tuple[Check, ...]
    kind: str = "new"
    fails: tuple[type[BaseException], ...] = BY_ASSERTION
    calls: list[int] = field(default_factory=list)

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Plant it; `calls` grows with each call of the planted code."""
        fault = self.make(getattr(self.owner, self.name))

        def counted(*given: Any, **named: Any) -> Any:
            self.calls.append(1)
            return fault(*given, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.owner, self.name, counted)
            yield


def contract(*names: str) -> tuple[Check, ...]:
    """Checks of the contract by their names."""
    suite = BackendContract()
    return tuple(getattr(suite, f"test_{name}") for name in names)


def late_progress(bench: Bench) -> None:
    """The job is ended by another process with our claim; then we show how far we are."""
    (job_id,) = bench.submit()
    backend = bench.backend()
    claim = take(backend)
    bench.backend().ack(claim, signed_report(claim))
    backend.show(claim, "still at it")
    assert bench.submitter.status(DEVICE, job_id).state is State.DONE


def a_job_that_was_listed_before(bench: Bench) -> None:
    """What one has listed another takes; the listing is not asked anew."""
    first, second = bench.submit(2)
    one, two = bench.backend(), bench.backend()
    assert [take(one).job.id, take(two).job.id] == [first, second]
    assert one.claim(QUEUE, new_lease()) is None


def an_ended_job_is_gone(bench: Bench) -> None:
    bench.submit()
    backend = bench.backend()
    claim = take(backend)
    backend.ack(claim, signed_report(claim))
    assert backend.depth(QUEUE) == 0


# --- what has to be written out ------------------------------------------------------------------


def _claims_held_ones(real: Any) -> Any:
    def take_any(self: MongoLedger, job: Any, lease: Any) -> Any:
        held = {"_id": number_of(job.id), "phase": Phase.HELD.value}
        self.of(job.queue).update_one(held, {"$unset": {"phase": "", "until": ""}})
        return real(self, job, lease)

    return take_any


def _looks_once(real: Any) -> Any:
    seen: list[MongoQueue] = []

    def look(self: MongoQueue, me: str) -> None:
        if self not in seen:
            seen.append(self)
            real(self, me)

    return look


def _youngest_first(real: Any) -> Any:
    def listing(*asked: Any) -> Any:
        first, *others = real(*asked)
        return [first, {"$sort": {"number": -1}}, *others]

    return listing


def _ends_once(real: Any) -> Any:
    ended: set[str] = set()

    def end(self: MongoEndings, claim: Any, *given: Any) -> None:
        if claim.token in ended:
            raise LeaseLost("never heard of it")
        ended.add(claim.token)
        real(self, claim, *given)

    return end


def _leaves_the_status(real: Any) -> Any:
    """Only a status is put to a place where nothing is made."""

    def put(place: Any, wanted: Any, document: Any, *, make: bool) -> Any:
        if make:
            return real(place, wanted, document, make=make)
        return change(place, wanted, {"$unset": {"nothing": ""}})

    return put


def _writes_at_preview(real: Any) -> Any:
    def preview(self: MongoBackend, claim: Any, signed: Any) -> Any:
        self.ack(claim, signed)
        return real(self, claim, signed)

    return preview


def _without_a_condition(real: Any) -> Any:
    def replace_one(self: Any, wanted: Any, *given: Any, **named: Any) -> Any:
        return real(self, {"_id": wanted["_id"]}, *given, **named)

    return replace_one


def _judging(said: Callable[[Standing], Standing]) -> Callable[[Any], Any]:
    """Hears something else than what the judge says."""

    def make(real: Any) -> Any:
        return lambda self, name, judge: real(self, name, lambda claim: said(judge(claim)))

    return make


def _giving_back(**otherwise: Any) -> Callable[[Any], Any]:
    def make(real: Any) -> Any:
        return lambda self, claim, reason, **named: real(
            self, claim, reason, **{**named, **otherwise}
        )

    return make


def _claimed(how: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Reads an entry wrongly."""

    def make(real: Any) -> Any:
        return lambda *given: how(real(*given))

    return make


def _never_started(claim: Any) -> Any:
    return replace(claim, history=tuple(replace(each, started=False) for each in claim.history))


def _already_taken(lease: Any, old: Any) -> Any:
    return replace(lease, token=old.token)


def _of_no_time(claim: Any) -> Any:
    return replace(claim, lease=replace(claim.lease, ttl=0.0))


MUTANTS: dict[str, Mutant] = {
    # --- claiming
    "claims what others hold": Mutant(
        MongoLedger, "take", _claims_held_ones, (a_job_that_was_listed_before,)
    ),
    "hands out the youngest first": Mutant(
        queue, "listing", _youngest_first, contract("the_oldest_comes_first")
    ),
    "lists the queue once": Mutant(
        MongoQueue, "look", _looks_once, contract("a_later_job_does_not_overtake")
    ),
    "knows one queue only": Mutant(
        MongoLayout,
        "queue",
        lambda real: lambda self, _: real(self, DEVICE),
        contract("devices_do_not_mix"),
    ),
    "forgets its tokens": Mutant(
        Tokens,
        "held",
        lambda _: lambda *_: None,
        contract(
            "a_repeat_with_the_same_token_finds_its_own", "a_repeated_take_over_finds_its_own"
        ),
    ),
    "says nothing of the bytes": Mutant(
        claiming,
        "job_of",
        lambda real: lambda *given: replace(real(*given), digest=""),
        contract("a_claim_carries_the_job"),
    ),
    "deaf to cancels": Mutant(
        ledger,
        "claim_of",
        _claimed(lambda claim: replace(claim, cancelled=False)),
        contract(
            "a_job_cancelled_in_the_queue_is_handed_out_as_cancelled",
            "a_cancel_survives_a_take_over",
        ),
    ),
    # --- the lease
    "renews without looking": Mutant(
        MongoLedger,
        "renew",
        lambda _: lambda self, claim, *, started: replace(claim, started=claim.started or started),
        contract("who_lost_the_lease_can_write_nothing"),
    ),
    "renews for no time": Mutant(
        MongoLedger,
        "renew",
        lambda real: lambda self, claim, **named: real(self, _of_no_time(claim), **named),
        contract("a_renewed_lease_is_kept"),
    ),
    "forgets the start": Mutant(
        MongoLedger,
        "renew",
        lambda real: lambda self, claim, **_: real(self, claim, started=False),
        contract("started_is_remembered"),
    ),
    "takes all for dead": Mutant(
        MongoLedger,
        "due",
        _judging(lambda _: Standing.DEAD),
        contract("a_renewed_lease_is_kept", "spared_claims_are_left_alone"),
    ),
    "takes nobody for dead": Mutant(
        MongoLedger,
        "due",
        _judging(lambda said: Standing.LEASED if said is Standing.DEAD else said),
        contract("the_dead_are_taken_over_at_once"),
    ),
    "spares nobody": Mutant(
        MongoLedger,
        "due",
        _judging(lambda said: Standing.LEASED if said is Standing.SPARED else said),
        contract("spared_claims_are_left_alone"),
    ),
    "nothing is ever due": Mutant(
        MongoLedger,
        "due",
        lambda _: lambda *_: iter(()),
        contract("an_expired_lease_is_taken_over_once"),
    ),
    "tells the judge nothing of the start": Mutant(
        ledger,
        "claim_of",
        _claimed(lambda claim: replace(claim, started=False)),
        contract("a_judge_is_told_whose_claim_it_is"),
    ),
    "takes over with the old token": Mutant(
        MongoLedger,
        "take_over",
        lambda real: (
            lambda self, found, lease: real(self, found, _already_taken(lease, found.claim))
        ),
        contract("an_expired_lease_is_taken_over_once"),
    ),
    # --- giving back
    "counts no attempts": Mutant(
        MongoLedger,
        "give_back",
        _giving_back(refund=True),
        contract("an_attempt_that_counts_is_remembered"),
    ),
    "counts refunded attempts": Mutant(
        MongoLedger,
        "give_back",
        _giving_back(refund=False),
        contract("a_released_job_keeps_place_and_attempt"),
    ),
    "waits for nothing": Mutant(
        MongoLedger, "give_back", _giving_back(delay=0.0), contract("a_delayed_job_waits")
    ),
    "forgets which attempts have started": Mutant(
        ledger,
        "claim_of",
        _claimed(_never_started),
        contract("which_attempts_have_started_is_remembered"),
    ),
    # --- the end
    "ends whatever it is given": Mutant(
        ending,
        "fence",
        lambda _: lambda claim: {"_id": number_of(claim.job.id)},
        contract("who_lost_the_lease_can_write_nothing"),
    ),
    "decides and publishes nothing": Mutant(
        Sender,
        "__call__",
        lambda real: lambda self, steps: real(self, steps[:1]) + [1] * (len(steps) - 1),
        contract("ack_publishes_and_ends"),
    ),
    "leaves the status": Mutant(
        ending, "put", _leaves_the_status, contract("ack_publishes_and_ends")
    ),
    "leaves ended jobs in the queue": Mutant(
        ending,
        "remove_all",
        lambda _: lambda place, _: change(place, {"_id": None}, {"$set": {"nothing": 1}}),
        (an_ended_job_is_gone,),
    ),
    "takes a repeated report for a late one": Mutant(
        MongoEndings,
        "end",
        _ends_once,
        contract("ack_is_harmless_to_repeat"),
        fails=(LeaseLost,),
    ),
    "shows progress over a final status": Mutant(
        Collection, "replace_one", _without_a_condition, (late_progress,)
    ),
    # --- looking
    "never wakes": Mutant(
        MongoWatch,
        "__init__",
        lambda real: (
            lambda self, lying, name, _, monotonic: real(self, lying, name, lambda: None, monotonic)
        ),
        contract("a_new_job_wakes"),
    ),
    "writes at a preview": Mutant(
        MongoBackend, "preview", _writes_at_preview, contract("peek_and_preview_change_nothing")
    ),
}
