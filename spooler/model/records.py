"""Reports and claims as JSON: what is signed, and what waits in the outbox.

The text of a report is what its JWS is made of: keys in a fixed order, compact separators,
UTF-8. Readers take the bytes of the JWS and never make them again.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from spooler.model.artifact import Artifact
from spooler.model.claim import Claim, Owner
from spooler.model.job import Job
from spooler.model.result import Report, Result
from spooler.model.state import State
from spooler.model.status import Status

#: Made once: `json.dumps` with options makes one for each call.
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _time(value: datetime | None) -> str | None:
    return value.isoformat() if value is not None else None


def _moment(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value is not None else None


def report_to_json(report: Report) -> bytes:
    """The bytes that are signed."""
    result = report.result
    content = {
        "job_id": report.job_id,
        "device": report.device,
        "device_version": report.device_version,
        "attempt": report.attempt,
        "owner": report.owner,
        "status": {
            "state": str(report.status.state),
            "reason": report.status.reason,
            "started_at": _time(report.status.started_at),
            "finished_at": _time(report.status.finished_at),
        },
        "result": None
        if result is None
        else {
            "data": result.data,
            "artifacts": [
                {"path": each.path, "size": each.size, "sha256": each.sha256}
                for each in result.artifacts
            ],
        },
    }
    return _ENCODER.encode(content).encode()


def report_from_json(text: bytes | str) -> Report:
    """The report in these bytes; ValueError, KeyError or TypeError when they are none."""
    content: dict[str, Any] = json.loads(text)
    status, result = content["status"], content["result"]
    return Report(
        content["job_id"],
        content["device"],
        content["device_version"],
        content["attempt"],
        content["owner"],
        Status(
            State(status["state"]),
            status["reason"],
            _moment(status["started_at"]),
            _moment(status["finished_at"]),
        ),
        None
        if result is None
        else Result(result["data"], tuple(Artifact(**each) for each in result["artifacts"])),
    )


def claim_to_json(claim: Claim) -> dict[str, Any]:
    """What an `ack` needs of a claim; the payload stays behind."""
    return {
        "job_id": claim.job.id,
        "device": claim.job.device,
        "submitted_at": _time(claim.job.submitted_at),
        "host": claim.owner.host,
        "pid": claim.owner.pid,
        "process": claim.owner.process,
        "attempt": claim.attempt,
        "token": claim.token,
        "handle": claim.handle,
        "started": claim.started,
    }


def claim_from_json(content: dict[str, Any]) -> Claim:
    """The claim in a record; KeyError or TypeError when it is none."""
    return Claim(
        Job(content["job_id"], content["device"], submitted_at=_moment(content["submitted_at"])),
        Owner(content["host"], content["pid"], content["process"]),
        content["attempt"],
        content["token"],
        content["handle"],
        started=content["started"],
    )
