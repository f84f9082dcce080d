"""Several storages as one submitter sees them: a device is where it is announced."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from spooler.errors import AmbiguousJob, BackendUnavailable, UnknownJob
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

    def __init__(
        self, submitters: Mapping[str, Submitter], tell: Callable[[str], None] = lambda _: None
    ) -> None:
        """`tell` hears which storages could not be asked while others could."""
        self._submitters = submitters
        self._tell = tell
        self._told: set[str] = set()

    def submit(self, device: str, payload: JsonObject) -> str:
        submitter, name = self._announcing(device)
        return submitter.submit(name, payload)

    def status(self, device: str, job_id: str) -> Status:
        submitter, name = self._knowing(device, job_id)
        return submitter.status(name, job_id)

    def result(self, device: str, job_id: str) -> Result:
        submitter, name = self._knowing(device, job_id)
        return submitter.result(name, job_id)

    def verify(self, device: str, job_id: str) -> Verification:
        submitter, name = self._knowing(device, job_id)
        return submitter.verify(name, job_id)

    def cancel(self, device: str, job_id: str) -> bool:
        submitter, name = self._knowing(device, job_id)
        return submitter.cancel(name, job_id)

    def request(self, device: str, job_id: str) -> JsonObject:
        submitter, name = self._knowing(device, job_id)
        return submitter.request(name, job_id)

    def devices(self, *, count: bool = False) -> list[DeviceCard]:
        cards, away = list[DeviceCard](), list[BackendUnavailable]()
        for each in self._submitters.values():
            try:
                cards += each.devices(count=count)
            except BackendUnavailable as error:
                away.append(error)
        if len(away) == len(self._submitters):
            raise away[0]
        for trouble in map(str, away):
            if trouble not in self._told:
                self._told.add(trouble)
                self._tell(trouble)
        return cards

    def close(self) -> None:
        for each in self._submitters.values():
            each.close()

    def _of(self, device: str) -> list[tuple[Submitter, str]]:
        """Return the storages that may have a device, and its name there."""
        storage, colon, name = device.partition(":")
        if colon and storage in self._submitters:
            return [(self._submitters[storage], name)]
        return [(each, device) for each in self._submitters.values()]

    def _announcing(self, device: str) -> tuple[Submitter, str]:
        """Return the first storage that announces a device; one that is away is passed by.

        It is looked for before anything is submitted: a storage whose answer was lost may have
        the job, and no second one may get it as well.
        """
        found = self._of(device)
        trouble: BackendUnavailable | None = None
        for submitter, name in found:
            try:
                if any(card.name == name for card in submitter.devices()):
                    return submitter, name
            except BackendUnavailable as error:
                trouble = trouble or error
        if trouble is not None:
            raise trouble
        return found[0]  # it says which devices there are

    def _knowing(self, device: str, job_id: str) -> tuple[Submitter, str]:
        """Return the storage that knows a job; one that is away keeps none from being asked.

        Raises AmbiguousJob where several know it: each is written by other people.
        """
        trouble: BackendUnavailable | UnknownJob | None = None
        found: list[tuple[Submitter, str]] = []
        for submitter, name in self._of(device):
            try:
                submitter.status(name, job_id)
            except (BackendUnavailable, UnknownJob) as error:
                if not isinstance(trouble, BackendUnavailable):
                    trouble = error
            else:
                found.append((submitter, name))
        if len(found) > 1:
            names = [name for name, each in self._submitters.items() if (each, device) in found]
            raise AmbiguousJob(
                f"job {job_id} of device {device} exists in several storages ({', '.join(names)}); "
                f"choose one, as in --device {names[0]}:{device}"
            )
        if found:
            return found[0]
        raise trouble or UnknownJob(f"job {job_id!r} not found on device {device!r}")
