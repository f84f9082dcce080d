"""A device that somebody announces under another key while a daemon serves it, on each storage."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from spooler.clock import SystemClock
from spooler.errors import BackendUnavailable, KeyRefused
from spooler.model.device import DeviceCard
from spooler.protocols import Backend
from spooler.signing.keys import generate
from spooler.storage import Opening, open_backend
from spooler.testing.bench import DEVICE, QUEUE
from tests.faults.everything import STORAGES
from tests.faults.storages import Storage

CLOCK = SystemClock()
CARD = DeviceCard(DEVICE)


def announce(backend: Backend) -> None:
    assert backend.catalogue is not None
    backend.catalogue.announce(QUEUE, CARD, CLOCK.now())


@pytest.mark.parametrize("storage", STORAGES, ids=lambda each: each.name, indirect=True)
def test_who_is_not_the_announced_one_any_more_is_told(storage: Storage, tmp_path: Path) -> None:
    """The storage is begun anew, with another key, while a daemon of the old one goes on."""
    if not storage.survives:
        pytest.skip("a memory storage is begun anew with its process, and keeps no keys")
    place = tmp_path / "a"
    place.mkdir()
    ours = storage.open(place, CLOCK)
    announce(ours)
    announce(ours)
    storage.drop(place)
    for each in place.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    theirs = open_backend(
        storage.parsed(place), Opening(CLOCK, 4 * 1024 * 1024, generate("another"))
    )
    announce(theirs)
    with suppress(BackendUnavailable):  # a file that was replaced is opened anew the next time
        ours.ping()
    with pytest.raises(KeyRefused, match="announced under the key 'another'"):
        announce(ours)
    announce(theirs)
    storage.drop(place)
    ours.close()
    theirs.close()
