"""One device: wait, claim, execute. The main loop."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from spooler.daemon.backoff import Backoff
from spooler.daemon.device_rules import DeviceRules
from spooler.daemon.executor import Executor
from spooler.daemon.outage import Outage
from spooler.daemon.room import ROOM_AGAIN, Room
from spooler.daemon.schedule.opening_hours import OpeningHours
from spooler.daemon.tickets import Tickets
from spooler.errors import (
    BackendUnavailable,
    DeviceUnusable,
    PushUnavailable,
)
from spooler.model.claim import Claim, Owner
from spooler.model.device import DeviceCard
from spooler.model.run import StopReason
from spooler.observe.events import EventName, Observer
from spooler.protocols import Backend, Clock, Runner, Subscription

#: A tick that is this many poll intervals late, by the monotonic clock, is taken for lost.
_LATE = 2.0
_SLACK = 0.5
#: A job older than this (seconds) that no push has told of shows that the push is silent.
_PUSH_WITHIN = 2.0
#: With `once`, seconds to look on at jobs that wait and cannot be had, and between two looks: more
#: than a storage takes to see that a job file is broken, and not half written.
_ONCE_PATIENCE, _ONCE_LOOK = 3.0, 0.25


class Worker:
    """The loop of one device; `run` is the body of its thread."""

    def __init__(
        self,
        *,
        rules: DeviceRules,
        backend: Backend,
        runner: Runner,
        executor: Executor,
        owner: Owner,
        ttl: float,
        clock: Clock,
        observer: Observer,
        tickets: Tickets,
        hurry: threading.Event,
        once: bool = False,
        outage: Outage,
        room: Room,
        keeps_up: Callable[[], bool] = lambda: True,
        late: Callable[[], None] = lambda: None,
        news: Callable[[], None] = lambda: None,
    ) -> None:
        self.rules = rules
        self.version = DeviceCard(rules.name).version
        self._handler_card = DeviceCard(rules.name)
        self._note = ""
        self._backend = backend
        self._runner = runner
        self._executor = executor
        self._owner = owner
        self._ttl = ttl
        self._clock = clock
        self._observer = observer
        self._tickets = tickets
        self._once = once
        self._keeps_up = keeps_up
        self._late = late
        self._news = news
        self._outage = outage
        self._room = room
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._hurry = hurry
        self._opened = self._closed = False
        #: With `once`: the jobs that waited when this device went, and could not be had.
        self.left = 0
        self._in_vain_since: float | None = None
        # What waits from before the first look was never pushed to us.
        self._pushed = True
        self._subscription: Subscription | None = None
        self._deaf = False
        self._token = ""
        self._hours = OpeningHours(runner, clock, observer, self._tell_note)

    @property
    def card(self) -> DeviceCard:
        """What is announced of the device: its handler's word, and the settings' in its place."""
        return replace(self.rules.dressed(self._handler_card), note=self._note)

    def _tell_note(self, note: str) -> None:
        """Have outsiders told now, and not at the next announcement."""
        if note != self._note:
            self._note = note
            self._news()

    # --- called by others -------------------------------------------------------------------

    def wake(self) -> None:
        """Look at the queue now: a tick, or a changed rule."""
        self._wake.set()

    def push(self) -> None:
        """Look at the queue now: the storage says that there may be a job."""
        self._pushed = True
        self._wake.set()

    def stop(self) -> None:
        """Claim no more; a run that is going on may end by itself."""
        self._stopping.set()
        self._wake.set()

    def interrupt(self) -> None:
        """End the run that is going on as well, and wait for nothing any more."""
        self.stop()
        self._hurry.set()
        self._executor.interrupt(StopReason.SHUTDOWN)
        self._hours.interrupt()

    def patience(self, seconds: float) -> bool:
        """Wait, unless we are stopping; whether to go on."""
        return not self._stopping.wait(seconds)

    # --- the thread -------------------------------------------------------------------------

    def open(self) -> None:
        """Bring the handler up and listen; raises ConfigError. A device that rests is no error."""
        try:
            self._open()
        except DeviceUnusable as error:
            self._rest(error)

    def _open(self) -> None:
        self._handler_card = self._runner.open()
        self._opened = True
        self.version = self._handler_card.version
        self._tell_note("")
        self._observer.emit(EventName.DEVICE_OPEN, device=self.rules.name)

    def run(self) -> None:
        """Work until stopped, or until the queue is empty when that is what was asked for."""
        backoff = Backoff()
        while not self._stopping.is_set():
            try:
                going_on = self._turn() or self._look_again()
                backoff.reset()
            except BackendUnavailable as error:
                self._outage.noticed(error, device=self.rules.name)
                going_on = self.patience(backoff.wait())
            except DeviceUnusable as error:
                self._rest(error)
                going_on = self._reopen()
            if not going_on:
                break
        self.close()

    def _turn(self) -> bool:
        """One look at the queue; whether to go on."""
        self._listen()
        if self._hours.closed(self.rules):
            return not self._once and self._sleep()
        self._wake.clear()
        if not self._room.there() or not self._keeps_up():
            return self.patience(ROOM_AGAIN)
        pushed, self._pushed = self._pushed, False
        claim = self._claim()
        self._outage.over(device=self.rules.name)
        if claim is None:
            return not self._once and self._sleep()
        self._in_vain_since = None
        self._mistrust(claim, pushed=pushed)
        self._executor.execute(claim, self.rules, self.version)
        self._pushed = True  # a drained queue says nothing about the push
        return True

    def _claim(self) -> Claim | None:
        """A job, if there is one and one more is wanted. A repeat finds a claim that was lost."""
        if not self._tickets.take():
            if self._tickets.used_up:
                self._stopping.set()
            return None
        self._token = self._token or secrets.token_hex(8)
        claim = None
        try:
            claim = self._backend.claim(self.rules.name, self._owner, self._ttl, self._token)
        finally:
            (self._tickets.use if claim is not None else self._tickets.give_back)()
        self._token = ""
        return claim

    def _sleep(self) -> bool:
        """Wait for a tick or a push; a tick that does not come is made up for."""
        if not self._wake.wait(_LATE * self.rules.poll_interval + _SLACK):
            self._late()
        self._runner.drain_output()
        return True

    def _look_again(self) -> bool:
        """With `once`: whether to look on at jobs that wait and cannot be had (yet)."""
        if not self._once or self._stopping.is_set():
            return False
        waiting = self._backend.depth(self.rules.name)
        if not waiting:
            return False
        now = self._clock.monotonic()
        if self._in_vain_since is None:
            self._in_vain_since = now
        if now - self._in_vain_since < _ONCE_PATIENCE:
            return self.patience(_ONCE_LOOK)
        self.left = waiting
        return False

    def _listen(self) -> None:
        if self._subscription is not None or self._deaf or not self._backend.traits.push:
            return
        try:
            self._subscription = self._backend.subscribe(self.rules.name, self.push)
        except PushUnavailable as error:
            self._deaf = True
            name = self.rules.name
            self._observer.emit(EventName.PUSH_SILENT, device=name, reason=f"{error}; polling")

    def _mistrust(self, claim: Claim, *, pushed: bool) -> None:
        """Renew a push that said nothing of a job that has been waiting for a while."""
        submitted = claim.job.submitted_at
        if pushed or self._subscription is None or submitted is None:
            return
        if claim.attempt > 1 or claim.job.defect:
            return  # told of before, and made to wait since
        if (self._clock.now() - submitted).total_seconds() > _PUSH_WITHIN:
            self._observer.emit(EventName.PUSH_SILENT, device=self.rules.name)
            self._subscription.close()
            self._subscription = None
            self._pushed = True

    # --- a device that rests ----------------------------------------------------------------

    def _rest(self, error: DeviceUnusable) -> None:
        self._tell_note(str(error))
        self._observer.emit(EventName.DEVICE_UNUSABLE, device=self.rules.name, error=str(error))

    def _reopen(self) -> bool:
        """Try to bring the device up again, with growing pauses; False when we are stopping."""
        if self._once:
            with suppress(BackendUnavailable):
                self.left = self._backend.depth(self.rules.name)
            return False
        backoff = Backoff(first=1.0, last=60.0)
        while self.patience(backoff.wait()):
            try:
                self._open()
            except DeviceUnusable as error:
                self._rest(error)
            else:
                return True
        return False

    # --- the end ----------------------------------------------------------------------------

    def close(self) -> None:
        """Leave the instrument safe; harmless to repeat."""
        if self._closed:
            return
        self._closed = True
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
        self._runner.close()
        if self._opened:
            self._observer.emit(EventName.DEVICE_CLOSED, device=self.rules.name)
