"""Gives jobs back to their queues, and holds those that have to wait where a storage cannot."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from spooler.daemon.claims.estates import Estates
from spooler.daemon.claims.leases import Leases
from spooler.errors import BackendUnavailable, LeaseLost, Scope
from spooler.model.claim import Claim
from spooler.protocols import Backend, Clock

#: Seconds until a job is given back again that its storage did not take, while it takes others.
_AGAIN = 5.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A claim that is held until its job may run again."""

    claim: Claim
    reason: str
    refund: bool
    due: float


class Returns:
    """The way back, for one storage. Safe in any thread."""

    def __init__(
        self,
        backend: Backend,
        estates: Estates,
        leases: Leases,
        clock: Clock,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """`wake` is called when the feed's thread has a job to give back."""
        self._wake = wake
        self._backend = backend
        self._estates = estates
        self._leases = leases
        self._clock = clock
        self._guard = threading.Lock()
        self._waiting: dict[str, _Waiting] = {}

    def give_back(self, claim: Claim, reason: str, *, refund: bool, delay: float = 0.0) -> None:
        """Give a job back, to be run `delay` seconds from now at the earliest.

        A storage that knows no delays gets it when they are over: until then the claim is held.
        Raises BackendUnavailable and LeaseLost.
        """
        if not delay or self._backend.traits.delays:
            self._release(claim, reason, refund=refund, delay=delay)
        else:
            self._hold(claim, reason, refund=refund, wait=delay)

    def give_back_later(
        self, claim: Claim, reason: str, trouble: BackendUnavailable, *, refund: bool = True
    ) -> None:
        """Have the feed's thread give an attempt back, as soon as its storage can take the job.

        `trouble` is what the storage could not do. The claim is held meanwhile.
        """
        at_once = 0.0 if trouble.scope is Scope.STORAGE else _AGAIN  # it cannot before it is back
        self._hold(claim, reason, refund=refund, wait=trouble.retry_after or at_once)
        self._wake()

    def _hold(self, claim: Claim, reason: str, *, refund: bool, wait: float) -> None:
        if self._leases.of(claim.lease.token) is None:
            self._leases.hold(claim)
        due = self._clock.monotonic() + wait
        with self._guard:
            self._waiting[claim.lease.token] = _Waiting(claim, reason, refund, due)

    def holds(self, token: str) -> bool:
        """Return whether a claim is held until its job may run again."""
        with self._guard:
            return token in self._waiting

    def waiting(self, queue: str) -> int:
        """Return how many jobs of a queue are held until they may run again."""
        with self._guard:
            return sum(each.claim.job.queue == queue for each in self._waiting.values())

    def release_due(self, *, at_once: bool = False) -> float | None:
        """Give back what has waited long enough; the seconds until the next, None when none waits.

        With `at_once` nothing waits any longer: the daemon ends. Raises BackendUnavailable.
        """
        now = self._clock.monotonic()
        with self._guard:
            waiting = sorted(self._waiting.values(), key=lambda each: each.due)
        for each in waiting:
            if each.due > now and not at_once:
                break
            held = self._leases.of(each.claim.lease.token)
            claim = each.claim if held is None else held.claim
            try:
                with suppress(LeaseLost):
                    self._release(claim, each.reason, refund=each.refund)
            except BackendUnavailable as error:
                if error.scope is Scope.STORAGE:
                    raise
                later = now + (error.retry_after or _AGAIN)
                with self._guard:
                    self._waiting[claim.lease.token] = replace(each, due=later)
                continue
            with self._guard:
                self._waiting.pop(claim.lease.token, None)
        with self._guard:
            soonest = min((each.due for each in self._waiting.values()), default=None)
        return None if soonest is None else max(0.0, soonest - now)

    def _release(self, claim: Claim, reason: str, *, refund: bool, delay: float = 0.0) -> None:
        try:
            self._backend.release(claim, reason, refund=refund, delay=delay)
        except LeaseLost:  # somebody else decides about it
            self.forget(claim)
            raise
        self.forget(claim)

    def forget(self, claim: Claim) -> None:
        """Let a claim go that is not ours any more. Raises BackendUnavailable, of our own disk."""
        self._leases.drop(claim.lease.token)
        for records in self._estates:  # where the storage forgets who holds what
            if claim.lease.token in records:
                records.drop(claim.lease.token)

    def try_all(self) -> None:
        """At the end: give back what waits, as far as the storage answers."""
        try:
            self.release_due(at_once=True)
        except BackendUnavailable:
            return  # the leases run out, and the next daemon finds the claims
