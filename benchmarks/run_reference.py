"""The file operations of spooler's folder storage, one job after the other, and nothing else.

`run_reference FOLDER STATE [--fsync] [--signed] [--least]`: the same opens, renames, links, looks
and deletions per job, in the same order, by the same system calls, with documents of about the
same size, of which `--signed` signs the same three. `--fsync` is about the files of the storage;
the daemon's own record, in STATE, is always synced. The audit trail's four lines are appended as
they are, without their chain of hashes. No lease, no thread, no check, no log. The counts in
docs/benchmarks.md show how nearly it is the same.

`--least` does only what sqooler's readers see: the job into running, result and status each
written beside and renamed, the job to finished. No lease, no record, no report: whoever dies in
between loses the job. It shows how fast anything can be that signs and never shows half a file.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import uuid
from typing import Any

from benchmarks.place import DEVICE, JOB
from spooler.signing.keys import PrivateKey, from_sqooler_text

_ID = "@job@"
_NOW = "2026-01-01T00:00:00.000000+00:00"
_HEADER = {"alg": "EdDSA", "kid": "bench", "typ": "JWS", "version": "0.1"}
_RESULT: dict[str, Any] = {
    "backend_name": None,
    "display_name": DEVICE,
    "backend_version": "1.0.0",
    "job_id": _ID,
    "qobj_id": None,
    "success": True,
    "status": "DONE",
    "header": {"echo": JOB},
    "results": [],
}
_STATUS = {
    "job_id": _ID,
    "status": "DONE",
    "detail": "Got your json.; Done in attempt 1.",
    "error_message": "None",
}
_REPORT = {
    "job_id": _ID,
    "queue": DEVICE,
    "device": DEVICE,
    "device_version": "1.0.0",
    "attempt": 1,
    "owner": "host/12345/01234567",
    "digest": "0" * 64,
    "status": {"state": "done", "reason": "", "started_at": _NOW, "finished_at": _NOW},
    "again": False,
    "result": {"data": {"echo": JOB}, "artifacts": []},
}
_PROCESS = uuid.uuid4().hex
_CLAIM = {
    "job_id": _ID,
    "queue": DEVICE,
    "submitted_at": _NOW,
    "digest": "0" * 64,
    "host": "host",
    "pid": 12345,
    "process": _PROCESS,
    "estate": f"/srv/spooler/state/records/{_PROCESS}",
    "attempt": 1,
    "token": _ID[:16],
    "ttl": 30.0,
    "handle": f"{_ID}.1.{_PROCESS}.0123456789abcdef.s1-30000",
    "started": True,
}
#: A line of the audit trail; a job has four.
_LINE = {
    "n": 12345,
    "at": _NOW,
    "who": "host/12345/01234567",
    "what": "job.started",
    "device": DEVICE,
    "job": _ID,
    "attempt": 1,
    "prev": "0" * 64,
}


class Texts:
    """The documents of a job, from templates; signed when there is a key."""

    def __init__(self, key: PrivateKey | None) -> None:
        self._key = key
        self._header = json.dumps(_HEADER)
        compact = json.dumps(_HEADER, separators=(",", ":")).encode()
        self._signed_header = base64.urlsafe_b64encode(compact) + b"."
        self._result, self._status = json.dumps(_RESULT), json.dumps(_STATUS)
        self._report = json.dumps(_REPORT, separators=(",", ":"))
        self._claim = json.dumps(_CLAIM)
        self._line = json.dumps(_LINE, separators=(",", ":")) + "\n"

    def of(self, job_id: str) -> tuple[bytes, bytes, bytes, bytes]:
        """The record, result, report and status."""
        report = self._report.replace(_ID, job_id)
        jws = self._jws(report)
        said = f'"jws": "{jws}"' if jws else f'"report": {json.dumps(report)}'
        kept = f'{{"phase": "report", "device": "{DEVICE}", "claim": {self._claim}, {said}}}'
        brief = f'{{"job_id": "{job_id}", "attempt": 1, "token": "{job_id[:16]}", "jws": "{jws}"}}'
        result, status = self.seen(job_id)
        return kept.encode(), result, brief.encode(), status

    def seen(self, job_id: str) -> tuple[bytes, bytes]:
        """What the submitter reads: result and status."""
        result = self._sealed(self._result.replace(_ID, job_id))
        return result, self._sealed(self._status.replace(_ID, job_id))

    def line(self, job_id: str) -> bytes:
        """A line of the audit trail."""
        return self._line.replace(_ID, job_id).encode()

    def _jws(self, text: str) -> str:
        return "" if self._key is None else self._key.jws(text.encode())

    def _sealed(self, text: str) -> bytes:
        if self._key is None:
            return text.encode()
        signed = self._signed_header + base64.urlsafe_b64encode(text.encode())
        signature = base64.urlsafe_b64encode(self._key.sign(signed)).decode()
        return (
            f'{{"header": {self._header}, "payload": {text}, "signature": "{signature}"}}'.encode()
        )


class Files:
    """System calls, with or without fsync."""

    def __init__(self, *, fsync: bool) -> None:
        self._fsync = fsync

    def write(self, place: str, content: bytes) -> None:
        """A new file."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        handle = os.open(place, flags, 0o666)
        os.write(handle, content)
        if self._fsync:
            os.fsync(handle)
        os.close(handle)

    def settle(self, *folders: str) -> None:
        """Fsync of folders."""
        if self._fsync:
            for folder in folders:
                sync(folder, os.O_DIRECTORY)

    def settle_file(self, place: str) -> None:
        """Fsync of a file that somebody else has written."""
        if self._fsync:
            sync(place)


