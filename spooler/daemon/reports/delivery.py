"""Delivers reports: first to the own disk, then to the storage, for as long as it takes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from spooler.daemon.backoff import Backoff
from spooler.daemon.claims.estates import Estates
from spooler.daemon.claims.leases import Leases
from spooler.daemon.claims.records import Phase, Record, Records, RecordsUnavailable
from spooler.daemon.feeds.outage import Outage
from spooler.daemon.persist import persist
from spooler.daemon.shared import Patience, Shared
from spooler.errors import BackendUnavailable, LeaseLost, ReportRefused, Scope
from spooler.model.result import Report
from spooler.model.state import State
from spooler.model.status import Status
from spooler.observe.events import EventName
from spooler.protocols import Backend

#: The shortest pause (seconds) between two tries.
_A_MOMENT = 0.02
#: A delivery that takes longer than this (seconds) is left to the feed's thread, and the device
#: goes on to its next job meanwhile; a shorter one costs less than handing it over.
WORTH_HANDING_OVER = 0.005
#: So many reports may wait for that thread; who brings another one delivers it himself.
_AHEAD = 4
#: Seconds after which a job is begun although more reports than that are not taken.
_ONE_MORE_AFTER = 60.0


@dataclass
class _Waiting:
    """When a report that waits alone is brought again, and what has been said of it."""

    backoff: Backoff
    due: float
    told: bool = False


class Delivery:
    """Brings each report to its storage exactly once, whatever is away meanwhile."""

    def __init__(
        self,
        *,
        backend: Backend,
        records: Records,
        estates: Estates,
        leases: Leases,
        outage: Outage,
        shared: Shared,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """`wake` is called when the feed's thread has something to deliver."""
        self._backend = backend
        self._records = records
        self._estates = estates
        self._leases = leases
        self._outage = outage
        self._shared = shared
        self._clock = shared.clock
        self._guard = threading.Lock()
        #: Reports being delivered: a retry must not meet the first try of the same report.
        self._busy: set[str] = set()
        self._alone: dict[str, _Waiting] = {}
        self._slow = False
        #: By queue: since when (monotonic) its storage takes no reports.
        self._refused_since: dict[str, float] = {}
        self._wake = wake
        self._pause = threading.Event()

    @property
    def waiting(self) -> int:
        """Return how many reports are not delivered yet."""
        return sum(len(each.of(Phase.REPORT)) for each in self._estates)

    def keeps_up(self, queue: str) -> bool:
        """Return whether another job of a queue may be begun.

        Not while its reports pile up that the storage does not take, though it gives jobs away (a
        full disk); but one job now and then, for it may be these very reports.
        """
        since = self._refused_since.get(queue)
        if since is None:
            return True
        reports = self._records.of(Phase.REPORT)
        if sum(each.claim.job.queue == queue for each in reports) <= _AHEAD:
            return True
        now = self._clock.monotonic()
        if now - since < _ONE_MORE_AFTER:
            return False
        self._refused_since[queue] = now
        return True

    # --- from a worker ----------------------------------------------------------------------

    def keep(self, record: Record, patience: Patience) -> bool:
        """Make a report safe: on our own disk, or else in the storage; False when neither.

        While neither takes it, `patience(seconds)` waits and says whether to go on; the lease is
        renewed meanwhile. When it says no, the report is lost with the process, and the device's
        re-run policy decides about the job.
        """

        def safe() -> None:
            try:
                self._records.keep(record)
            except BackendUnavailable as error:
                self._shared.room.missing(error, job=record.claim.job.id)
                if not self._deliver(self._records, record, kept=False):
                    raise
                with suppress(BackendUnavailable):  # it may lie there, though not for certain
                    self._records.drop(record.token)

        try:
            persist(safe, patience)
        except BackendUnavailable:
            return False
        return True

    def deliver(self, token: str) -> None:
        """Bring a report that was kept; a slow storage is served by the feed's thread."""
        record = self._records.get(token)
        if record is None or record.phase is not Phase.REPORT:
            return  # it could not be kept: the storage has taken it, or nobody has
        if self._slow and len(self._records.of(Phase.REPORT)) <= _AHEAD:
            self._wake()
        else:
            self._deliver(self._records, record)

    # --- from the feed's thread -------------------------------------------------------------

    def retry(self) -> float | None:
        """Try each report that is due once, oldest first; an outage ends the pass.

        Returns the seconds until the next one is due, or None when none is.
        """
        for records in self._estates:
            for record in records.of(Phase.REPORT):
                alone = self._alone.get(record.claim.lease.token)
                if alone is not None and alone.due > self._clock.monotonic():
                    continue
                if not self._deliver(records, record) and self._outage.lasts:
                    records.put_last(record.claim.lease.token)
                    return None
        now = self._clock.monotonic()
        with self._guard:
            return min((max(0.0, each.due - now) for each in self._alone.values()), default=None)

    def retry_for(self, seconds: float) -> None:
        """Before the end: wait a little for reports that have to wait only for a moment."""
        deadline = self._clock.monotonic() + seconds
        while (wait := self.retry()) is not None and not self._outage.lasts:
            if self._clock.monotonic() + wait > deadline:
                return
            self._pause.wait(max(wait, _A_MOMENT))

    def renew_adopted(self) -> None:
        """Renew the leases of reports that earlier processes have left, like those of our own.

        A storage that is slow to take them must not have others take the jobs over meanwhile.
        """
        held = self._leases.tokens()
        for records in self._estates:
            for record in records.of(Phase.REPORT):
                token = record.claim.lease.token
                if token not in held and token not in self._alone:
                    self._leases.hold(record.claim)

    # --- one report -------------------------------------------------------------------------

    def _deliver(self, records: Records, record: Record, *, kept: bool = True) -> bool:
        """Return whether the report is off our hands."""
        token = record.claim.lease.token
        with self._guard:
            if token in self._busy or (kept and token not in records):
                return True  # in the hands of another thread, or delivered by it
            self._busy.add(token)
        try:
            return self._bring(records, record, kept=kept)
        except RecordsUnavailable as error:
            self._shared.room.missing(error, job=record.claim.job.id)
            return False
        except BackendUnavailable as error:
            self._delay(records, record, error, kept=kept)
            return False
        finally:
            with self._guard:
                self._busy.discard(token)

    def _bring(self, records: Records, record: Record, *, kept: bool) -> bool:
        """Deliver, park or substitute; what a full disk interrupts is done at the next try."""
        try:
            self._ack(record)
        except LeaseLost as error:
            if not kept:
                return False  # neither delivered nor on the disk: it waits until it can be parked
            self._leases.drop(record.claim.lease.token)
            records.park(record, str(error))
            records.drop(record.claim.lease.token)
            self._off_our_hands(record)
            self._tell(EventName.REPORT_PARKED, record, reason=str(error))
            return True
        except ReportRefused as error:
            return kept and self._refused(records, record, error)
        self._leases.drop(record.claim.lease.token)
        if kept:
            records.drop(record.claim.lease.token)
        self._off_our_hands(record)
        queue = record.claim.job.queue
        self._refused_since.pop(queue, None)
        self._outage.over(queue)
        self._tell(EventName.REPORT_DELIVERED, record)
        return True

    def _off_our_hands(self, record: Record) -> None:
        with self._guard:
            self._alone.pop(record.claim.lease.token, None)

    def _ack(self, record: Record) -> None:
        if record.signed is None:
            raise ValueError(f"the record {record.claim.lease.token} has no report")
        held = self._leases.of(record.claim.lease.token)
        began = self._clock.monotonic()
        self._backend.ack(record.claim if held is None else held.claim, record.signed)
        self._slow = self._clock.monotonic() - began > WORTH_HANDING_OVER

    def _refused(self, records: Records, record: Record, error: ReportRefused) -> bool:
        """Keep what will never be taken aside, and answer the submitter all the same."""
        if record.substitute or record.signed is None:
            raise BackendUnavailable(str(error), scope=Scope.JOB)
        records.park(replace(record, answered=True), str(error))
        self._tell(EventName.REPORT_PARKED, record, reason=str(error))
        reason = (
            f"The run has ended ({record.signed.report.status.state}), but the storage does not "
            f"take its report: {error}. The report is kept on the daemon's machine."
        )
        signed = self._shared.sign(_instead(record.signed.report, reason))
        substitute = replace(record, signed=signed, reason=str(error), substitute=True)
        records.keep(substitute)
        return self._bring(records, substitute, kept=True)

    def _delay(
        self, records: Records, record: Record, error: BackendUnavailable, *, kept: bool
    ) -> None:
        """Note when a report that was not taken is due again, and why it waits."""
        queue = record.claim.job.queue
        with self._guard:
            self._refused_since.setdefault(queue, self._clock.monotonic())
        self._outage.noticed(error, queue, waiting=self.waiting)
        if error.scope is Scope.STORAGE or not kept:
            return  # all wait together, until the storage is back
        token = record.claim.lease.token
        with self._guard:
            alone = self._alone.setdefault(token, _Waiting(Backoff(first=0.5), 0.0))
            wait = error.retry_after or alone.backoff.wait()
            alone.due = self._clock.monotonic() + wait
            tell = not alone.told and error.retry_after is None
            alone.told = alone.told or tell
        self._wake()
        if not tell:
            return
        newest = records.get(token) or record  # a substitute may have taken its place
        if error.scope is Scope.JOB:
            self._tell(EventName.REPORT_DELAYED, newest, reason=str(error))
        try:  # so that people find the reason beside the report
            records.keep(replace(newest, reason=str(error)))
        except BackendUnavailable as full:
            self._shared.room.missing(full, job=record.claim.job.id)

    def _tell(self, event: EventName, record: Record, reason: str | None = None) -> None:
        claim = record.claim
        self._shared.observer.emit(
            event,
            **self._outage.about,
            device=record.device,
            job=claim.job.id,
            attempt=claim.attempt,
            waiting=self.waiting,
            digest=record.digest,
            reason=reason,
        )


def _instead(report: Report, reason: str) -> Report:
    """Return a report without the data that cannot be stored."""
    status = Status(State.ERROR, reason, report.status.started_at, report.status.finished_at)
    return replace(report, status=status, result=None)
