"""Reports and results that no document can hold: kept as files in the database (GridFS).

The file holds the very bytes that the report's JWS signs, and is written before the end is
decided. The JWS keeps its header and signature in the ledger, and the file is its payload (a
detached JWS, RFC 7515 appendix F). Where the result alone is too large, its document says where
the file is and what its SHA-256 is, and is signed itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from bson.errors import BSONError
from gridfs import GridFSBucket
from gridfs.errors import CorruptGridFile, NoFile

from spooler.errors import UnknownJob
from spooler.model.claim import Claim
from spooler.model.json import Json
from spooler.model.records import report_from_json
from spooler.model.result import Report, Result
from spooler.storage.sqooler.mongodb.layout import MongoLayout

BUCKET = "large"
#: Bytes of a file that are taken into memory: a result is bounded by what its device may return.
LARGEST = 256 * 1024 * 1024


class LargeResults:
    """The files of one server."""

    def __init__(self, layout: MongoLayout) -> None:
        self._database = layout.database("spooler")
        self._bucket = GridFSBucket(self._database, BUCKET)

    def keep(self, claim: Claim, content: bytes) -> None:
        """Write the file of a claim's report.

        Harmless to repeat: the name is the claim's, and a file is complete when it is listed.
        """
        name = file_name(claim)
        if self._database[f"{BUCKET}.files"].find_one({"_id": name}, {"_id": 1}) is None:
            # What a crash has left of an earlier try.
            self._database[f"{BUCKET}.chunks"].delete_many({"files_id": name})
            self._bucket.upload_from_stream_with_id(name, name, content)

    def drop(self, claim: Claim) -> None:
        """Remove the file of a report that came too late."""
        with suppress(NoFile):
            self._bucket.delete(file_name(claim))

    def fetch(self, stored: Mapping[str, Any]) -> Result:
        """Return the result that `keep` has put away; UnknownJob when it is not what was signed."""
        name = stored.get("file")
        try:
            content = self._bucket.open_download_stream(name).read(LARGEST + 1)
            if len(content) > LARGEST:
                raise UnknownJob(
                    f"the file {name!r} of the result has more than {LARGEST} bytes; it is not read"
                )
            if hashlib.sha256(content).hexdigest() != stored.get("sha256"):
                raise UnknownJob(
                    f"the file {name!r} of the result does not match its signature; do not use it"
                )
            result = report_from_json(content).result
        except (NoFile, CorruptGridFile, BSONError):
            result = None
        if result is None:
            raise UnknownJob(f"the file {name!r} of the result is missing or damaged")
        return result


def file_name(claim: Claim) -> str:
    """Return the id of a claim's file: another attempt has another."""
    return f"{claim.job.queue}/{claim.job.id}/{claim.attempt}.{claim.lease.token}"


def detached(jws: str) -> str:
    """Return a JWS without its payload, which is the file."""
    return f"{jws.partition('.')[0]}..{jws.rpartition('.')[2]}" if jws else ""


def pointing(claim: Claim, report: Report, content: bytes) -> tuple[Report, dict[str, Json]]:
    """Return the report without its data, and where that is kept."""
    text = (
        f"The result has {len(content)} bytes, more than one document can hold. It is kept beside "
        f"them; read it with: spooler result {report.job_id} --device {report.device}"
    )
    stored: dict[str, Json] = {
        "bucket": BUCKET,
        "file": file_name(claim),
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return replace(report, status=replace(report.status, reason=text), result=Result()), stored
