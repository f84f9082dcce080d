"""One device: wait, claim from the queue whose turn it is, execute. The main loop."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto

from spooler.daemon.backoff import Backoff, spread
from spooler.daemon.claims.records import Record
from spooler.daemon.control import Until
from spooler.daemon.device_rules import DeviceRules
from spooler.daemon.executor import Executor
from spooler.daemon.pulse import LOOK
from spooler.daemon.room import ROOM_AGAIN
from spooler.daemon.schedule.drain import Policy, Tickets
from spooler.daemon.schedule.opening_hours import OpeningHours
from spooler.daemon.schedule.turns import Source, Turns
from spooler.daemon.shared import Shared
from spooler.errors import BackendUnavailable, ConfigError, DeviceUnusable, LeaseLost, RunStopped
from spooler.model.claim import Claim, Lease
from spooler.model.device import DeviceCard
from spooler.model.run import StopReason
from spooler.observe.events import EventName
from spooler.protocols import Runner

#: Seconds that a queue with trouble of its own is left alone.
_QUEUE_RESTS = 1.0


@dataclass(frozen=True, slots=True)
class Stops:
    """What ends the work of one device: `claims` the taking of jobs, `waits` all patience."""

    claims: threading.Event
    waits: threading.Event

    @classmethod
    def new(cls) -> Stops:
        return cls(threading.Event(), threading.Event())


class Standing(Enum):
    """How a device is. It is not known before its handler has been opened for the first time."""

    UNKNOWN = auto()
    OPEN = auto()
    #: It cannot be opened now, and is tried again.
    RESTS = auto()
    #: It has never been open, since its handler or its settings are wrong; it is tried again.
    REFUSED = auto()


class Worker:
    """The loop of one device; `run` is the body of its thread."""

    def __init__(
        self,
        *,
        rules: DeviceRules,
        runner: Runner,
        executor: Executor,
        policy: Policy,
        tickets: Tickets,
        shared: Shared,
        stops: Stops,
        news: Callable[[], None] = lambda: None,
    ) -> None:
        """`news` is called when the device should be announced at once."""
        self.rules = rules
        self.version = DeviceCard(rules.name).version
        self.policy = policy
        #: Called when a tick has not come: the timers may have fallen silent.
        self.late: Callable[[], None] = lambda: None
        self._handler_card = DeviceCard(rules.name)
        self._note = ""
        self.standing = Standing.UNKNOWN
        #: What is wrong with the handler or its settings, where the device is REFUSED.
        self.refusal: ConfigError | None = None
        #: When the device was open the last time, while it is not.
        self._up_until: datetime | None = None
        self._runner = runner
        self._executor = executor
        self._tickets = tickets
        self._shared = shared
        self._stops = stops
        self._news = news
        self._turns = Turns(())
        self._wake = threading.Event()
        self._opened = self._closed = False
        self._hours = OpeningHours(runner, shared.clock, shared.observer, self._tell_note)

    @property
    def card(self) -> DeviceCard:
        """What is announced of the device: its handler's card, overridden by the settings."""
        seen = self._shared.clock.now() if self.standing is Standing.OPEN else self._up_until
        return replace(self.rules.dressed(self._handler_card), note=self._note, last_seen=seen)

    def serve(self, sources: list[Source]) -> None:
        """Say which queues are served; before `run`."""
        self._turns = Turns(sources)

    def _tell_note(self, note: str) -> None:
        self._stands(self.standing, note)

    # --- called by others -------------------------------------------------------------------

    def wake(self) -> None:
        """Look at the queues now: a tick, a push, or a changed rule."""
        self._wake.set()

    def stop(self) -> None:
        """Claim no more; a run that is going on may end by itself."""
        self._stops.claims.set()
        self._wake.set()

    def interrupt(self) -> None:
        """End the run that is going on as well, and wait for nothing any more."""
        self.stop()
        self._stops.waits.set()
        self._executor.interrupt(StopReason.SHUTDOWN)
        self._hours.interrupt()

    def patience(self, seconds: float) -> bool:
        """Wait, unless we are stopping; whether to go on."""
        self._shared.pulse.beat(seconds + LOOK)
        return not self._stops.claims.wait(seconds)

    # --- the thread -------------------------------------------------------------------------

    def open(self) -> bool:
        """Open the handler; whether it is open. A device that is not rests."""
        self._shared.pulse.wait()
        try:
            card = self._runner.open(Until(self._stops.claims))
            self.rules.demand_key(card)
        except (ConfigError, DeviceUnusable) as error:
            self._rest(error)
            return False
        except RunStopped:
            return False
        finally:
            self._shared.pulse.beat()
        self._handler_card, self.version = card, card.version
        self._opened, self.refusal = True, None
        self._stands(Standing.OPEN, "")
        self._shared.observer.emit(EventName.DEVICE_OPENED, device=self.rules.name)
        return True

    def run(self) -> None:
        """Work until stopped, or until the policy says that the work is over."""
        going_on = self.open() or self._reopen()
        while going_on and not self._stops.claims.is_set():
            try:
                going_on = self.turn()
            except DeviceUnusable as error:
                self._rest(error)
                going_on = self._reopen()
        self._shared.pulse.wait()
        self.close()
        self._shared.pulse.end()

    def turn(self) -> bool:
        """Look at the queues once, and see one job through; whether to go on."""
        self._wake.clear()
        if self._tickets.used_up:
            return False
        self._shared.pulse.wait()  # a calibration may be due
        if self._hours.closed(self.rules):
            return self._look_later()
        self._shared.pulse.beat()
        if not self._shared.room.there():
            return self.patience(ROOM_AGAIN)
        # Before anything is claimed, and noted as started.
        if not self._runner.ready and not self.open():
            return self._reopen()
        return self._serve_one()

    def _serve_one(self) -> bool:
        """See one job through, from the queue whose turn it is; whether to go on."""
        for source in self._turns.order():
            claim = self._claim_from(source)
            if self._stops.claims.is_set() and claim is None:
                return False
            if claim is None:
                continue
            self._turns.served(source)
            self.policy.worked()
            self._executor.execute(source.feed, claim, self.rules, self.version)
            source.ear.pushed = True
            return True
        return self._look_later()

    def _look_later(self) -> bool:
        """Wait for a tick or a push; a tick that does not come is made up for."""
        wait = self.policy.look_again(self._depth)
        if wait is None or self._stops.claims.is_set():
            return False
        self._shared.pulse.beat(wait + LOOK)
        if not self._wake.wait(wait) and wait > self.rules.poll_interval:
            self.late()
        self._runner.drain_output()
        return True

    def _depth(self) -> int | None:
        """Return how many jobs wait in all queues; None when one of them cannot be asked."""
        waiting = 0
        for source in self._turns.order():
            if source.feed.outage.lasts:
                return None
            try:
                waiting += source.feed.backend.depth(source.queue)
                waiting += source.feed.returns.waiting(source.queue.name)
            except BackendUnavailable as error:
                source.feed.outage.noticed(error, source.queue.name, device=self.rules.name)
                return None
        return waiting

    def _claim_from(self, source: Source) -> Claim | None:
        """Return a job of one queue, unless the queue is away, or lags behind with its reports."""
        feed, queue, now = source.feed, source.queue, self._shared.clock.monotonic()
        if feed.outage.closes(queue.name) or now < source.rests_until:
            return None
        if not feed.delivery.keeps_up(queue.name):
            return None
        try:
            pushed = source.ear.look()
            claim = self._claim(source)
        except BackendUnavailable as error:
            feed.outage.noticed(error, queue.name, device=self.rules.name)
            source.rests_until = now + (error.retry_after or spread(_QUEUE_RESTS))
            return None
        feed.outage.over(queue.name)
        if claim is not None and not pushed:
            source.ear.mistrust(claim)
        return claim

    def _claim(self, source: Source) -> Claim | None:
        """A job, if there is one and one more is wanted. A repeat finds a claim that was lost."""
        if not self._tickets.take():
            return None
        feed = source.feed
        source.token = source.token or secrets.token_hex(8)
        claim = None
        try:
            lease = Lease(source.token, feed.owner, feed.leases.ttl)
            claim = feed.backend.claim(source.queue, lease)
        finally:
            self._tickets.settle(used=claim is not None)
        source.token = ""
        if claim is None or feed.backend.traits.keeps_claims:
            return claim
        return self._write_down(source, claim)

    def _write_down(self, source: Source, claim: Claim) -> Claim | None:
        """Return where the storage forgets who holds what, our own disk has to know."""
        feed = source.feed
        try:
            feed.records.keep(Record(claim, self.rules.name))
        except BackendUnavailable as error:
            self._shared.room.missing(error, job=claim.job.id)
            try:
                feed.returns.give_back(claim, str(error), refund=True)
            except LeaseLost:
                return None
            except BackendUnavailable as trouble:
                feed.returns.give_back_later(claim, str(error), trouble)
                raise
            return None
        return claim

    # --- a device that rests ----------------------------------------------------------------

    def _rest(self, error: ConfigError | DeviceUnusable) -> None:
        if self.standing is Standing.OPEN:
            self._up_until = self._shared.clock.now()
        self._runner.close()
        wrong = isinstance(error, ConfigError) and not self._opened
        self.refusal = error if isinstance(error, ConfigError) and wrong else None
        self._stands(Standing.REFUSED if wrong else Standing.RESTS, str(error))
        self._shared.observer.emit(
            EventName.DEVICE_RESTED, device=self.rules.name, error=str(error)
        )

    def _stands(self, standing: Standing, note: str) -> None:
        """Have outsiders told now what has become of the device, not at the next announcement."""
        changed = self.standing is not standing or self._note != note
        self.standing, self._note = standing, note
        if changed:
            self._news()

    def _reopen(self) -> bool:
        """Try to bring the device up again, with growing pauses; False when we are stopping."""
        if not self.policy.cannot_work(self._depth):
            return False
        backoff = Backoff(first=1.0, last=60.0)
        while self.patience(backoff.wait()):
            if self.open():
                return True
        return False

    # --- the end ----------------------------------------------------------------------------

    def close(self) -> None:
        """Leave the instrument safe; harmless to repeat."""
        if self._closed:
            return
        self._closed = True
        for source in self._turns.order():
            source.ear.close()
        self._runner.close()
        if self._opened:
            self._shared.observer.emit(EventName.DEVICE_CLOSED, device=self.rules.name)
