"""The documents in which a job ends, and the writes that bring them to their places."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

from spooler.model.claim import Claim
from spooler.model.result import Report, SignedReport
from spooler.model.state import State
from spooler.storage.sqooler.mongodb.client import Document
from spooler.storage.sqooler.mongodb.documents import encode
from spooler.storage.sqooler.mongodb.layout import MongoLayout, Phase, number_of
from spooler.storage.sqooler.mongodb.ledger import fence
from spooler.storage.sqooler.mongodb.queue import raw
from spooler.storage.sqooler.mongodb.steps import (
    Step,
    change,
    change_all,
    insert,
    put,
    remove,
    remove_all,
)
from spooler.storage.sqooler.rendering import Renderer

_LONG_AGO = datetime.fromtimestamp(0, UTC)
#: What an ended entry of the ledger no longer needs.
_NO_LONGER = dict.fromkeys(("end", "until", "since", "ttl", "started", "cancelled"), "")


@dataclass(frozen=True, slots=True)
class End:
    """How one job ends: what is written about it, besides its own body."""

    device: str
    job_id: str
    state: State
    status: RawBSONDocument
    result: RawBSONDocument | None
    jws: str

    @property
    def done(self) -> bool:
        return self.state is State.DONE

    @property
    def size(self) -> int:
        """Bytes that all of it takes in one document."""
        result = 0 if self.result is None else len(self.result.raw)
        return result + len(self.status.raw) + len(self.jws)

    @property
    def largest(self) -> int:
        """Bytes of its largest document."""
        return max(0 if self.result is None else len(self.result.raw), len(self.jws))


def render(renderer: Renderer, signed: SignedReport) -> End:
    """The documents of a report; NotStorable when MongoDB cannot hold them."""
    report = _sendable(signed.report)
    number = number_of(report.job_id)
    done = report.status.state is State.DONE
    return End(
        report.device,
        report.job_id,
        report.status.state,
        encode(json.loads(renderer.final_status(report)), number),
        encode(json.loads(renderer.result(report)), number) if done else None,
        signed.jws,
    )


def _sendable(report: Report) -> Report:
    """The report with a reason that is valid Unicode: a handler's text may be anything."""
    reason = report.status.reason.encode("utf-8", "replace").decode()
    return replace(report, status=replace(report.status, reason=reason))


def to_ledger(end: End) -> Document:
    """What the ledger keeps of an end, so that anybody can publish it."""
    return {"state": end.state.value, "status": end.status, "result": end.result}


def from_ledger(device: str, said: Mapping[str, Any]) -> End | None:
    """The end in an entry that is committed, read with raw documents; None when there is none."""
    kept = said.get("end")
    if not isinstance(kept, Mapping) or kept.get("state") not in list(State):
        return None
    status, result = kept.get("status"), kept.get("result")
    if not isinstance(status, RawBSONDocument) or not isinstance(result, RawBSONDocument | None):
        return None
    jws = str(said.get("jws") or "")
    return End(device, str(said["_id"]), State(kept["state"]), status, result, jws)


class Writes:
    """The single writes of an end. Each may be repeated."""

    def __init__(self, layout: MongoLayout) -> None:
        self._layout = layout

    def commit(self, claim: Claim, end: End, *, at_once: bool) -> Step:
        """Decide the end, when the claim is still ours.

        When it is not, the server is made to insert a second document of the same id and
        refuses: that stops the writes behind it, which a condition that is merely not met would
        not. `at_once`: the other writes happen with this one or not at all.
        """
        ledger = self._layout.ledger(end.device)
        said: Document = {"state": end.state.value, "jws": end.jws or None}
        if at_once:
            now_said = {**said, "phase": Phase.ENDED.value}
            wanted = {**fence(claim), "phase": Phase.HELD.value}
            return change(ledger, wanted, {"$set": now_said, "$unset": _NO_LONGER}, make=True)
        now_said = {**said, "phase": Phase.COMMITTED.value, "end": to_ledger(end)}
        # Only where somebody has removed the ledger: the end can be found all the same.
        how = {"$set": now_said, "$setOnInsert": {"until": _LONG_AGO}}
        open_phases = [Phase.HELD.value, Phase.COMMITTED.value]
        return change(ledger, {**fence(claim), "phase": {"$in": open_phases}}, how, make=True)

    def result(self, end: End, *, replacing: bool = False) -> list[Step]:
        """The result to its place, which must be empty unless what stood there is kept."""
        if end.result is None:
            return []
        place = self._layout.results(end.device)
        if replacing:
            return [put(place, {"_id": number_of(end.job_id)}, end.result, make=True)]
        return [insert(place, end.result)]

    def status(self, end: End, *, make: bool = False) -> Step:
        """The status; the first one is the client's, so ours replaces one, or has to be made."""
        place = self._layout.status(end.device)
        return put(place, {"_id": number_of(end.job_id)}, end.status, make=make)

    def file(self, end: End, body: bytes | None) -> list[Step]:
        """The body to its last place; nothing when it was removed meanwhile."""
        if body is None:
            return []
        place = self._layout.ended(end.device, done=end.done)
        return [put(place, {"_id": number_of(end.job_id)}, raw(body), make=True)]

    def unqueue(self, end: End) -> Step:
        return remove(self._layout.queue(end.device), {"_id": number_of(end.job_id)})

    def unqueue_all(self, device: str, ends: list[End]) -> Step:
        numbers = [number_of(each.job_id) for each in ends]
        return remove_all(self._layout.queue(device), {"_id": {"$in": numbers}})

    def settle(self, device: str, job_ids: list[str]) -> Step:
        """Note that nothing is left to be done about committed ends."""
        numbers = [number_of(each) for each in job_ids]
        return change_all(
            self._layout.ledger(device),
            {"_id": {"$in": numbers}, "phase": Phase.COMMITTED.value},
            {"$set": {"phase": Phase.ENDED.value}, "$unset": _NO_LONGER},
        )


def shown(end: End) -> list[tuple[str, Any]]:
    """Places and contents, for people."""
    path = f"{end.device}/{end.job_id}"
    found: list[tuple[str, Any]] = [
        (f"jobs/spooler/{path}", {"state": end.state.value, "jws": end.jws or None}),
        (f"status/{path}", _plain(end.status)),
    ]
    if end.result is not None:
        found.insert(0, (f"results/{path}", _plain(end.result)))
    return found


def _plain(document: RawBSONDocument) -> Any:
    content = bson.decode(document.raw)
    del content["_id"]
    return content
