"""Several storages as one submitter sees them."""

from __future__ import annotations

from typing import Any

import pytest

from spooler.app.submitting import ManyStorages
from spooler.errors import AmbiguousJob, BackendUnavailable, UnknownDevice, UnknownJob
from spooler.model.device import DeviceCard
from spooler.model.state import State
from spooler.storage.memory import MemoryStorage, MemorySubmitter
from spooler.testing.clock import ManualClock


class Away:
    """A storage that nobody reaches."""

    def __getattr__(self, verb: str) -> Any:
        def refuse(*_: object, **__: object) -> None:
            raise BackendUnavailable("the storage is away")

        return refuse


def submitter(name: str, *devices: str) -> MemorySubmitter:
    storage = MemoryStorage(name)
    storage.cards.update({each: DeviceCard(each) for each in devices})
    return MemorySubmitter(storage, ManualClock())


def test_a_storage_that_is_away_keeps_no_job_from_another() -> None:
    away: Any = Away()
    both = ManyStorages({"frb": away, "lab": submitter("lab", "fridge")})
    job = both.submit("fridge", {})
    assert both.status("fridge", job).state is State.QUEUED
    with pytest.raises(BackendUnavailable):
        both.submit("laser", {})  # the one that is away may have it


def test_a_job_whose_answer_was_lost_is_brought_to_no_second_storage() -> None:
    first: Any = submitter("frb", "fridge")
    second = submitter("lab", "fridge")

    def lost(*_: object) -> None:
        raise BackendUnavailable("the answer was lost")

    first.submit = lost
    with pytest.raises(BackendUnavailable):
        ManyStorages({"frb": first, "lab": second}).submit("fridge", {})
    with pytest.raises(UnknownDevice):
        ManyStorages({"frb": submitter("frb"), "lab": submitter("lab")}).submit("fridge", {})


def test_a_job_that_two_storages_know_is_nobodys_until_one_is_named() -> None:
    frb, lab = submitter("frb", "fridge"), submitter("lab", "fridge")
    job = frb.submit("fridge", {})
    lab.submit("fridge", {}, job_id=job)  # whoever may write there can do this
    both = ManyStorages({"frb": frb, "lab": lab})
    for verb in (both.status, both.result, both.verify, both.cancel):
        with pytest.raises(AmbiguousJob, match="--device frb:fridge"):
            verb("fridge", job)
    assert both.status("frb:fridge", job).state is State.QUEUED


def test_a_device_may_have_a_colon_in_its_name() -> None:
    both = ManyStorages({"frb": submitter("frb"), "lab": submitter("lab", "rack:2")})
    for name in ("rack:2", "lab:rack:2"):
        job = both.submit(name, {})
        assert both.status(name, job).state is State.QUEUED
    with pytest.raises(UnknownJob):
        both.status("rack:2", "0" * 24)


def test_devices_of_the_storages_that_answer_are_listed() -> None:
    away: Any = Away()
    told: list[str] = []
    both = ManyStorages({"frb": away, "lab": submitter("lab", "fridge")}, told.append)
    assert [each.name for each in both.devices() + both.devices()] == ["fridge", "fridge"]
    assert len(told) == 1, "what is missing is said, once"
    with pytest.raises(BackendUnavailable):
        ManyStorages({"frb": away}).devices()
