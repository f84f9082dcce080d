"""How a job in MongoDB ends: decided by one conditional write, published by writes that repeat.

Three ways, with the same decision and the same documents (docs/decisions/0008):

together      all writes in one command; the ledger keeps the documents until they are published
at once       all writes in one transaction: where the end is too large for the ledger to keep
apart         a command for each, where a server has neither; bodies are filed in batches
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from bson.codec_options import CodecOptions
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.errors import OperationFailure

from spooler.errors import BackendUnavailable, LeaseLost
from spooler.model.claim import Claim
from spooler.model.result import SignedReport
from spooler.protocols import Clock
from spooler.storage.sqooler.mongodb.documents import NotStorable
from spooler.storage.sqooler.mongodb.ends import End, Writes, from_ledger, render
from spooler.storage.sqooler.mongodb.large import LargeResults
from spooler.storage.sqooler.mongodb.layout import Abilities, MongoLayout, Phase, number_of
from spooler.storage.sqooler.mongodb.ledger import lost
from spooler.storage.sqooler.mongodb.publishing import Publishing
from spooler.storage.sqooler.mongodb.steps import Refused, all_or_none, apart, together
from spooler.storage.sqooler.rendering import Renderer

#: Bytes that one document may be given: 16 MiB are the most, with what else stands in it.
ROOM = 15 * 2**20
#: What a server says that has no transactions after all, and one that lacks a command.
_NO_TRANSACTIONS, _NO_COMMAND = {20, 263}, {59}

Transactions = Literal["auto", "always", "never"]


class MongoEndings:
    """Writes results, statuses and reports, and puts jobs to their last places."""

    def __init__(
        self,
        layout: MongoLayout,
        clock: Clock,
        renderer: Renderer,
        abilities: Callable[[], Abilities],
        transactions: Transactions,
    ) -> None:
        self._layout = layout
        self._client = layout.client
        self._renderer = renderer
        self._abilities = abilities
        self._transactions = transactions
        self._writes = Writes(layout)
        self._large = LargeResults(layout)
        self._lacks_transactions = False
        self._lacks_together = False
        self.publishing = Publishing(layout, self._writes, clock)

    # --- ending a claim ---------------------------------------------------------------------

    def end(self, claim: Claim, signed: SignedReport, body: bytes | None) -> None:
        """Decide and publish; harmless to repeat. LeaseLost when it is not ours to end."""
        end, large = self._rendered(claim, signed)
        try:
            self._write(claim, end, body)
        except LeaseLost:
            if large:
                self._large.drop(claim)
            raise
        except OperationFailure as error:
            # The next try goes another way.
            self._lacks_transactions |= error.code in _NO_TRANSACTIONS
            self._lacks_together |= error.code in _NO_COMMAND
            raise

    def preview(self, signed: SignedReport) -> End:
        """What `end` would write."""
        return render(self._renderer, signed)

    def complete(self, device: str, number: ObjectId, body: bytes | None) -> bool:
        """Publish an end that somebody has decided and not published; whether there is one."""
        kept = self._layout.ledger(device).with_options(codec_options=_RAW)
        said = kept.find_one({"_id": number, "phase": Phase.COMMITTED.value})
        if said is None:
            return True  # somebody else has completed it
        end = from_ledger(device, said)
        if end is None:
            return False
        self.publishing.complete(end, body)
        self.publishing.settle(device)
        return True

    def _rendered(self, claim: Claim, signed: SignedReport) -> tuple[End, bool]:
        """The documents, and whether the data had to be kept in a file."""
        try:
            end = render(self._renderer, signed)
        except NotStorable:
            pass
        else:
            if end.size <= ROOM or self._goes_at_once(end):
                return end, False
        return render(self._renderer, self._large.keep(claim, signed)), True

    def _goes_at_once(self, end: End) -> bool:
        """Whether this end is to be written in a transaction."""
        if self._transactions == "never" or self._lacks_transactions:
            return False
        wanted = self._transactions == "always" or end.size > ROOM
        return wanted and end.largest <= ROOM and self._abilities().transactions

    def _write(self, claim: Claim, end: End, body: bytes | None) -> None:
        if self._goes_at_once(end):
            self._end_at_once(claim, end, body)
        elif self._abilities().together and not self._lacks_together:
            self._end_together(claim, end, body)
        else:
            self._end_apart(claim, end, body)

    # --- the three ways ---------------------------------------------------------------------

    def _end_together(self, claim: Claim, end: End, body: bytes | None) -> None:
        """The bodies of the writes before this one are noted as settled on the way."""
        writes = self._writes
        steps = [writes.commit(claim, end, at_once=False), *writes.result(end)]
        # sqooler's clients look for the job at its last place once the status tells of the end.
        steps += [*writes.file(end, body), writes.unqueue(end), writes.status(end)]
        status = len(steps) - 1
        with self.publishing.settling(end.device) as settled:
            if settled:
                steps.append(writes.settle(end.device, settled))
            try:
                met = together(self._client, steps)
            except Refused as refused:
                if refused.index == 0:
                    self._demand_ended_by(claim, end, body, refused)
                    return
                # Decided; something stands in the way of the rest.
                met = []
        if not met:
            self.publishing.complete(end, body, claim.job.submitted_at)
            return
        if not met[status]:
            self.publishing.make_status(end, claim.job.submitted_at)
        self.publishing.note_settled(end)

    def _end_at_once(self, claim: Claim, end: End, body: bytes | None) -> None:
        writes, replacing, make = self._writes, False, False
        for _ in range(4):
            decision = writes.commit(claim, end, at_once=True)
            steps = [decision, *writes.result(end, replacing=replacing)]
            status = len(steps)
            steps += [writes.status(end, make=make), *writes.file(end, body), writes.unqueue(end)]
            try:
                all_or_none(self._client, steps, meeting=status)
            except Refused as refused:
                if refused.index == 0:
                    self._demand_ended_by(claim, end, body, refused)
                    return
                if refused.index == status:
                    self.publishing.let_the_client_be_first(end, claim.job.submitted_at)
                    make = True
                else:
                    self.publishing.keep_replaced(end)
                    replacing = True
            else:
                return
        raise BackendUnavailable(f"the end of job {end.job_id} is contended; it is tried again")

    def _end_apart(self, claim: Claim, end: End, body: bytes | None) -> None:
        try:
            apart([self._writes.commit(claim, end, at_once=False)])
        except Refused as refused:
            self._demand_ended_by(claim, end, body, refused)
            return
        self.publishing.place_result(end)
        if not apart([self._writes.status(end)])[0]:
            self.publishing.make_status(end, claim.job.submitted_at)
        self.publishing.file_later(end, body)

    def _demand_ended_by(
        self, claim: Claim, end: End, body: bytes | None, refused: Refused
    ) -> None:
        """Raise LeaseLost unless this very claim has decided the end of its job before."""
        if not refused.duplicate:
            raise BackendUnavailable(
                f"MongoDB does not take the end of job {end.job_id}: {refused}; it is tried again"
            )
        said = self._layout.ledger(end.device).find_one(
            {"_id": number_of(end.job_id)}, {"phase": 1, "token": 1, "attempt": 1}
        )
        mine = said is not None and (said.get("token"), said.get("attempt")) == (
            claim.token,
            claim.attempt,
        )
        phase = said.get("phase") if said is not None else None
        if not mine or phase not in {Phase.COMMITTED, Phase.ENDED}:
            raise lost(claim)
        if phase == Phase.COMMITTED:
            self.complete(end.device, number_of(end.job_id), body)


_RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
