"""Several storages as one submitter sees them: a device is where it is announced."""

from __future__ import annotations

from collections.abc import Mapping

from spooler.errors import BackendUnavailable, UnknownDevice, UnknownJob
from spooler.model.device import DeviceCard
from spooler.model.json import JsonObject
from spooler.model.result import Result
from spooler.model.status import Status
from spooler.model.storage import Verification
from spooler.protocols import Submitter


class ManyStorages:
    """The submitters of several storages, asked in the order of the settings.

    A device may be written `storage:device`, where two storages have one of the same name.
    """

    def __init__(self, submitters: Mapping[str, Submitter]) -> None:
        self._submitters = submitters

    def submit(self, device: str, payload: JsonObject) -> str:
        missing: UnknownDevice | None = None
        for submitter, name in self._of(device):
            try:
                return submitter.submit(name, payload)
            except UnknownDevice as error:
                missing = missing or error
        raise missing or UnknownDevice(f"no device {device!r} is announced")

    def status(self, device: str, job_id: str) -> Status:
        return self._knowing(device, job_id).status(_bare(device), job_id)

    def result(self, device: str, job_id: str) -> Result:
        return self._knowing(device, job_id).result(_bare(device), job_id)

    def verify(self, device: str, job_id: str) -> Verification:
        return self._knowing(device, job_id).verify(_bare(device), job_id)

    def cancel(self, device: str, job_id: str) -> bool:
        return self._knowing(device, job_id).cancel(_bare(device), job_id)

    def devices(self) -> list[DeviceCard]:
        return [card for each in self._submitters.values() for card in each.devices()]

    def close(self) -> None:
        for each in self._submitters.values():
            each.close()

    def _of(self, device: str) -> list[tuple[Submitter, str]]:
        """The storages that may have a device, and its name there."""
        storage, colon, name = device.partition(":")
        if colon and storage in self._submitters:
            return [(self._submitters[storage], name)]
        return [(each, device) for each in self._submitters.values()]

    def _knowing(self, device: str, job_id: str) -> Submitter:
        """The storage that knows a job; one that is away is no reason not to ask the others."""
        trouble: BackendUnavailable | UnknownJob | None = None
        for submitter, name in self._of(device):
            try:
                submitter.status(name, job_id)
            except (BackendUnavailable, UnknownJob) as error:
                if not isinstance(trouble, BackendUnavailable):
                    trouble = error
            else:
                return submitter
        raise trouble or UnknownJob(f"no job {job_id!r} is known on device {device!r}")


def _bare(device: str) -> str:
    return device.rpartition(":")[2]
