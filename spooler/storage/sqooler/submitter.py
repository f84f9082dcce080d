"""The submitter's view of a sqooler storage, over the verbs that every such storage has."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Protocol

from spooler.durable import unavailable
from spooler.errors import NotCancellable, UnknownDevice, UnknownJob
from spooler.model.artifact import Artifact
from spooler.model.device import DeviceCard
from spooler.model.json import JsonObject
from spooler.model.result import Result
from spooler.model.state import State
from spooler.model.status import Status
from spooler.model.storage import Verification
from spooler.signing.sqooler_form import is_signed, payload_of, verify_document
from spooler.storage.sqooler.rendering import CANCELLED, RECEIVED

_CONFIGS, _KEYS = "backends/configs", "backends/public_keys"


class Documents(Protocol):
    """The verbs of a sqooler storage that a submitter needs (StorageCore has them)."""

    name: str

    def upload(self, content_dict: Mapping[str, Any], storage_path: str, job_id: str) -> None:
        """Create a document; FileExistsError when there is one."""

    def get(self, storage_path: str, job_id: str) -> dict[str, Any]:
        """Read a document; FileNotFoundError when there is none."""

    def get_file_queue(self, storage_path: str) -> list[str]:
        """The ids of the documents at a path."""


class SqoolerSubmitter:
    """Submits and asks, as sqooler's own client does, and verifies without being asked twice."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def submit(self, device: str, payload: JsonObject) -> str:
        """Queue a job: the first status goes first, so that no worker can be faster than it."""
        with self._translated():
            if device not in self._documents.get_file_queue(_CONFIGS):
                known = ", ".join(sorted(self._documents.get_file_queue(_CONFIGS))) or "none yet"
                raise UnknownDevice(f"no device {device!r} is announced; known are: {known}")
            job_id = uuid.uuid4().hex[:24]
            first = {
                "job_id": job_id,
                "status": "INITIALIZING",
                "detail": RECEIVED,
                "error_message": "None",
            }
            self._documents.upload(first, f"status/{device}", job_id)
            self._documents.upload(payload, f"jobs/queued/{device}", job_id)
        return job_id

    def status(self, device: str, job_id: str) -> Status:
        content = self._read(f"status/{device}", job_id)
        if content is None:
            raise UnknownJob(f"no job {job_id!r} is known on device {device!r}")
        said = payload_of(content)
        error, detail = str(said.get("error_message", "")), str(said.get("detail", ""))
        match said.get("status"):
            case "DONE":
                return Status(State.DONE, _without_greeting(detail))
            case "ERROR" if error.startswith(f"{CANCELLED}: "):
                return Status(State.CANCELLED, error.removeprefix(f"{CANCELLED}: "))
            case "ERROR":
                return Status(State.ERROR, error.removeprefix("None; "))
        with self._translated():
            waiting = self._waits(device, job_id)
        if self._read(_cancels(device), job_id) is not None:
            detail = "its cancellation has been asked for"
        return Status(State.QUEUED if waiting else State.RUNNING, _without_greeting(detail))

    def result(self, device: str, job_id: str) -> Result:
        said = payload_of(self._result(device, job_id))
        header = dict(said.get("header") or {})
        artifacts = tuple(Artifact(**each) for each in header.pop("artifacts", []))
        data = {**header, "results": said["results"]} if said.get("results") else header
        return Result(data, artifacts)

    def verify(self, device: str, job_id: str) -> Verification:
        """Check result and configuration against the published key that the result names."""
        document = self._result(device, job_id)
        if not is_signed(document):
            return Verification(ok=False, detail="the result is not signed")
        kid = str(document["header"].get("kid"))
        key = self._read(_KEYS, kid)
        if key is None:
            return Verification(ok=False, detail=f"the key {kid!r} is not published", kid=kid)
        if not verify_document(document, key):
            return Verification(
                ok=False, detail=f"the signature is not one of the key {kid!r}", kid=kid
            )
        if payload_of(document).get("job_id") != job_id:
            return Verification(
                ok=False, detail="the signed result belongs to another job", kid=kid
            )
        return Verification(
            ok=True, detail=f"signed by the key {kid!r} of device {device!r}", kid=kid
        )

    def cancel(self, device: str, job_id: str) -> bool:
        """Write the wish down; the daemon answers it, signed, when it claims or renews."""
        state = self.status(device, job_id).state
        if state.ended:
            raise NotCancellable(f"job {job_id} has already ended: {state}")
        with self._translated():
            with suppress(FileExistsError):  # it has been wished for before
                self._documents.upload({"job_id": job_id}, _cancels(device), job_id)
            return self._waits(device, job_id)

    def devices(self) -> list[DeviceCard]:
        found = []
        with self._translated():
            names = sorted(self._documents.get_file_queue(_CONFIGS))
        for name in names:
            content = self._read(_CONFIGS, name)
            if content is not None:
                found.append(_card(name, payload_of(content)))
        return found

    def close(self) -> None:
        return

    def _waits(self, device: str, job_id: str) -> bool:
        try:
            self._documents.get(f"jobs/queued/{device}", job_id)
        except FileNotFoundError:
            return False
        except ValueError:
            return True  # it is there, and it is no JSON
        return True

    def _result(self, device: str, job_id: str) -> dict[str, Any]:
        content = self._read(f"results/{device}", job_id)
        if content is None:
            raise UnknownJob(f"job {job_id} on device {device!r} has no result (yet)")
        return content

    def _read(self, path: str, document_id: str) -> dict[str, Any] | None:
        with self._translated():
            try:
                return self._documents.get(path, document_id)
            except FileNotFoundError:
                return None
            except json.JSONDecodeError:
                return None
            except ValueError as error:  # a name that no document can have
                raise UnknownJob(str(error)) from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unavailable(error, error.filename or self._documents.name) from error


def _cancels(device: str) -> str:
    return f"spooler/cancels/{device}"


def _without_greeting(detail: str) -> str:
    return detail.removeprefix(RECEIVED).removeprefix("; ")


def _card(name: str, said: dict[str, Any]) -> DeviceCard:
    """A card from a stored configuration, with whatever fields there are."""
    seen = said.get("last_queue_check")
    try:
        at = datetime.fromisoformat(str(seen)) if seen else None
    except ValueError:
        at = None
    if at is not None and at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    pending = said.get("pending_jobs")
    return DeviceCard(
        name=name,
        version=str(said.get("version", "")),
        description=str(said.get("description", "")),
        simulator=bool(said.get("simulator")),
        properties=said,
        pending=pending if isinstance(pending, int) else None,
        note=str(said.get("status_msg") or ""),
        last_seen=at,
    )