def sync(place: str, how: int = 0) -> None:
    """Open, fsync, close."""
    handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC | how)
    os.fsync(handle)
    os.close(handle)


def look(place: str) -> None:
    """Whether there is something; what it says is not the point."""
    os.access(place, os.F_OK)


def read(place: str) -> None:
    """Open, read, close."""
    handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    while os.read(handle, 1 << 20):
        pass
    os.close(handle)


class Loop:
    """The steps of a job, in spooler's order."""

    def __init__(self, folder: str, state: str, *, fsync: bool, key: PrivateKey | None) -> None:
        base = f"{folder}/storage"
        self._files, self._own = Files(fsync=fsync), Files(fsync=True)
        self._texts = Texts(key)
        self._claims = f"{base}/spooler/claims/{DEVICE}"
        self._histories = f"{base}/spooler/history/{DEVICE}"
        self._cancels = f"{base}/spooler/cancels/{DEVICE}"
        self._reports = f"{base}/spooler/reports/{DEVICE}"
        self._running = f"{base}/jobs/running"
        self._queue = f"{base}/jobs/queued/{DEVICE}"
        self._finished = f"{base}/jobs/finished/{DEVICE}"
        self._results, self._statuses = f"{base}/results/{DEVICE}", f"{base}/status/{DEVICE}"
        self._records = f"{state}/records/{_PROCESS}/storage"
        self._scratch, self._trail = f"{state}/scratch", f"{state}/audit.jsonl"

    def run(self) -> None:
        """List the queue once, oldest first, and do each job."""
        for folder in (self._claims, self._reports, self._running, self._results, self._records):
            os.makedirs(folder, exist_ok=True)
        with os.scandir(self._queue) as entries:
            waiting = sorted((entry.stat().st_mtime_ns, entry.name) for entry in entries)
        self._lines = os.open(self._trail, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        for _, name in waiting:
            self.do(name.removesuffix(".json"))

    def do(self, job_id: str) -> None:
        """One job."""
        claim = f"{self._claims}/{job_id}.1.{_PROCESS}.{job_id[:16]}"
        self._take(job_id, claim)
        self._start(job_id, claim)
        kept, *documents = self._texts.of(job_id)
        record = f"{self._records}/{job_id[:16]}.json"
        self._keep(record, kept)
        self._end(job_id, claim, documents)
        os.unlink(record)
        self._note(job_id)  # delivered
        self._note(job_id)  # finished
        look(f"{self._scratch}/{job_id}.{job_id[:16]}")

    def _note(self, job_id: str) -> None:
        os.write(self._lines, self._texts.line(job_id))

    def _take(self, job_id: str, claim: str) -> None:
        waiting = f"{self._queue}/{job_id}.json"
        look(f"{self._histories}/{job_id}.json")
        read(waiting)
        look(f"{self._running}/{job_id}.json")
        os.rename(waiting, f"{claim}.c0-30000")
        os.link(f"{claim}.c0-30000", f"{self._running}/{job_id}.json")
        look(f"{self._cancels}/{job_id}.json")
        self._note(job_id)  # claimed

    def _start(self, job_id: str, claim: str) -> None:
        self._files.settle_file(f"{claim}.c0-30000")
        look(f"{claim}.c0-30000")
        os.rename(f"{claim}.c0-30000", f"{claim}.s1-30000")
        look(f"{self._cancels}/{job_id}.json")
        self._files.settle(self._claims, self._queue)
        self._note(job_id)  # started

    def _keep(self, record: str, content: bytes) -> None:
        folder, name = os.path.split(record)
        beside = f"{folder}/.{name}.new.tmp"
        self._own.write(beside, content)
        os.rename(beside, record)
        self._own.settle(folder)

    def _end(self, job_id: str, claim: str, documents: list[bytes]) -> None:
        folders = (self._results, self._reports, self._statuses)
        look(f"{claim}.s1-30000")
        look(f"{self._statuses}/{job_id}.json")
        for folder, content in zip(folders, documents, strict=True):
            self._files.write(f"{folder}/.{job_id}.json.{job_id[:16]}.tmp", content)
        look(f"{self._results}/{job_id}.json")
        self._files.settle(*folders)
        look(f"{claim}.s1-30000")
        os.rename(f"{claim}.s1-30000", f"{claim}.d2-30000")
        self._files.settle(self._claims)
        for folder in folders:
            os.rename(f"{folder}/.{job_id}.json.{job_id[:16]}.tmp", f"{folder}/{job_id}.json")
        for leftover in (self._histories, self._cancels):
            look(f"{leftover}/{job_id}.json")
        self._files.settle(*folders)
        os.unlink(f"{self._running}/{job_id}.json")
        os.rename(f"{claim}.d2-30000", f"{self._finished}/{job_id}.json")


class Least(Loop):
    """The steps of a job that its submitter sees, and no others."""

    def do(self, job_id: str) -> None:
        running = f"{self._running}/{job_id}.json"
        os.rename(f"{self._queue}/{job_id}.json", running)
        read(running)
        result, status = self._texts.seen(job_id)
        for folder, content in ((self._results, result), (self._statuses, status)):
            beside = f"{folder}/.{job_id}.json.tmp"
            self._files.write(beside, content)
            os.rename(beside, f"{folder}/{job_id}.json")
            self._files.settle(folder)
        os.rename(running, f"{self._finished}/{job_id}.json")


if __name__ == "__main__":
    secret = from_sqooler_text(os.environ["PRIVATE_JWK_STR"]) if "--signed" in sys.argv else None
    loop = Least if "--least" in sys.argv else Loop
    loop(sys.argv[1], sys.argv[2], fsync="--fsync" in sys.argv, key=secret).run()
