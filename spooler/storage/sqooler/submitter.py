"""The submitter's view of a sqooler storage, over the verbs that every such storage has."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol, TypeAlias

from spooler.durable import unavailable
from spooler.errors import (
    BackendUnavailable,
    NotCancellable,
    PayloadInvalid,
    UnknownDevice,
    UnknownJob,
)
from spooler.model.device import DeviceCard, seen
from spooler.model.json import JsonObject
from spooler.model.records import report_from_json
from spooler.model.result import Result
from spooler.model.state import State
from spooler.model.status import Status
from spooler.model.storage import Verification
from spooler.signing.jws import b64decode
from spooler.signing.sqooler_form import is_signed, payload_of, verify_document
from spooler.storage.sqooler.client.core import NotADocument
from spooler.storage.sqooler.envelope import take_out
from spooler.storage.sqooler.rendering import CANCELLED, RECEIVED

_CONFIGS, _KEYS = "backends/configs", "backends/public_keys"
#: Which keys a device had before: written and signed by the daemon (Renderer.succession).
_SUCCESSIONS = "spooler/keys"

#: When a job started and when it finished, as far as that is known.
Times: TypeAlias = tuple[datetime | None, datetime | None]


class Documents(Protocol):
    """The verbs of a sqooler storage that a submitter needs (StorageCore has them)."""

    name: str
    #: Whether a document about a device or a key has that name as its id.
    ids_are_names: ClassVar[bool]

    def upload(self, content_dict: Mapping[str, Any], storage_path: str, job_id: str) -> None:
        """Create a document; FileExistsError when there is one."""

    def get(self, storage_path: str, job_id: str) -> dict[str, Any]:
        """Read a document; FileNotFoundError when there is none."""

    def delete(self, storage_path: str, job_id: str) -> None:
        """Delete a document; FileNotFoundError when there is none."""

    def exists(self, storage_path: str, job_id: str) -> bool:
        """Return whether there is a document, readable or not."""

    def ids(self, storage_path: str) -> list[str]:
        """Return the ids of the documents at a path."""

    def namesakes(self, storage_path: str, field: str, value: str) -> list[str]:
        """The ids of the documents whose `field` says `value`; ValueError when far too many do."""

    def close(self) -> None:
        """Let go of connections; harmless to repeat."""


class SqoolerSubmitter:
    """Submits and asks, as sqooler's own client does, and verifies without being asked twice."""

    def __init__(self, documents: Documents) -> None:
        self.documents = documents

    def submit(self, device: str, payload: JsonObject) -> str:
        """Queue a job: the first status goes first, so that no worker can be faster than it."""
        self._demand_announced(device)
        job_id = uuid.uuid4().hex[:24]
        first = {
            "job_id": job_id,
            "status": "INITIALIZING",
            "detail": RECEIVED,
            "error_message": "None",
        }
        with self._translated():
            self.documents.upload(first, f"status/{device}", job_id)
            try:
                self.documents.upload(payload, f"jobs/queued/{device}", job_id)
            except BackendUnavailable as error:
                raise BackendUnavailable(
                    f"{error}; the job may be queued all the same, look with: "
                    f"spooler status {job_id} --device {device}"
                ) from error
            except ValueError as error:
                self.documents.delete(f"status/{device}", job_id)
                raise PayloadInvalid(str(error)) from error
        return job_id

    def _demand_announced(self, device: str) -> None:
        try:
            with self._translated():
                announced = self.documents.namesakes(_CONFIGS, "display_name", device)
        except ValueError:  # a name that no device can have
            announced = []
        if not announced:
            known = ", ".join(sorted(card.name for card in self.devices()))
            way_out = (
                f"announced devices: {known}" if known else "start its daemon first: spooler run"
            )
            raise UnknownDevice(f"device {device!r} is not announced; {way_out}")

    def status(self, device: str, job_id: str) -> Status:
        content = self._read(f"status/{device}", job_id)
        if content is None:
            raise UnknownJob(f"job {job_id!r} not found on device {device!r}")
        said = payload_of(content)
        error, detail = str(said.get("error_message", "")), str(said.get("detail", ""))
        ended: Status | None = None
        match said.get("status"):
            case "DONE":
                ended = Status(State.DONE, _without_greeting(detail))
            case "ERROR" if error.startswith(f"{CANCELLED}: "):
                ended = Status(State.CANCELLED, error.removeprefix(f"{CANCELLED}: "))
            case "ERROR":
                ended = Status(State.ERROR, error.removeprefix("None; "))
        if ended is not None:
            try:
                started, finished = self._times(device, job_id)
            except (BackendUnavailable, OSError, ValueError):  # not readable for everyone
                return ended
            return replace(ended, started_at=started, finished_at=finished)
        with self._translated():
            waiting, withdrawn = self._stands(device, job_id)
        if withdrawn:
            detail = "cancellation requested"
        return Status(State.QUEUED if waiting else State.RUNNING, _without_greeting(detail))

    def result(self, device: str, job_id: str) -> Result:
        said = self._said(device, job_id)
        try:
            data, artifacts = take_out(said.get("header") or {}, said.get("results"))
        except (TypeError, ValueError, AttributeError):
            raise UnknownJob(
                f"the result of job {job_id} on device {device!r} is malformed; another program "
                "has written it"
            ) from None
        return Result(data, tuple(artifacts))

    def verify(self, device: str, job_id: str) -> Verification:
        """Check a result with the key that the device is announced under, or a former one of it.

        Whoever may write the configuration may announce another key: pin the kid that you know.
        """
        document = self._result(device, job_id)
        if not is_signed(document) or not isinstance(document["header"], Mapping):
            return Verification(ok=False, detail="the result is not signed")
        kid = str(document["header"].get("kid"))
        announced = self._announced_keys(device)
        if len(announced) > 1:
            kids = ", ".join(sorted({repr(str(key["kid"])) for key in announced}))
            detail = (
                f"device {device!r} is announced under {len(announced)} different keys ({kids}), "
                "at least one of them is not the lab's; ask the lab to remove it"
            )
            return Verification(ok=False, detail=detail, kid=kid)
        key = self._keys_by_kid(device, announced).get(kid)
        if key is None:
            detail = f"device {device!r} is not announced under the key {kid!r}"
            return Verification(ok=False, detail=detail, kid=kid)
        if not _made_by(key, document):
            detail = f"the signature does not match the key {kid!r}"
            return Verification(ok=False, detail=detail, kid=kid)
        if misplaced := _misplaced(payload_of(document), device, job_id):
            return Verification(ok=False, detail=misplaced, kid=kid)
        return Verification(
            ok=True, detail=f"signed by the key {kid!r} of device {device!r}", kid=kid
        )

    def _announced_keys(self, device: str) -> list[dict[str, Any]]:
        """Return the different public keys that have signed a configuration of the device."""
        found: dict[str, dict[str, Any]] = {}
        for config in self._about(_CONFIGS, "display_name", device):
            kid = payload_of(config).get("kid")
            for key in self._about(_KEYS, "kid", kid) if isinstance(kid, str) else ():
                if _made_by(key, config):
                    found[str(key["x"]).rstrip("=")] = key
        return list(found.values())

    def _keys_by_kid(
        self, device: str, announced: list[dict[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        """What a device signs with, and has signed with: the announced key vouches for those."""
        keys = {str(key["kid"]): key for key in announced}
        for succession in self._about(_SUCCESSIONS, "device", device):
            if any(_made_by(key, succession) for key in announced):
                for former in _former_keys(payload_of(succession)):
                    keys.setdefault(former["kid"], former)
        return keys

    def cancel(self, device: str, job_id: str) -> bool:
        """Write the wish down; the daemon answers it, signed, when it claims or renews."""
        state = self.status(device, job_id).state
        if state.ended:
            raise NotCancellable(f"job {job_id} has already ended: {state}")
        with self._translated():
            return self._withdraw(device, job_id)

    def request(self, device: str, job_id: str) -> JsonObject:
        self.status(device, job_id)  # running and failed jobs of all devices lie together
        own = (f"jobs/queued/{device}", f"jobs/finished/{device}")
        for place in (*own, "jobs/running", "jobs/deleted"):
            try:
                with self._translated():
                    return self.documents.get(place, job_id)
            except FileNotFoundError:
                continue
            except NotADocument as error:
                reason = f"the request of job {job_id} cannot be used: {error}"
                raise UnknownJob(reason) from None
        raise UnknownJob(f"the request of job {job_id} is no longer stored; submit its file again")

    def devices(self, *, count: bool = False) -> list[DeviceCard]:
        """By name; of two configurations of one name a signed one counts."""
        with self._translated():
            ids = self.documents.ids(_CONFIGS)
        found: dict[str, tuple[bool, DeviceCard]] = {}
        for document_id in ids:
            content = self._read(_CONFIGS, document_id)
            if content is None:
                continue
            said = payload_of(content)
            name = str(said.get("display_name") or document_id)
            if self.documents.ids_are_names and name != document_id:
                continue  # somebody's card of a device that has another place
            if name not in found or (is_signed(content) and not found[name][0]):
                found[name] = is_signed(content), _card(name, said)
        cards = [found[name][1] for name in sorted(found)]
        return [self._counted(card) for card in cards] if count else cards

    def _counted(self, card: DeviceCard) -> DeviceCard:
        """The card with what waits now; what was announced, where that may not be looked at."""
        try:
            with self._translated():
                return replace(card, pending=self._waiting(card.name))
        except (BackendUnavailable, ValueError):
            return card

    def close(self) -> None:
        self.documents.close()

    # What a kind of storage may do in its own way.

    def _stands(self, device: str, job_id: str) -> tuple[bool, bool]:
        """Of a job that has not ended: whether it waits, and whether it is withdrawn."""
        waits = self.documents.exists(f"jobs/queued/{device}", job_id)
        return waits, self.documents.exists(f"spooler/cancels/{device}", job_id)

    def _waiting(self, device: str) -> int:
        """Return how many jobs wait."""
        return len(self.documents.ids(f"jobs/queued/{device}"))

    def _withdraw(self, device: str, job_id: str) -> bool:
        """Write down that a job is withdrawn; whether it still waits."""
        with suppress(FileExistsError):  # it has been wished for before
            self.documents.upload({"job_id": job_id}, f"spooler/cancels/{device}", job_id)
        return self.documents.exists(f"jobs/queued/{device}", job_id)

    def _times(self, device: str, job_id: str) -> Times:
        """Return when an ended job started and finished: what is kept with its report says so."""
        return times_in(self.documents.get(f"spooler/reports/{device}", job_id))

    # The documents.

    def _about(self, path: str, field: str, value: str) -> list[dict[str, Any]]:
        """Return the documents whose `field` says `value`, and whose place does not say another."""
        with self._translated():
            try:
                ids = self.documents.namesakes(path, field, value)
            except ValueError:  # a name that nothing can have, or more documents than can be right
                return []
        found = (self._read(path, each) for each in ids)
        return [each for each in found if each is not None and payload_of(each).get(field) == value]

    def _said(self, device: str, job_id: str) -> dict[str, Any]:
        """Return what the result of a job says, which is about that job and no other."""
        said = payload_of(self._result(device, job_id))
        if misplaced := _misplaced(said, device, job_id):
            raise UnknownJob(f"job {job_id!r} of device {device!r} has no result: {misplaced}")
        return said

    def _result(self, device: str, job_id: str) -> dict[str, Any]:
        try:
            with self._translated():
                return self.documents.get(f"results/{device}", job_id)
        except FileNotFoundError:
            raise UnknownJob(f"job {job_id} on device {device!r} has no result (yet)") from None
        except ValueError as error:  # unreadable, or a name that no document can have
            raise UnknownJob(str(error)) from None

    def _read(self, path: str, document_id: str) -> dict[str, Any] | None:
        with self._translated():
            try:
                return self.documents.get(path, document_id)
            except FileNotFoundError:
                return None
            except NotADocument:
                return None
            except ValueError as error:  # a name that no document can have
                raise UnknownJob(str(error)) from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise unavailable(error, error.filename or self.documents.name) from error


def _misplaced(said: dict[str, Any], device: str, job_id: str) -> str:
    """What is wrong with a result that is about another job, or another device, than its place."""
    names = str(said.get("display_name")), str(said.get("job_id"))
    if names == (device, job_id):
        return ""
    return f"the stored result belongs to job {names[1]!r} of device {names[0]!r}"


def _made_by(key: dict[str, Any], document: dict[str, Any]) -> bool:
    """Return whether a document is signed by a published key; what is no key has signed nothing."""
    try:
        return verify_document(document, key)
    except ValueError:
        return False


def _former_keys(said: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the keys that a succession names; none when it has not the form of one."""
    try:
        return [
            {"x": str(each["x"]), "key_ops": "verify", "kid": str(each["kid"])}
            for each in said["former"]
        ]
    except (KeyError, TypeError):
        return []


def times_in(said: Mapping[str, Any]) -> Times:
    """Return when a job started and finished, from what was kept with its report."""
    if "started_at" in said:
        return _moment(said["started_at"]), _moment(said.get("finished_at"))
    try:  # kept by spooler before it wrote the times beside the signature
        status = report_from_json(b64decode(str(said["jws"]).split(".")[1])).status
    except (ValueError, KeyError, TypeError, IndexError):
        return None, None
    return status.started_at, status.finished_at


def _moment(value: Any) -> datetime | None:
    """Return a moment that a storage has kept; others may have written there."""
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _without_greeting(detail: str) -> str:
    return detail.removeprefix(RECEIVED).removeprefix("; ")


def _card(name: str, said: dict[str, Any]) -> DeviceCard:
    """Return a card from a stored configuration, with whatever fields there are."""
    pending = said.get("pending_jobs")
    return DeviceCard(
        name=name,
        version=str(said.get("version", "")),
        description=str(said.get("description", "")),
        simulator=bool(said.get("simulator")),
        properties=said,
        pending=pending if isinstance(pending, int) else None,
        note=str(said.get("status_msg") or ""),
        last_seen=seen(_moment(said.get("last_queue_check"))),
    )
