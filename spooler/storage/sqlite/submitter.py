"""The submitter's view of a SQLite file."""

from __future__ import annotations

import json
import os
import pwd
import sqlite3
import uuid
from collections.abc import Mapping

from spooler.errors import (
    KeyRefused,
    NotCancellable,
    PayloadInvalid,
    SignatureRefused,
    UnknownDevice,
    UnknownJob,
)
from spooler.model.device import DeviceCard
from spooler.model.json import JsonObject
from spooler.model.records import report_from_json
from spooler.model.result import Report, Result
from spooler.model.state import State
from spooler.model.status import Status
from spooler.model.storage import Verification
from spooler.protocols import Clock
from spooler.signing.jws import KeySet, b64decode
from spooler.storage.kit.payloads import decode
from spooler.storage.sqlite.catalogue import read_devices
from spooler.storage.sqlite.database import Database
from spooler.storage.sqlite.rows import moment
from spooler.storage.sqlite.schema import (
    ADD_JOB,
    ADD_REQUEST,
    KEYS,
    REPORT,
    REQUEST,
    STANDING,
    WITHDRAW,
)


class SqliteSubmitter:
    """Submits, asks and verifies; never makes the file: that is the daemon's to own."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def submit(self, device: str, payload: JsonObject, *, job_id: str = "") -> str:
        """Queue a job; `job_id` may be given here, so that a program can bring its own."""
        try:
            content = json.dumps(payload, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise PayloadInvalid(f"the job is not plain JSON: {error}") from error
        self._demand_announced(device)
        job = {
            "queue": device,
            "id": job_id or uuid.uuid4().hex[:24],
            "at": self._clock.now().isoformat(),
            "submitter": _user(),
        }
        try:
            with self._database.writing() as connection:
                connection.execute(ADD_JOB, job)
                connection.execute(ADD_REQUEST, {"payload": content})
        except sqlite3.IntegrityError:
            raise PayloadInvalid(f"device {device!r} already has a job {job_id!r}") from None
        return job["id"]

    def _demand_announced(self, device: str) -> None:
        known = [card.name for card in self.devices()]
        if device not in known:
            others = f"; announced devices: {', '.join(known)}" if known else ""
            raise UnknownDevice(
                f"device {device!r} is not announced yet; start its daemon first: spooler run"
                f"{others}"
            )

    def status(self, device: str, job_id: str) -> Status:
        with self._database.reading() as connection:
            row = _job(connection, device, job_id)
        state, detail = State(row["state"]), row["detail"]
        if row["cancelled"] and not state.ended:
            detail = "cancellation requested"
        return Status(state, detail, moment(row["started_at"]), moment(row["finished_at"]))

    def result(self, device: str, job_id: str) -> Result:
        with self._database.reading() as connection:
            _, report, result = _report(connection, device, job_id)
        if misplaced := _misplaced(report, device, job_id):
            raise UnknownJob(f"job {job_id!r} of device {device!r} has no result: {misplaced}")
        return result

    def verify(self, device: str, job_id: str) -> Verification:
        """Check a result with the keys that the device is, or was, announced under.

        Whoever may write the file may announce another key: pin the kid that you know.
        """
        with self._database.reading() as connection:
            row, _, _ = _report(connection, device, job_id)
            keys = [
                json.loads(each["jwk"]) for each in connection.execute(KEYS, {"device": device})
            ]
        if not row["jws"]:
            return Verification(ok=False, detail="the result is not signed")
        try:
            signed = KeySet(keys).verify_jws(row["jws"])
        except (SignatureRefused, KeyRefused) as error:
            return Verification(ok=False, detail=str(error))
        kid = str(json.loads(b64decode(row["jws"].split(".")[0]))["kid"])
        if signed != row["report"]:
            detail = "the stored report is not the one that was signed"
            return Verification(ok=False, detail=detail, kid=kid)
        report = report_from_json(signed)
        if misplaced := _misplaced(report, device, job_id):
            return Verification(ok=False, detail=misplaced, kid=kid)
        detail = f"signed by the key {kid!r} of device {device!r}"
        return Verification(ok=True, detail=detail, kid=kid)

    def cancel(self, device: str, job_id: str) -> bool:
        """Note the wish; the daemon answers it, signed, when it claims or renews the job."""
        self.status(device, job_id)  # without a file every job is unknown
        with self._database.writing() as connection:
            row = _job(connection, device, job_id)
            state = State(row["state"])
            if state.ended:
                raise NotCancellable(f"job {job_id} has already ended: {state}")
            connection.execute(WITHDRAW, {"queue": device, "id": job_id})
        return state is State.QUEUED

    def request(self, device: str, job_id: str) -> JsonObject:
        with self._database.reading() as connection:
            row = connection.execute(REQUEST, {"queue": device, "id": job_id}).fetchone()
        if row is None:
            raise UnknownJob(f"job {job_id!r} not found on device {device!r}")
        decoded = decode(row["payload"])
        if not isinstance(decoded.payload, Mapping):
            raise UnknownJob(f"the request of job {job_id} cannot be used: {decoded.defect}")
        return decoded.payload

    def devices(self, *, count: bool = False) -> list[DeviceCard]:
        with self._database.reading() as connection:
            return read_devices(connection, count=count)

    def close(self) -> None:
        self._database.close()


def _job(connection: sqlite3.Connection, device: str, job_id: str) -> sqlite3.Row:
    row: sqlite3.Row | None = connection.execute(
        STANDING, {"queue": device, "id": job_id}
    ).fetchone()
    if row is None:
        raise UnknownJob(f"job {job_id!r} not found on device {device!r}")
    return row


def _report(
    connection: sqlite3.Connection, device: str, job_id: str
) -> tuple[sqlite3.Row, Report, Result]:
    """Return the stored report of a job and its result; UnknownJob where there is none."""
    row = connection.execute(REPORT, {"queue": device, "id": job_id}).fetchone()
    try:
        report = report_from_json(row["report"]) if row is not None else None
    except (ValueError, KeyError, TypeError):
        raise UnknownJob(
            f"the stored report of job {job_id!r} cannot be read; somebody else has changed it"
        ) from None
    if report is None or report.result is None:
        raise UnknownJob(f"job {job_id!r} on device {device!r} has no result (yet)")
    return row, report, report.result


def _misplaced(report: Report, device: str, job_id: str) -> str:
    """What is wrong with a report that is about another job, or another device, than its row."""
    if (report.queue, report.job_id) == (device, job_id):
        return ""
    return f"the stored report is about job {report.job_id!r} of device {report.queue!r}"


def _user() -> str:
    """Return the name of who submits, as this machine knows it; nothing is concluded from it."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
