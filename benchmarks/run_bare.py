"""A loop over a queue on a MongoDB server, with nothing around it: `run_bare URI HOW`.

by-id      lists the ids once, then three commands per job: claim it by its id
           (find_one_and_update), insert the result, replace the status
searching  the same three, but claims whichever job nobody has: what one would write first. Where
           no index is used (SecantusDB), the server looks at the whole queue for each claim
storage    spooler's own storage, called as its daemon calls it (claim, start, end), without the
           daemon: no record, no handler, no process beside it

Result and status are signed and as long as spooler's; in the first two jobs stay where they are.
Writes are acknowledged by a majority and journaled, as spooler's are.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo

from benchmarks.place import DEVICE, JOB
from benchmarks.run_reference import Texts
from spooler.clock import SystemClock
from spooler.model.claim import Claim, Lease, Owner
from spooler.model.job import Queue
from spooler.model.records import report_to_json
from spooler.model.result import Report, Result, SignedReport
from spooler.model.state import State
from spooler.model.status import Status
from spooler.signing.keys import PrivateKey, from_sqooler_text
from spooler.storage.sqooler.mongodb.address import MongoAddress
from spooler.storage.sqooler.mongodb.backend import MongoBackend

_TTL = 60.0


class Loop:
    """Claim, result, status."""

    def __init__(self, uri: str, key: PrivateKey) -> None:
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
            uri, w="majority", journal=True, retryWrites=True
        )
        self._queue = client["jobs"][f"queued.{DEVICE}"]
        self._results = client["results"][DEVICE]
        self._statuses = client["status"][DEVICE]
        self._texts = Texts(key)
        self._owner = secrets.token_hex(16)

    def by_id(self) -> None:
        """All that wait now."""
        for job in list(self._queue.find({}, {"_id": 1})):
            self._do(self._claim({"_id": job["_id"]}))

    def searching(self) -> None:
        """Until nothing waits."""
        while (job := self._claim({})) is not None:
            self._do(job)

    def _claim(self, which: dict[str, Any]) -> Any:
        until = datetime.now(UTC) + timedelta(seconds=_TTL)
        return self._queue.find_one_and_update(
            {**which, "owner": None}, {"$set": {"owner": self._owner, "until": until}}
        )

    def _do(self, job: dict[str, Any]) -> None:
        _, result, _, status = self._texts.of(str(job["_id"]))
        self._results.insert_one({"_id": job["_id"], **json.loads(result)})
        self._statuses.replace_one({"_id": job["_id"]}, json.loads(status))


def work(uri: str, key: PrivateKey) -> None:
    """What spooler's daemon asks of its storage for each job, and nothing else."""
    backend = MongoBackend(MongoAddress(uri=uri), SystemClock(), signer=key)
    for claim in _claims(backend):
        started = backend.start(claim, 0.0)
        report = _report(started)
        backend.ack(started, SignedReport(report, key.jws(report_to_json(report))))
    backend.close()


def _claims(backend: MongoBackend) -> Iterator[Claim]:
    owner, queue = (
        Owner(socket.gethostname(), os.getpid(), secrets.token_hex(8)),
        Queue(DEVICE, DEVICE),
    )
    while (claim := backend.claim(queue, Lease(secrets.token_hex(8), owner, _TTL))) is not None:
        yield claim


def _report(claim: Claim) -> Report:
    now = datetime.now(UTC)
    echo: dict[str, Any] = {"echo": JOB}
    return Report(
        claim.job.id,
        claim.job.queue,
        DEVICE,
        "1.0.0",
        claim.attempt,
        str(claim.owner),
        Status(State.DONE, "", now, now),
        Result(echo),
        digest=claim.job.digest,
    )


if __name__ == "__main__":
    address, secret = sys.argv[1], from_sqooler_text(os.environ["PRIVATE_JWK_STR"])
    if sys.argv[2] == "storage":
        work(address, secret)
    else:
        loop = Loop(address, secret)
        {"by-id": loop.by_id, "searching": loop.searching}[sys.argv[2]]()
