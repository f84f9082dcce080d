"""How a job in MongoDB ends: decided by one conditional write, published by writes that repeat.

The decision puts the documents of the end into the job's ledger entry. From then on anybody can
publish them, however often: the result, the body to its last place and out of the queue, the
status; at last the entry says that nothing is left to be done. The writes go in one command
where the server can do that, else one after the other with the bodies filed in batches
(docs/decisions/0012).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

import bson
from bson.errors import BSONError
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument

from spooler.errors import BackendUnavailable, LeaseLost, ReportRefused, Scope
from spooler.model.claim import Claim
from spooler.model.json import Json
from spooler.model.records import report_to_json
from spooler.model.result import SignedReport
from spooler.model.state import State
from spooler.observe.logger import get_logger
from spooler.protocols import Clock
from spooler.storage.kit.per_queue import PerQueue
from spooler.storage.sqooler.mongodb.claims.large import LargeResults, detached, pointing
from spooler.storage.sqooler.mongodb.claims.ledger import EPOCH, fence, lost
from spooler.storage.sqooler.mongodb.claims.steps import (
    Refused,
    Sender,
    Step,
    change,
    change_all,
    insert,
    put,
    remove_all,
)
from spooler.storage.sqooler.mongodb.client import Document
from spooler.storage.sqooler.mongodb.documents import NotStorable, encode
from spooler.storage.sqooler.mongodb.layout import RAW, MongoLayout, Phase, number_of
from spooler.storage.sqooler.rendering import Renderer

logger = get_logger("spooler.storage")

#: Bytes of an end that its ledger entry can keep: 16 MiB are the most, with what else is in it.
ROOM = 15 * 2**20
#: sqooler's client uploads the job first and its first status second, and the second upload
#: fails when there is a status already. So long (in seconds, from when we first saw the job) our
#: report waits until that first status is there.
FIRST_STATUS_WITHIN = 2.0
#: Where several steps are several commands: ends that wait to be filed, and bytes of their bodies.
_BATCH, _BATCH_BYTES = 16, 8 * 2**20

#: What an ended entry of the ledger no longer needs.
_NO_LONGER = dict.fromkeys(("end", "until", "since", "ttl", "started", "cancelled"), "")
_OPEN = [Phase.HELD.value, Phase.COMMITTED.value]


class Times(NamedTuple):
    """When a run started and finished: text, as a date of MongoDB's has only milliseconds."""

    started_at: str | None = None
    finished_at: str | None = None


_UNKNOWN = Times()


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


@dataclass(frozen=True, slots=True)
class End:
    """How one job ends: what is written about it, besides its own body."""

    queue: str
    number: ObjectId
    state: State
    status: RawBSONDocument
    result: RawBSONDocument | None
    jws: str
    times: Times = _UNKNOWN

    @property
    def done(self) -> bool:
        return self.state is State.DONE

    @property
    def size(self) -> int:
        """Bytes that all of it takes in one document."""
        result = 0 if self.result is None else len(self.result.raw)
        return result + len(self.status.raw) + len(self.jws)


def render(renderer: Renderer, signed: SignedReport, stored: dict[str, Json] | None = None) -> End:
    """Make the documents of a report; NotStorable when MongoDB cannot hold them.

    `stored` says where the data is that no document can hold.
    """
    report = signed.report
    # A handler's text may be anything.
    reason = report.status.reason.encode("utf-8", "replace").decode()
    report = replace(report, status=replace(report.status, reason=reason))
    number, state = number_of(report.job_id), report.status.state
    status = encode(json.loads(renderer.final_status(report)), number)
    result: RawBSONDocument | None = None
    if state is State.DONE:
        made = renderer.result_elsewhere(report, stored) if stored else renderer.result(report)
        result = encode(json.loads(made), number)
    times = Times(_text(report.status.started_at), _text(report.status.finished_at))
    return End(report.queue, number, state, status, result, signed.jws, times)


