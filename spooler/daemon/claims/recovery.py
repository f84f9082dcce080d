"""Puts the jobs of dead daemons back, or to an end, by the device's re-run policy."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime

from spooler.daemon.claims.leases import LeaseKeeper
from spooler.daemon.device_rules import DeviceRules
from spooler.daemon.executor import retry_delay
from spooler.daemon.outage import Outage
from spooler.daemon.reports.delivery import Delivery
from spooler.errors import LeaseLost
from spooler.model.claim import Claim, Owner
from spooler.model.device import Rerun
from spooler.model.result import Outcome, Report
from spooler.model.state import State
from spooler.model.status import Status
from spooler.observe.events import EventName, Observer
from spooler.protocols import Backend, Clock, ReportSigner

#: Seconds for which nothing is taken over after an outage.
_AFTER_AN_OUTAGE = 5.0


class Recovery:
    """Looks after the claims that nobody renews any more."""

    def __init__(
        self,
        *,
        backend: Backend,
        owner: Owner,
        keeper: LeaseKeeper,
        delivery: Delivery,
        sign: ReportSigner,
        observer: Observer,
        clock: Clock,
        outage: Outage,
        patience: Callable[[float], bool],
    ) -> None:
        self._backend = backend
        self._owner = owner
        self._keeper = keeper
        self._delivery = delivery
        self._sign = sign
        self._observer = observer
        self._clock = clock
        self._outage = outage
        self._patience = patience
        #: Taken over, and not settled because the storage went away in between.
        self._unsettled: dict[str, list[Claim]] = {}
        #: The token of a take-over whose answer was lost: a repeat finds its own.
        self._token = ""

    def recover(self, rules: DeviceRules, version: str) -> int:
        """Take over and settle every expired claim of a device; how many there were.

        None in an outage and right after it: leases ran out in it, and their owners, who are
        alive or were started again, renew them now and bring the reports that they have kept.

        Raises BackendUnavailable; what was taken over by then comes first the next time.
        """
        if not self._outage.over_for(_AFTER_AN_OUTAGE):
            return 0
        count = 0
        unsettled = self._unsettled.setdefault(rules.name, [])
        while True:
            if not unsettled:
                claim = self._take(rules.name)
                if claim is None:
                    return count
                unsettled.append(claim)
            self._settle(unsettled[0], rules, version)
            unsettled.pop(0)
            count += 1

    def _take(self, device: str) -> Claim | None:
        self._token = self._token or secrets.token_hex(8)
        spare = self._delivery.spared()
        claim = self._backend.reclaim(
            device, self._owner, self._keeper.ttl, self._token, spare=spare
        )
        self._token = ""
        return claim

    def _settle(self, claim: Claim, rules: DeviceRules, version: str) -> None:
        outcome = verdict(claim, rules)
        if outcome is not None:
            self._report(claim, outcome, version)
            return
        reason = _how_it_ended(claim)
        try:
            delay = retry_delay(claim.attempt)
            self._backend.release(claim, reason, refund=False, delay=delay)
        except LeaseLost:
            return  # taken over in turn: its new owner decides
        self._tell(EventName.JOB_REQUEUED, claim, reason)

    def _report(self, claim: Claim, outcome: Outcome, version: str) -> None:
        now: datetime = self._clock.now()
        status = Status(outcome.state, outcome.reason, None, now)
        report = Report(
            claim.job.id, claim.job.device, version, claim.attempt, str(claim.owner), status
        )
        held = self._keeper.hold(claim, lambda _: None)
        self._delivery.finish(held, self._sign(report), self._patience)
        event = (
            EventName.JOB_CANCELLED if outcome.state is State.CANCELLED else EventName.JOB_FAILED
        )
        self._tell(event, claim, outcome.reason)

    def _tell(self, event: EventName, claim: Claim, reason: str) -> None:
        self._observer.emit(
            event,
            device=claim.job.device,
            job=claim.job.id,
            attempt=claim.attempt,
            reason=reason,
        )


def verdict(claim: Claim, rules: DeviceRules) -> Outcome | None:
    """What becomes of a job whose daemon died: an end to report, or None: it may run again."""
    if claim.cancelled:
        return Outcome(State.CANCELLED, "withdrawn by its submitter")
    repeats = rules.rerun is Rerun.ALWAYS or (
        rules.rerun is Rerun.IF_NOT_STARTED and not claim.started
    )
    if not repeats:
        return Outcome(
            State.ERROR,
            f"{_how_it_ended(claim)}, and this device does not repeat such a job; submit it again",
        )
    if claim.attempt >= rules.max_attempts:
        past = [f"attempt {each.number}: {each.ended}" for each in claim.history]
        past.append(f"attempt {claim.attempt}: {_how_it_ended(claim)}")
        return Outcome(State.ERROR, f"given up after {claim.attempt} attempts ({'; '.join(past)})")
    return None


def _how_it_ended(claim: Claim) -> str:
    how = "while it ran" if claim.started else "before it started"
    return f"the daemon that had the job died {how}"
