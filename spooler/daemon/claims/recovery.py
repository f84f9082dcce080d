"""Puts the jobs of dead daemons back, or to an end, by the device's re-run policy.

The order of a pass: adopt what dead processes of this machine have left, deliver their reports,
settle the claims that only they knew of, then take over what nobody renews any more.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from spooler.daemon.backoff import spread
from spooler.daemon.claims.estates import Estates
from spooler.daemon.claims.records import Phase, Record
from spooler.daemon.device_rules import DeviceRules
from spooler.daemon.feeds.feed import Feed
from spooler.daemon.shared import Patience, Shared
from spooler.errors import BackendUnavailable, LeaseLost
from spooler.model.claim import Claim, Lease
from spooler.model.device import Rerun
from spooler.model.job import Queue
from spooler.model.result import Outcome, Report
from spooler.model.state import State
from spooler.model.status import Status
from spooler.model.storage import Standing
from spooler.observe.events import EventName

#: Seconds for which nothing is taken over after an outage.
_AFTER_AN_OUTAGE = 5.0
#: Seconds that a job waits after an attempt that its device's policy lets run again.
RETRY_AFTER = 5.0
_DUTY = "recover"


@dataclass(frozen=True, slots=True)
class Served:
    """A queue of this storage, and the rules and the version of the device that serves it."""

    queue: Queue
    rules: Callable[[], DeviceRules]
    version: Callable[[], str]
    #: Called when a job of it may run again.
    wake: Callable[[], None] = lambda: None


class Recovery:
    """Looks after the claims of one storage that nobody renews any more."""

    def __init__(
        self,
        feed: Feed,
        estates: Estates,
        shared: Shared,
        patience: Patience,
    ) -> None:
        self._feed = feed
        self._estates = estates
        self._shared = shared
        self._patience = patience
        #: Taken over, and not settled because the storage went away in between.
        self._unsettled: dict[str, list[Claim]] = {}
        #: The token of a take-over whose answer was lost: a repeat finds its own.
        self._tokens: dict[str, str] = {}

    def adopt(self) -> None:
        """Adopt what earlier processes of our state folder have left. Raises BackendUnavailable.

        Their leases are renewed from now on like those of our own.
        """
        self._estates.adopt_siblings()
        self._feed.delivery.renew_adopted()

    def run(self, served: tuple[Served, ...]) -> None:
        """One pass over all queues; trouble with one of them does not keep the others."""
        try:
            self.adopt()
        except BackendUnavailable as error:  # of our own disk
            self._shared.room.missing(error)
        self._feed.delivery.retry()
        done = self._feed.outage.over_for(_AFTER_AN_OUTAGE)
        for each in served:
            if self._feed.outage.lasts:
                return
            try:
                self.recover(each)
            except BackendUnavailable as error:
                self._feed.outage.noticed(
                    error, each.queue.name, by=_DUTY, device=each.queue.device
                )
                done = False
            else:
                self._feed.outage.over(each.queue.name, by=_DUTY)
        self._feed.delivery.renew_adopted()
        if done:
            self._estates.let_go()

    def recover(self, served: Served) -> int:
        """Settle every claim of a queue that is nobody's; how many there were.

        None in an outage and right after it: leases ran out in it, and their owners, who are
        alive or were started again, renew them now and bring the reports that they have kept.

        Raises BackendUnavailable; what was taken over by then comes first the next time.
        """
        if not self._feed.outage.over_for(_AFTER_AN_OUTAGE):
            return 0
        count = self._settle_held(served)
        unsettled = self._unsettled.setdefault(served.queue.name, [])
        while True:
            if not unsettled:
                claim = self._take(served.queue)
                if claim is None:
                    break
                unsettled.append(claim)
            self._settle(unsettled[0], served)
            unsettled.pop(0)
            count += 1
        if count:
            served.wake()
        return count

    def _take(self, queue: Queue) -> Claim | None:
        token = self._tokens.setdefault(queue.name, secrets.token_hex(8))
        lease = Lease(token, self._feed.owner, self._feed.leases.ttl)
        claim = self._feed.backend.reclaim(queue, lease, self._judge)
        self._tokens.pop(queue.name, None)
        return claim

    def _judge(self, claim: Claim) -> Standing:
        token = claim.lease.token
        if token in self._feed.leases.tokens() or token in self._estates.tokens():
            return Standing.SPARED
        return self._estates.standing(claim)

    def _settle_held(self, served: Served) -> int:
        """Settle what a dead process held, in a storage that forgets who holds what."""
        count = 0
        reported = {each.token for some in self._estates for each in some.of(Phase.REPORT)}
        for records in self._estates:
            if records is self._feed.records:
                continue
            for record in records.of(Phase.HELD):
                token, returns = record.token, self._feed.returns
                if record.claim.job.queue != served.queue.name or returns.holds(token):
                    continue
                if token not in reported and not self._settle(record.claim, served):
                    continue
                if not returns.holds(token):  # else it is needed until the job may run again
                    records.drop(token)
                count += 1
        return count

    def _settle(self, claim: Claim, served: Served) -> bool:
        """Decide about a job; False when the decision could not be kept anywhere."""
        outcome = verdict(claim, served.rules())
        if outcome is not None:
            return self._report(claim, outcome, served)
        reason = _how_it_ended(claim)
        try:
            self._feed.returns.give_back(
                claim, reason, refund=False, delay=retry_delay(claim.attempt)
            )
        except LeaseLost:
            return True  # taken over in turn: its new owner decides
        self._tell(EventName.JOB_REQUEUED, claim, served, reason)
        return True

    def _report(self, claim: Claim, outcome: Outcome, served: Served) -> bool:
        job, now = claim.job, self._shared.clock.now()
        report = Report(
            job.id,
            job.queue,
            served.queue.device,
            served.version(),
            claim.attempt,
            str(claim.lease.owner),
            Status(outcome.state, outcome.reason, None, now),
            digest=job.digest,
        )
        self._feed.leases.hold(claim)
        signed = self._shared.sign(report)
        record = Record(claim, served.queue.device, Phase.REPORT, signed)
        if not self._feed.delivery.keep(record, self._patience):
            return False
        self._feed.delivery.deliver(claim.lease.token)
        event = (
            EventName.JOB_CANCELLED if outcome.state is State.CANCELLED else EventName.JOB_FAILED
        )
        self._tell(event, claim, served, outcome.reason)
        return True

    def _tell(self, event: EventName, claim: Claim, served: Served, reason: str) -> None:
        self._shared.observer.emit(
            event,
            device=served.queue.device,
            job=claim.job.id,
            attempt=claim.attempt,
            reason=reason,
        )


def verdict(claim: Claim, rules: DeviceRules, how: str = "") -> Outcome | None:
    """What becomes of a job whose attempt was cut off: an end to report, or None: it runs again.

    `how` says what has cut it off, where that was not the death of its daemon.
    """
    how = how or _how_it_ended(claim)
    if claim.cancelled:
        return Outcome(State.CANCELLED, "withdrawn by its submitter")
    repeats = rules.rerun is Rerun.ALWAYS or (
        rules.rerun is Rerun.IF_NOT_STARTED and not claim.started
    )
    if not repeats:
        return Outcome(
            State.ERROR,
            f"{how}, and this device does not re-run such jobs. Submit the job again.",
        )
    limit = claim.job.limits.attempts
    if claim.attempt >= rules.max_attempts or (limit is not None and claim.runs >= limit):
        past = [f"attempt {each.number}: {each.ended}" for each in claim.history]
        past.append(f"attempt {claim.attempt}: {how}")
        return Outcome(State.ERROR, f"given up after {claim.attempt} attempts ({'; '.join(past)})")
    return None


def retry_delay(attempt: int) -> float:
    """Seconds before the next attempt after attempt number `attempt`, doubling, with jitter."""
    return spread(RETRY_AFTER * 2.0 ** min(attempt - 1, 6))


def _how_it_ended(claim: Claim) -> str:
    how = "during the run" if claim.started else "before the run started"
    return f"the daemon was killed {how}"
