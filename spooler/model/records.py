"""Reports and claims as JSON: what is signed, and what is written down of a claim.

The text of a report is what its JWS is made of: keys in a fixed order, compact separators,
UTF-8. Readers take the bytes of the JWS and never make them again.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from spooler.model.artifact import Artifact
from spooler.model.claim import Claim, Lease, Owner
from spooler.model.job import Job
from spooler.model.result import Report, Result
from spooler.model.state import State
from spooler.model.status import Status

#: Made once: `json.dumps` with options makes one for each call.
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)

#: What is text in a claim.
_TEXTS = ("job_id", "queue", "digest", "host", "process", "estate", "token", "handle")


def _time(value: datetime | None) -> str | None:
    return value.isoformat() if value is not None else None


def _moment(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value is not None else None


def report_to_json(report: Report) -> bytes:
    """Return the bytes that are signed."""
    result = report.result
    content = {
        "job_id": report.job_id,
        "queue": report.queue,
        "device": report.device,
        "device_version": report.device_version,
        "attempt": report.attempt,
        "owner": report.owner,
        "digest": report.digest,
        "status": {
            "state": str(report.status.state),
            "reason": report.status.reason,
            "started_at": _time(report.status.started_at),
            "finished_at": _time(report.status.finished_at),
        },
        "again": report.again,
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
    """Return the report in these bytes; ValueError, KeyError or TypeError when they are none.

    Reports of the first edition name no queue: theirs was called like the device.
    """
    content: dict[str, Any] = json.loads(text)
    status, result = content["status"], content["result"]
    return Report(
        content["job_id"],
        content.get("queue", content["device"]),
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
        digest=content.get("digest", ""),
        again=bool(content.get("again", False)),
    )


def claim_to_json(claim: Claim) -> dict[str, Any]:
    """Return what an `ack` needs of a claim; the payload stays behind."""
    return {
        "job_id": claim.job.id,
        "queue": claim.job.queue,
        "submitted_at": _time(claim.job.submitted_at),
        "digest": claim.job.digest,
        "host": claim.lease.owner.host,
        "pid": claim.lease.owner.pid,
        "process": claim.lease.owner.process,
        "estate": claim.lease.owner.estate,
        "attempt": claim.attempt,
        "token": claim.lease.token,
        "ttl": claim.lease.ttl,
        "handle": claim.handle,
        "started": claim.started,
    }


def claim_from_json(content: dict[str, Any]) -> Claim:
    """Return the claim in a record; KeyError or TypeError when it is none."""
    for key in _TEXTS:
        if not isinstance(content[key], str) or "\0" in content[key]:
            raise TypeError(f"{key} is not a text")
    for key in ("pid", "attempt", "ttl", "started"):
        if not isinstance(content[key], (int, float)):
            raise TypeError(f"{key} is not a number")
    owner = Owner(content["host"], content["pid"], content["process"], content["estate"])
    return Claim(
        Job(
            content["job_id"],
            content["queue"],
            digest=content["digest"],
            submitted_at=_moment(content["submitted_at"]),
        ),
        Lease(content["token"], owner, content["ttl"]),
        content["attempt"],
        content["handle"],
        started=content["started"],
    )
