"""What has to be done now and then in one storage: show, deliver, give back, recover, announce.

Timers say when, this thread does it. Each duty stands alone: one that meets trouble is tried again
later and does not keep the others from their turn. While the storage is away, this is the only
thread that asks it, with growing pauses; workers pass it by.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum

from spooler.daemon.backoff import Backoff
from spooler.daemon.claims.recovery import Recovery, Served
from spooler.daemon.feeds.announcer import Announcer
from spooler.daemon.feeds.feed import Feed
from spooler.errors import BackendUnavailable, KeyRefused
from spooler.protocols import Clock

#: The longest this thread sleeps, should the timers ever fall silent (seconds).
_LONGEST = 60.0
#: Seconds between two words of progress that are shown of one run.
_SHOW_EVERY = 1.0
#: Timers that are this many intervals late, and this many seconds beyond, are taken for stopped.
_LATE, _SLACK = 2.0, 5.0
#: Seconds that a storage has to do what it is asked before it counts as recovered for good.
_STEADY = 30.0


class Duty(StrEnum):
    """What can be asked for."""

    ANNOUNCE = "announce"
    RECOVER = "recover"
    DELIVER = "deliver"
    SHOW = "show"


class Bell:
    """Duties that are asked for, by timers and by whoever has news. Safe in any thread."""

    def __init__(self) -> None:
        self.rung = threading.Event()
        self._wanted: set[Duty] = set()
        self._lock = threading.Lock()

    def ring(self, duty: Duty) -> None:
        """Ask for a duty."""
        with self._lock:
            self._wanted.add(duty)
        self.rung.set()

    def answer(self) -> set[Duty]:
        """Return what was asked for since the last answer."""
        with self._lock:
            wanted, self._wanted = self._wanted, set()
        return wanted


class Punctual:
    """Notices timers that have fallen silent: a wall clock that was set back stops them."""

    def __init__(
        self, clock: Clock, interval: Callable[[], float], late: Callable[[], None]
    ) -> None:
        """`late` is called when no timer has asked for anything for some `interval()`s."""
        self._clock = clock
        self._interval = interval
        self._late = late
        self._heard = clock.monotonic()

    def heard(self) -> None:
        """A timer has asked for something."""
        self._heard = self._clock.monotonic()

    def patience(self) -> float:
        """Seconds until silent timers are taken for stopped."""
        silent = self._clock.monotonic() - self._heard
        return max(0.0, _LATE * self._interval() + _SLACK - silent)

    def look(self) -> None:
        """Revive timers that have been silent for too long."""
        if self.patience() <= 0:
            self.heard()
            self._late()


class Housekeeper:
    """The duties in one storage; `run` is the body of the thread `feed-<name>`."""

    def __init__(
        self,
        *,
        feed: Feed,
        served: tuple[Served, ...],
        recovery: Recovery,
        announcer: Announcer,
        bell: Bell,
        punctual: Punctual,
        stopping: threading.Event,
        clock: Clock,
    ) -> None:
        self.feed = feed
        self._served = served
        self._recovery = recovery
        self._announcer = announcer
        self._bell = bell
        self._punctual = punctual
        self._stopping = stopping
        self._clock = clock
        self._shown_at: dict[str, float] = {}
        self._backoff = Backoff(first=0.1, last=30.0)
        self._ping_at = float("-inf")

    def check_keys(self) -> list[KeyRefused]:
        """Close the queues that are announced with another key, before any hardware is touched.

        Why each of them is closed. It is opened as soon as that announcement is gone.
        """
        catalogue, refused = self.feed.backend.catalogue, list[KeyRefused]()
        if catalogue is None:
            return refused
        for each in self._served:
            try:
                catalogue.check_key_owner(each.queue)
            except KeyRefused as error:
                refused.append(error)
                self.feed.outage.close(error, each.queue.name, by="announce")
            except BackendUnavailable as error:
                self.feed.outage.noticed(error, each.queue.name, by="announce")
                if self.feed.outage.lasts:
                    break  # it is asked again, and announces then
        return refused

    def begin(self) -> None:
        """Before the first claim: deliver what was kept, settle what was left.

        A storage that is away delays this, it does not prevent the start.
        """
        self._recovery.run(self._served)
        self._announcer.announce()

    def is_announced(self, device: str) -> bool:
        """Return whether all that can be done now to announce a device has been done."""
        if self.feed.outage.lasts or self.feed.backend.catalogue is None:
            return True
        return device in self._announcer.tried

    def run(self) -> None:
        """Do the duties as they are asked for, until `close`."""
        pause = 0.0
        while not self._stopping.is_set():
            self._bell.rung.wait(min(pause, self._punctual.patience()))
            self._bell.rung.clear()
            if self._stopping.is_set():
                return
            pause = self.round()

    def round(self) -> float:
        """One round of duties; seconds until the next is due at the latest."""
        wanted = self._bell.answer()
        if wanted & {Duty.ANNOUNCE, Duty.RECOVER}:
            self._punctual.heard()
        self._punctual.look()
        if self.feed.outage.lasts and not self._is_back():
            return self._until_ping()
        if self.feed.outage.over_for(_STEADY):
            self._backoff.reset()
        pauses = [self._show()]
        if Duty.ANNOUNCE in wanted:
            self._announcer.announce()
        if Duty.RECOVER in wanted:
            self._recovery.run(self._served)
        pauses += [self._give_back(), self.feed.delivery.retry()]
        if self.feed.outage.lasts:
            pauses.append(self._until_ping())
        return min((each for each in pauses if each is not None), default=_LONGEST)

    def _is_back(self) -> bool:
        """Ask a storage that was away, now and then.

        One that answers may still not do what it is asked, like a full disk: then it is asked again
        after a longer pause, as if it had not answered.
        """
        now = self._clock.monotonic()
        if now < self._ping_at:
            return False
        try:
            self.feed.backend.ping()
        except BackendUnavailable as error:
            self._ping_at = self._clock.monotonic() + (error.retry_after or self._backoff.wait())
            return False
        self._ping_at = self._clock.monotonic() + self._backoff.wait()
        self.feed.outage.over()
        for each in self._served:
            each.wake()
        self._bell.ring(Duty.RECOVER)
        self._bell.ring(Duty.ANNOUNCE)
        return True

    def _until_ping(self) -> float:
        """Return the seconds until a storage that is away is asked again."""
        return max(0.01, self._ping_at - self._clock.monotonic())

    def _show(self) -> float | None:
        """Show the progress of each run that has some; seconds until more may be shown."""
        now, soonest, shown = self._clock.monotonic(), None, {}
        for held in self.feed.leases.all():
            token = held.claim.lease.token
            at = self._shown_at.get(token, float("-inf"))
            wait = at + _SHOW_EVERY - now
            if held.progress and wait <= 0:
                text, held.progress = held.progress, ""
                at = now
                with suppress(BackendUnavailable):  # the next word will do as well
                    self.feed.backend.show(held.claim, text)
            elif held.progress:
                soonest = wait if soonest is None else min(soonest, wait)
            shown[token] = at
        self._shown_at = shown
        return soonest

    def _give_back(self) -> float | None:
        try:
            return self.feed.returns.release_due()
        except BackendUnavailable as error:
            self.feed.outage.noticed(error)
            return self._backoff.wait()

    def close(self) -> None:
        """End `run`."""
        self._stopping.set()
        self._bell.rung.set()
