"""Brings the documents of a decided end to their places, by writes that anybody may repeat."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import bson
from bson.raw_bson import RawBSONDocument

from spooler.errors import Postponed
from spooler.protocols import Clock
from spooler.storage.sqooler.mongodb.ends import End, Writes
from spooler.storage.sqooler.mongodb.layout import MongoLayout, number_of
from spooler.storage.sqooler.mongodb.steps import Refused, apart, batch

#: sqooler's client uploads the job first and its first status second, and the second upload
#: fails when there is a status already. So long (in seconds, from when we first saw the job) we
#: postpone ours until that first status is there.
FIRST_STATUS_WITHIN = 2.0
#: Ends that wait to be filed, and the bytes of their bodies.
_BATCH, _BATCH_BYTES = 16, 8 * 2**20


class Publishing:
    """The writes behind a decision. What is left of them is remembered and made up for."""

    def __init__(self, layout: MongoLayout, writes: Writes, clock: Clock) -> None:
        self._layout = layout
        self._writes = writes
        self._clock = clock
        self._lock = threading.Lock()
        #: By device: ends whose bodies still lie in the queue, and ends that only have to be
        #: noted as settled.
        self._unfiled: dict[str, list[tuple[End, bytes | None]]] = {}
        self._unsettled: dict[str, list[str]] = {}

    # --- one end, write by write ------------------------------------------------------------

    def complete(self, end: End, body: bytes | None, submitted: datetime | None = None) -> None:
        """Everything behind the decision, whatever of it has been done before."""
        self.place_result(end)
        if not apart([self._writes.status(end)])[0]:
            self.make_status(end, submitted)
        apart([*self._writes.file(end, body), self._writes.unqueue(end)])
        self.note_settled(end)

    def place_result(self, end: End) -> None:
        """The result to its place; nobody's measurement that stands there is lost."""
        try:
            apart(self._writes.result(end))
        except Refused as refused:
            if not refused.duplicate:
                raise
            if self.keep_replaced(end):
                apart(self._writes.result(end, replacing=True))

    def keep_replaced(self, end: End) -> bool:
        """Keep another result that stands in the place of ours; whether there is one."""
        place = {"_id": number_of(end.job_id)}
        standing = self._layout.results(end.device).find_one(place)
        if standing is None:
            return True
        if end.result is not None and _same(standing, end.result):
            return False
        mark = hashlib.sha256(standing.raw).hexdigest()[:16]
        kept = {"_id": f"{end.job_id}.{mark}", "document": standing}
        self._layout.replaced(end.device).replace_one({"_id": kept["_id"]}, kept, upsert=True)
        return True

    def make_status(self, end: End, submitted: datetime | None) -> None:
        """The status of a job that has none. Postponed while its client may still write one."""
        self.let_the_client_be_first(end, submitted)
        try:
            apart([self._writes.status(end, make=True)])
        except Refused as refused:
            if not refused.duplicate:
                raise
            apart([self._writes.status(end)])  # the client's came at this moment

    def let_the_client_be_first(self, end: End, submitted: datetime | None) -> None:
        """Raise Postponed while a client may still be between its two uploads."""
        if submitted is None:
            return
        age = (self._clock.now() - submitted).total_seconds()
        if 0 <= age < FIRST_STATUS_WITHIN:
            raise Postponed(f"job {end.job_id} has no first status yet; its client writes it")

    # --- what is left for later -------------------------------------------------------------

    def file_later(self, end: End, body: bytes | None) -> None:
        """Remember to put a body to its last place: several at once cost what one does."""
        with self._lock:
            waiting = self._unfiled.setdefault(end.device, [])
            waiting.append((end, body))
            size = sum(len(each or b"") for _, each in waiting)
            full = len(waiting) >= _BATCH or size >= _BATCH_BYTES
        if full:
            self.settle(end.device)

    def note_settled(self, end: End) -> None:
        """Remember that nothing is left to be done about an end but to say so."""
        with self._lock:
            self._unsettled.setdefault(end.device, []).append(end.job_id)

    @contextmanager
    def settling(self, device: str) -> Iterator[list[str]]:
        """The jobs to be noted as settled; they are remembered again when it does not succeed."""
        with self._lock:
            jobs = self._unsettled.pop(device, [])
        try:
            yield jobs
        except BaseException:
            with self._lock:
                self._unsettled.setdefault(device, []).extend(jobs)
            raise

    @property
    def unfiled(self) -> frozenset[str]:
        """Devices some of whose ended jobs still lie in the queue."""
        with self._lock:
            return frozenset(self._unfiled)

    def settle(self, device: str) -> None:
        """Make up for what was left for later."""
        with self._lock:
            waiting = self._unfiled.pop(device, [])
        try:
            self._file(device, waiting)
        except BaseException:
            with self._lock:
                self._unfiled.setdefault(device, []).extend(waiting)
            raise
        for end, _ in waiting:
            self.note_settled(end)
        with self.settling(device) as jobs:
            if jobs:
                apart([self._writes.settle(device, jobs)])

    def settle_all(self) -> None:
        """The same for every device."""
        with self._lock:
            devices = {*self._unfiled, *self._unsettled}
        for device in devices:
            self.settle(device)

    def _file(self, device: str, waiting: list[tuple[End, bytes | None]]) -> None:
        """A command for the finished ones, one for the failed ones, one to empty the queue."""
        for done in (True, False):
            steps = [self._writes.file(end, body) for end, body in waiting if end.done is done]
            batch([step for each in steps for step in each])
        if waiting:
            apart([self._writes.unqueue_all(device, [end for end, _ in waiting])])


def _same(one: RawBSONDocument, other: RawBSONDocument) -> bool:
    return one.raw == other.raw or bool(bson.decode(one.raw) == bson.decode(other.raw))