def _fitting(end: End) -> End:
    """`end`, when its ledger entry can keep it."""
    if end.size > ROOM:
        raise NotStorable(f"it has {end.size / 2**20:.1f} MiB")
    return end


def _end_of(queue: str, said: Mapping[str, Any]) -> End | None:
    """The end in an entry that is committed, read with raw documents; None when there is none."""
    kept = said.get("end")
    if not isinstance(kept, Mapping) or kept.get("state") not in list(State):
        return None
    status, result = kept.get("status"), kept.get("result")
    if not isinstance(status, RawBSONDocument) or not isinstance(result, RawBSONDocument | None):
        return None
    jws = str(said.get("jws") or "")
    return End(queue, said["_id"], State(kept["state"]), status, result, jws)


class Left(NamedTuple):
    """An ended job: its body where that is still to be filed; in any case it is to be noted."""

    number: ObjectId
    done: bool
    body: bytes | None


class Leftovers:
    """What is left to do in one queue. Safe in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: list[Left] = []

    def add(self, left: Left) -> None:
        with self._lock:
            self._left.append(left)

    @property
    def unfiled(self) -> bool:
        """Return whether ended jobs still lie in the queue."""
        with self._lock:
            return any(each.body is not None for each in self._left)

    @contextmanager
    def taken(self, *, at_least: int = 1) -> Iterator[list[Left]]:
        """Give all of it, or nothing while it is little; it is kept when the block fails."""
        with self._lock:
            large = sum(len(each.body or b"") for each in self._left) >= _BATCH_BYTES
            enough = large or len(self._left) >= at_least
            left, self._left = (self._left, []) if enough else ([], self._left)
        try:
            yield left
        except BaseException:
            with self._lock:
                self._left = left + self._left
            raise


class MongoEndings:
    """Writes results, statuses and reports, and puts jobs to their last places."""

    def __init__(self, layout: MongoLayout, clock: Clock, renderer: Renderer, send: Sender) -> None:
        self._layout = layout
        self._clock = clock
        self._renderer = renderer
        self._send = send
        self._large = LargeResults(layout)
        self._left: PerQueue[Leftovers] = PerQueue(lambda _: Leftovers())

    def end(self, claim: Claim, signed: SignedReport, body: bytes | None) -> None:
        """Decide and publish; harmless to repeat. LeaseLost when it is not ours to end."""
        end, kept_beside = self._rendered(claim, signed)
        together, ended = self._send.together, Left(end.number, end.done, body)
        steps = [self._commit(claim, end), *self._result(end)]
        # sqooler's clients look for the job at its last place once the status tells of the end.
        steps += self._filing(end.queue, [ended]) if together else []
        status = len(steps)
        steps.append(self._status(end))
        left = self._left[end.queue]
        try:
            with left.taken(at_least=1 if together else _BATCH) as others:
                met = self._send([*steps, *self._closing(end.queue, others)])
        except Refused as refused:
            if refused.index > 0:
                self._publish(end, body, claim.job.submitted_at)
                return
            try:
                self._demand_ended_by(claim, body, refused)
            except LeaseLost:
                if kept_beside:
                    self._large.drop(claim)
                raise
            return
        if not met[status]:
            self._make_status(end, claim.job.submitted_at)
        left.add(ended._replace(body=None) if together else ended)

    def complete(self, queue: str, number: ObjectId, body: bytes | None) -> bool:
        """Publish an end that somebody has decided and not published; whether there is one."""
        kept = self._layout.ledger(queue).with_options(codec_options=RAW)
        said = kept.find_one({"_id": number, "phase": Phase.COMMITTED.value})
        if said is None:
            return True  # somebody else has completed it
        end = _end_of(queue, said)
        if end is None:
            return False
        self._publish(end, body)
        self.settle(queue)
        return True

    def file(self, queue: str) -> None:
        """Have no ended job of ours lie in the queue."""
        if self._left[queue].unfiled:
            self.settle(queue)

    def settle(self, queue: str) -> None:
        """Make up for what was left for later."""
        try:
            with self._left[queue].taken() as left:
                if left:
                    self._send(self._closing(queue, left))
        except Refused as refused:
            # It stands in the ledger that they are not through: `reclaim` finds them one by one.
            with self._left[queue].taken():
                logger.warning("MongoDB refuses to file ended jobs of %r: %s", queue, refused)

    def settle_all(self) -> None:
        for queue in self._left:
            self.settle(queue)

    # --- deciding ---------------------------------------------------------------------------

    def _rendered(self, claim: Claim, signed: SignedReport) -> tuple[End, bool]:
        """Make the documents; also return whether the report had to be kept beside them."""
        content, report = b"", signed.report
        try:
            if (end := render(self._renderer, signed)).size <= ROOM:
                return end, False
            # The report lies in a file then, and the result may stay whole.
            end = _fitting(replace(end, jws=detached(signed.jws)))
        except NotStorable as error:
            if report.status.state is not State.DONE:
                raise _refused(claim, error) from None
            content = report_to_json(report)
            short, stored = pointing(claim, report, content)
            short_signed = SignedReport(short, detached(signed.jws))
            try:
                end = _fitting(render(self._renderer, short_signed, stored))
            except NotStorable as really:
                raise _refused(claim, really) from None
        self._large.keep(claim, content or report_to_json(report))
        return end, True

    def _demand_ended_by(self, claim: Claim, body: bytes | None, refused: Refused) -> None:
        """Raise LeaseLost unless this very claim has decided the end of its job before."""
        if not refused.duplicate:
            raise _not_taken(claim.job.id, refused)
        queue, number = claim.job.queue, number_of(claim.job.id)
        asked = {"phase": 1, "token": 1, "attempt": 1}
        said = self._layout.ledger(queue).find_one({"_id": number}, asked) or {}
        mine = (said.get("token"), said.get("attempt")) == (claim.lease.token, claim.attempt)
        if not mine or said.get("phase") not in {Phase.COMMITTED, Phase.ENDED}:
            raise lost(claim)
        if said["phase"] == Phase.COMMITTED:
            self.complete(queue, number, body)

    # --- publishing -------------------------------------------------------------------------

    def _publish(self, end: End, body: bytes | None, submitted: datetime | None = None) -> None:
        """Do everything behind the decision, whatever of it has been done before."""
        try:
            self._place_result(end)
            if not self._send([self._status(end)])[0]:
                self._make_status(end, submitted)
            self._send(self._filing(end.queue, [Left(end.number, end.done, body)]))
        except Refused as refused:
            raise _not_taken(str(end.number), refused) from None
        self._left[end.queue].add(Left(end.number, end.done, None))

    def _place_result(self, end: End) -> None:
        """Put the result to its place; nobody's measurement that stands there is lost."""
        try:
            self._send(self._result(end))
        except Refused as refused:
            if not refused.duplicate or end.result is None:
                raise
            results = self._layout.results(end.queue)
            standing = results.find_one({"_id": end.number})
            if standing is not None:
                if _plain(standing) == _plain(end.result):
                    return
                mark = hashlib.sha256(standing.raw).hexdigest()[:16]
                kept = {"_id": f"{end.number}.{mark}", "document": standing}
                replaced = self._layout.replaced(end.queue)
                replaced.replace_one({"_id": kept["_id"]}, kept, upsert=True)
            self._send([put(results, {"_id": end.number}, end.result, make=True)])

    def _make_status(self, end: End, submitted: datetime | None) -> None:
        """Make the status of a job that has none; its client may still write the first one."""
        if submitted is not None:
            age = (self._clock.now() - submitted).total_seconds()
            if 0 <= age < FIRST_STATUS_WITHIN:
                raise BackendUnavailable(
                    f"job {end.number} has no first status yet; its client writes it",
                    scope=Scope.JOB,
                    retry_after=FIRST_STATUS_WITHIN - age,
                )
        try:
            self._send([self._status(end, make=True)])
        except Refused as refused:
            if not refused.duplicate:
                raise _not_taken(str(end.number), refused) from None
            self._send([self._status(end)])  # the client's came at this moment

    # --- the single writes, each of which may be repeated -----------------------------------

    def _commit(self, claim: Claim, end: End) -> Step:
        """Decide the end, when the claim is still ours.

        When it is not, the server is made to insert a second document of the same id and
        refuses: that stops the writes behind it, which a condition that is merely not met would
        not.
        """
        kept = {"state": end.state.value, "status": end.status, "result": end.result}
        said: Document = {"state": end.state.value, "jws": end.jws or None}
        said |= {"phase": Phase.COMMITTED.value, "end": kept}
        said |= end.times._asdict()
        # Only where somebody has removed the ledger: the end can be found all the same.
        how = {"$set": said, "$setOnInsert": {"until": EPOCH}}
        wanted = {**fence(claim), "phase": {"$in": _OPEN}}
        return change(self._layout.ledger(end.queue), wanted, how, make=True)

    def _result(self, end: End) -> list[Step]:
        """Put the result to its place, which must be empty."""
        return [] if end.result is None else [insert(self._layout.results(end.queue), end.result)]

    def _status(self, end: End, *, make: bool = False) -> Step:
        """Replace the status: the first one is the client's, or has to be made."""
        return put(self._layout.status(end.queue), {"_id": end.number}, end.status, make=make)

    def _filing(self, queue: str, ended: Sequence[Left]) -> list[Step]:
        """Put bodies to their last places, then out of the queue; some were removed meanwhile."""
        there = [(each, body) for each in ended if (body := each.body) is not None]
        there.sort(key=lambda pair: pair[0].done)
        steps = [
            put(
                self._layout.ended(queue, done=each.done),
                {"_id": each.number},
                RawBSONDocument(body),
                make=True,
            )
            for each, body in there
        ]
        wanted = {"_id": {"$in": [each.number for each, _ in there]}}
        return [*steps, remove_all(self._layout.queue(queue), wanted)] if there else []

    def _closing(self, queue: str, left: Sequence[Left]) -> list[Step]:
        """File what is not filed, and say of all that nothing is left to be done about them."""
        if not left:
            return []
        wanted = {"_id": {"$in": [each.number for each in left]}, "phase": _OPEN[1]}
        how = {"$set": {"phase": Phase.ENDED.value}, "$unset": _NO_LONGER}
        noted = change_all(self._layout.ledger(queue), wanted, how)
        return [*self._filing(queue, left), noted]


def _not_taken(job_id: str, refused: Refused) -> BackendUnavailable:
    """The server is well and does not take this one report."""
    return BackendUnavailable(
        f"MongoDB does not take the end of job {job_id}: {refused}; it is tried again",
        scope=Scope.JOB,
    )


def _refused(claim: Claim, error: NotStorable) -> ReportRefused:
    return ReportRefused(f"the report of job {claim.job.id}: {error}")


def shown(end: End) -> list[tuple[str, Any]]:
    """Places and contents, for people."""
    path = f"{end.queue}/{end.number}"
    documents = (("results", end.result), ("status", end.status))
    found = [
        (f"{kind}/{path}", {key: said for key, said in _plain(document).items() if key != "_id"})
        for kind, document in documents
        if document is not None
    ]
    return [*found, (f"jobs/spooler/{path}", {"state": end.state.value, "jws": end.jws or None})]


def _plain(document: RawBSONDocument) -> Document:
    """Return the content; what nobody can read is like nothing else."""
    with suppress(BSONError):
        return bson.decode(document.raw)
    return {"unreadable": document.raw}
