"""From reports and cards to the documents that sqooler's clients read and verify.

Plain dicts in the field order of the wire format: the order is part of what is signed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic_core import to_json

from spooler.model.claim import Claim
from spooler.model.device import DeviceCard
from spooler.model.json import Json
from spooler.model.result import Report, Result, SignedReport
from spooler.model.state import State
from spooler.protocols import Signer
from spooler.signing.sqooler_form import signed_text
from spooler.storage.sqooler.envelope import STORED, Parts, put_in

#: The words that sqooler's readers know; any other makes them raise.
WIRE_STATUS = {
    State.QUEUED: "INITIALIZING",
    State.RUNNING: "INITIALIZING",
    State.DONE: "DONE",
    State.ERROR: "ERROR",
    State.CANCELLED: "ERROR",
}
RECEIVED = "Got your json."
#: What begins the error text of a cancelled job: the wire format has no word for it.
CANCELLED = "Cancelled"
_NO_ERROR = "None"


class Renderer:
    """Makes the documents of one storage, signed when there is a signer."""

    def __init__(self, signer: Signer | None) -> None:
        self.signer = signer

    def sealed(self, document: dict[str, Json]) -> bytes:
        """Return the bytes of the document, signed in sqooler's form when there is a key."""
        if self.signer is None:
            return json.dumps(document, allow_nan=False).encode()
        return signed_text(document, self.signer).encode()

    def status(self, job_id: str, state: State, detail: str, error: str = "") -> bytes:
        """Return a status document; `detail` grows by `; ` + text, as readers know it."""
        return self.sealed(
            {
                "job_id": job_id,
                "status": WIRE_STATUS[state],
                "detail": f"{RECEIVED}; {detail}" if detail else RECEIVED,
                "error_message": error or _NO_ERROR,
            }
        )

    def final_status(self, report: Report) -> bytes:
        """Return the status that a submitter finds at the end."""
        status = report.status
        if status.state is State.DONE:
            detail = status.reason or f"Done in attempt {report.attempt}."
            return self.status(report.job_id, State.DONE, detail)
        reason = status.reason or "the job failed"
        if status.state is State.CANCELLED:
            reason = f"{CANCELLED}: {reason}"
        return self.status(report.job_id, status.state, reason, reason)

    def result(self, report: Report) -> bytes:
        """Return the result document of a report that has a result."""
        result = report.result or Result()
        return self._result(report, put_in(result.data, result.artifacts))

    def result_elsewhere(self, report: Report, stored: dict[str, Json]) -> bytes:
        """Return the result document that says where the data lies."""
        return self._result(report, Parts({"error": report.status.reason, STORED: stored}, []))

    def _result(self, report: Report, parts: Parts) -> bytes:
        return self.sealed(
            {
                "backend_name": None,
                "display_name": report.queue,
                "backend_version": report.device_version,
                "job_id": report.job_id,
                "qobj_id": None,
                "success": True,
                "status": "DONE",
                "header": parts.header,
                "results": parts.results,
            }
        )

    def succession(self, device: str, former: Sequence[Mapping[str, str]]) -> bytes:
        """Which keys were this device's before the present one, signed with the present one."""
        keys: list[Json] = [{"kid": each["kid"], "x": each["x"]} for each in former]
        return self.sealed({"device": device, "former": keys})

    def config(self, card: DeviceCard, at: datetime) -> dict[str, Json]:
        """Return the configuration of a device, unsigned.

        What a card does not say gets a value that sqooler's readers accept.
        """
        known = card.properties
        return {
            "description": card.description or f"The device {card.name}.",
            "version": card.version,
            "display_name": card.name,
            "cold_atom_type": known.get("cold_atom_type", "spin"),
            "gates": known.get("gates", []),
            "max_experiments": known.get("max_experiments", 1000),
            "max_shots": known.get("max_shots", 1_000_000),
            "simulator": card.simulator,
            "supported_instructions": known.get("supported_instructions", []),
            "num_wires": known.get("num_wires", 1),
            "wire_order": known.get("wire_order", "interleaved"),
            "num_species": known.get("num_species", 1),
            "pending_jobs": card.pending,
            "status_msg": card.note or None,
            "last_queue_check": at.replace(microsecond=0).isoformat(),
            "sign": self.signer is not None,
            "kid": self.signer.kid if self.signer is not None else None,
        }


def report_document(claim: Claim, signed: SignedReport) -> bytes:
    """Make the report as a compact JWS, after what tells a repeated `ack` from a late one."""
    status = signed.report.status
    times = {"started_at": status.started_at, "finished_at": status.finished_at}
    rest = to_json({**times, "jws": signed.jws or None}).removeprefix(b"{")
    return report_beginning(claim) + b"," + rest


def report_beginning(claim: Claim) -> bytes:
    """Return the first bytes of the report on this claim, and of no other."""
    content = {"job_id": claim.job.id, "attempt": claim.attempt, "token": claim.lease.token}
    return to_json(content).removesuffix(b"}")
