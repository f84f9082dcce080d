"""Delivers reports: first to the own disk, then to the storage, for as long as it takes."""

from __future__ import annotations

import threading
from collections.abc import Callable

from spooler.daemon.backoff import Backoff
from spooler.daemon.claims.leases import Held, LeaseKeeper
from spooler.daemon.outage import Outage
from spooler.daemon.reports.outbox import Entry, Outbox
from spooler.daemon.room import Room
from spooler.errors import BackendUnavailable, LeaseLost, Postponed
from spooler.model.claim import Claim
from spooler.model.result import SignedReport
from spooler.observe.events import EventName, Observer
from spooler.protocols import Backend, Clock

#: Seconds until a postponed report is brought again.
_A_MOMENT = 0.02
#: A delivery that takes longer than this (seconds) is left to the thread "outbox", and the device
#: goes on to its next job meanwhile; a shorter one costs less than handing it over.
_WORTH_HANDING_OVER = 0.005
#: So many reports may wait for that thread; who brings another one delivers it himself.
_AHEAD = 4
#: Seconds after which a job is begun although more reports than that are refused.
_ONE_MORE_AFTER = 60.0


class Delivery:
    """Brings each report to the storage exactly once, whatever is away meanwhile."""

    def __init__(
        self,
        *,
        backend: Backend,
        outbox: Outbox,
        keeper: LeaseKeeper,
        observer: Observer,
        outage: Outage,
        clock: Clock,
        room: Room,
        soon: Callable[[], None] = lambda: None,
    ) -> None:
        self._backend = backend
        self._outbox = outbox
        self._keeper = keeper
        self._observer = observer
        self._held: dict[str, Held] = {}
        #: Reports being delivered: a retry must not meet the first try of the same report.
        self._busy: set[str] = set()
        self._guard = threading.Lock()
        self._outage = outage
        self._clock = clock
        self._room = room
        self._soon = soon
        self._pause = threading.Event()
        self._slow = False
        #: Since when (monotonic) the storage takes no reports; None while it does.
        self._refused_since: float | None = None

    @property
    def waiting(self) -> int:
        """How many reports are not delivered yet."""
        return len(self._outbox)

    def keeps_up(self) -> bool:
        """Whether another job may be begun.

        Not while reports pile up that the storage does not take, though it gives jobs away (a
        full disk); but one job now and then, for it may be these very reports.
        """
        since = self._refused_since
        if since is None or len(self._outbox) <= _AHEAD:
            return True
        now = self._clock.monotonic()
        if now - since < _ONE_MORE_AFTER:
            return False
        self._refused_since = now
        return True

    def finish(self, held: Held, signed: SignedReport, patience: Callable[[float], bool]) -> None:
        """Deliver the report on a held claim, or leave it safely in the outbox.

        A slow storage is served by the thread of the outbox, a few reports behind at most.
        While neither the own disk nor the storage takes it, `patience(seconds)` waits and says
        whether to go on; the lease is renewed meanwhile. When it says no, the report is lost with
        the process and the device's re-run policy decides about the job.
        """
        backoff = Backoff()
        while not self._finish_once(held, signed):
            if not patience(backoff.wait()):
                return

    def _finish_once(self, held: Held, signed: SignedReport) -> bool:
        entry = Entry(held.claim, signed)
        self._held[entry.name] = held
        try:
            self._outbox.keep(entry)
        except BackendUnavailable as error:
            self._room.missing(error, job=entry.claim.job.id)
            return self._deliver(entry, kept=False)
        if self._slow and len(self._outbox) <= _AHEAD:
            self._soon()
        else:
            self._deliver(entry, kept=True)
        return True

    def restore(self) -> int:
        """Take up what earlier processes left; the number of reports.

        Their leases are renewed like those of our own: a storage that is slow to take them must
        not have another daemon take the jobs over meanwhile.
        """
        found = self._outbox.restore()
        for entry in found:
            self._held[entry.name] = self._keeper.hold(entry.claim, lambda _: None)
        return len(found)

    def retry(self) -> None:
        """Try each waiting report once, oldest first; an outage ends the pass.

        What could not be brought goes to the end of the line: it may be the one report that the
        storage does not take, and the others must not wait behind it.
        """
        for entry in self._outbox.entries():
            if not self._deliver(entry, kept=True) and self._outage.lasts:
                self._outbox.put_last(entry)
                return

    def retry_for(self, seconds: float) -> None:
        """Before the end: wait a little for reports that were only postponed."""
        deadline = self._clock.monotonic() + seconds
        self.retry()
        while self.waiting and not self._outage.lasts and self._clock.monotonic() < deadline:
            self._pause.wait(_A_MOMENT)
            self.retry()

    def _deliver(self, entry: Entry, *, kept: bool) -> bool:
        """Whether the report is off our hands."""
        with self._guard:
            if entry.name in self._busy or (kept and entry.name not in self._outbox):
                return True  # in the hands of another thread, or delivered by it
            self._busy.add(entry.name)
        try:
            return self._bring(entry, kept=kept)
        except Postponed:
            self._soon()
            return False
        except BackendUnavailable as error:
            if self._refused_since is None:
                self._refused_since = self._clock.monotonic()
            self._outage.noticed(error, waiting=len(self._outbox))
            return False
        finally:
            with self._guard:
                self._busy.discard(entry.name)

    def _bring(self, entry: Entry, *, kept: bool) -> bool:
        """Deliver or park; what a full disk interrupts here is done again at the next try."""
        try:
            self._ack(entry)
        except LeaseLost as error:
            self._close(entry)
            if not kept:
                return False  # neither delivered nor on the disk: it waits until it can be parked
            self._outbox.park(entry, str(error))
            self._tell(EventName.REPORT_PARKED, entry, reason=str(error))
            return True
        self._close(entry)
        if kept:
            self._outbox.drop(entry)
        self._refused_since = None
        self._outage.over(waiting=len(self._outbox))
        self._tell(EventName.REPORT_DELIVERED, entry)
        return True

    def _ack(self, entry: Entry) -> None:
        began = self._clock.monotonic()
        held = self._held.get(entry.name)
        if held is None:
            self._backend.ack(entry.claim, entry.signed)
        else:
            with held.lock:
                self._backend.ack(held.claim, entry.signed)
                held.over = True
        self._slow = self._clock.monotonic() - began > _WORTH_HANDING_OVER

    def _close(self, entry: Entry) -> None:
        held = self._held.pop(entry.name, None)
        if held is not None:
            self._keeper.drop(held)

    def spared(self) -> set[str]:
        """The tokens of claims that recovery must leave to us."""
        return self._outbox.tokens() | self._keeper.held_tokens()

    def _tell(self, event: EventName, entry: Entry, reason: str | None = None) -> None:
        claim: Claim = entry.claim
        self._observer.emit(
            event,
            device=claim.job.device,
            job=claim.job.id,
            attempt=claim.attempt,
            waiting=len(self._outbox),
            digest=entry.digest,
            reason=reason,
        )
