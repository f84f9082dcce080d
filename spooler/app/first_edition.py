"""Takes over the reports that an earlier edition of spooler has left in `state/outbox`.

It kept one file per report there, named after device and job. They become records, and so are
delivered or parked like all others.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from spooler.daemon.claims.records import Opened, Phase, Record, Records
from spooler.durable import Disk, read
from spooler.model.claim import Claim, Lease, Owner
from spooler.model.job import Job
from spooler.model.records import report_from_json
from spooler.model.result import SignedReport
from spooler.observe.logger import get_logger

logger = get_logger("spooler.records")


def take_over_outbox(folder: Path, records: Records, opened: Opened) -> int:
    """Make records of the files in `folder`; how many. Raises BackendUnavailable of our own disk.

    One that cannot be used stays where it is, and is told of.
    """
    count = 0
    for place in sorted(folder.glob("[!.]*.json")) + sorted(folder.glob("parked/[!.]*.json")):
        try:
            record = _record(json.loads(read(place)), opened)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            logger.warning(
                "%s was written by an earlier version and cannot be used: %s", place, error
            )
            continue
        if place.parent.name == "parked":
            records.park(record, _reason(place))
        else:
            records.keep(record)
        count += 1
        try:
            Disk().remove(place)
            Disk().remove(f"{place}.reason")
        except OSError as error:  # it is delivered again at the next start, which is harmless
            logger.warning("%s was taken over and cannot be removed: %s", place, error)
    return count


def _record(said: dict[str, Any], opened: Opened) -> Record:
    claim, jws = said["claim"], str(said["jws"])
    report = report_from_json(opened(jws, str(said.get("report", ""))))
    owner = Owner(str(claim["host"]), int(claim["pid"]), str(claim["process"]))
    held = Claim(
        Job(str(claim["job_id"]), str(claim["device"]), submitted_at=None),
        Lease(str(claim["token"]), owner, 0.0),
        int(claim["attempt"]),
        str(claim["handle"]),
        started=bool(claim["started"]),
    )
    return Record(held, str(claim["device"]), Phase.REPORT, SignedReport(report, jws))


def _reason(place: Path) -> str:
    try:
        return str(json.loads(read(f"{place}.reason"))["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return "parked by an earlier version of spooler"
