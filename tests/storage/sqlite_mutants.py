"""Planted faults of the SQLite backend: one promise broken each, and the assertion that names it.

A fault is a statement that says something else, or a verb that does. `check` is the check of the
contract suite that must fail, `line` a piece of the line of its source where it must fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from spooler.model.claim import Claim
from spooler.model.storage import Standing
from spooler.storage.sqlite import backend, submitter
from spooler.storage.sqlite.backend import SqliteBackend


@dataclass(frozen=True)
class Fault:
    """One broken promise."""

    name: str
    plant: Callable[[pytest.MonkeyPatch], None]
    check: str
    line: str

    @contextmanager
    def planted(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            self.plant(patch)
            yield


def said(statement: str, old: str, new: str, where: Any = backend) -> Callable[[Any], None]:
    """The statement with one piece of it changed; a piece that is not there is a stale fault."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        text = getattr(where, statement)
        assert old in text, f"{statement} no longer says {old!r}"
        patch.setattr(where, statement, text.replace(old, new))

    return plant


def done(verb: str, instead: Callable[..., Any]) -> Callable[[Any], None]:
    """A verb that does something else; `instead` gets the real one first."""
    real = getattr(SqliteBackend, verb)

    def plant(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(
            SqliteBackend, verb, lambda self, *a, **k: instead(real, self, *a, **k), raising=True
        )

    return plant


def spares_nobody(real: Any, self: SqliteBackend, queue: Any, lease: Any, judge: Any) -> Any:
    def harsh(claim: Claim) -> Standing:
        found = judge(claim)
        return Standing.LEASED if found is Standing.SPARED else found

    return real(self, queue, lease, harsh)


def writes(real: Any, self: SqliteBackend, claim: Any, signed: Any) -> Any:
    self.ack(claim, signed)
    return real(self, claim, signed)


FENCE = "AND token = :token AND attempt = :attempt AND state = 'running'"

FAULTS = (
    Fault(
        "youngest_first",
        said("OLDEST_FIRST", "ORDER BY number", "ORDER BY number DESC"),
        "test_the_oldest_comes_first",
        "assert claimed == ids",
    ),
    Fault(
        "queues_mix",
        said("OLDEST_FIRST", "queue = :queue AND", ""),
        "test_devices_do_not_mix",
        'backend.claim(Queue("another", DEVICE), new_lease()) is None',
    ),
    Fault(
        "claims_do_not_stay",
        said("TAKE", "SET state = 'running',", "SET"),
        "test_a_job_is_claimed_once",
        "assert two.claim(QUEUE, new_lease()) is None",
    ),
    Fault(
        "tokens_are_forgotten",
        said("OWN_CLAIM", "token = :token", "token = :token || 'x'"),
        "test_a_repeat_with_the_same_token_finds_its_own",
        "assert (first.job.id == again.job.id) is backend.traits.keeps_claims",
    ),
    Fault(
        "anybody_renews",
        said("EXTEND", FENCE, ""),
        "test_who_lost_the_lease_can_write_nothing",
        "holder.renew(old)",
    ),
    Fault(
        "anybody_ends",
        said("END", FENCE, ""),
        "test_who_lost_the_lease_can_write_nothing",
        'holder.ack(old, signed_report(old, data={"value": "late"}))',
    ),
    Fault(
        "anybody_gives_back",
        said("GIVE_BACK", FENCE, ""),
        "test_who_lost_the_lease_can_write_nothing",
        'holder.release(old, "late", refund=True)',
    ),
    Fault(
        "anybody_shows",
        said("SHOW", FENCE, ""),
        "test_progress_of_who_lost_the_lease_is_not_shown",
        'assert (status.state, status.reason) == (State.ERROR, "the first one died")',
    ),
    Fault(
        "renewals_leave_no_mark",
        said("EXTEND", "renewals + 1", "renewals"),
        "test_a_renewed_lease_is_kept",
        "assert other.reclaim(QUEUE, new_lease(me), leased) is None",
    ),
    Fault(
        "starts_are_forgotten",
        said("EXTEND", "coalesce(started_at, :started_at)", "started_at"),
        "test_started_is_remembered",
        "assert holder.start(take(holder), 600.0).started",
    ),
    Fault(
        "started_attempts_are_forgotten",
        said("NOTE_ATTEMPT", "started_at IS NOT NULL", "0"),
        "test_which_attempts_have_started_is_remembered",
        "assert [past.started for past in claim.history] == [False, True]",
    ),
    Fault(
        "attempts_are_not_counted",
        said("TAKE", "1 + coalesce", "1 + 0 * coalesce"),
        "test_an_attempt_that_counts_is_remembered",
        "assert claim.attempt == attempt",
    ),
    Fault(
        "delays_are_dropped",
        said("OLDEST_FIRST", "held_until <= :now", "1"),
        "test_a_delayed_job_waits",
        "assert backend.claim(QUEUE, new_lease()) is None",
    ),
    Fault(
        "delays_never_end",
        said("OLDEST_FIRST", "held_until <= :now", "held_until = 0"),
        "test_a_delayed_job_waits",
        "assert take(backend).attempt == 2",
    ),
    Fault(
        "nothing_runs_out",
        said("TAKE_OVER", "AND token = :seen_token", "AND token = :token"),
        "test_an_expired_lease_is_taken_over_once",
        "assert new is not None",
    ),
    Fault(
        "take_over_keeps_the_old_token",
        said("TAKE_OVER", "SET token = :token, host", "SET host"),
        "test_an_expired_lease_is_taken_over_once",
        "assert new.token != old.token",
    ),
    Fault(
        "nobody_is_spared",
        done("reclaim", spares_nobody),
        "test_spared_claims_are_left_alone",
        "assert other.reclaim(QUEUE, new_lease(me), judge) is None",
    ),
    Fault(
        "depth_counts_what_runs",
        said("DEPTH", "state = 'queued'", "state IN ('queued', 'running')"),
        "test_a_job_is_claimed_once",
        "assert one.depth(QUEUE) == 0",
    ),
    Fault(
        "cancels_are_dropped",
        said("WITHDRAW", "SET cancelled = 1", "SET cancelled = cancelled", submitter),
        "test_a_job_cancelled_in_the_queue_is_handed_out_as_cancelled",
        "assert claim.cancelled",
    ),
    Fault(
        "preview_writes",
        done("preview", writes),
        "test_peek_and_preview_change_nothing",
        "no_result(bench, claim.job.id)",
    ),
)
