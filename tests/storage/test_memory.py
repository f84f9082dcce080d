"""The memory backend keeps the contract."""

from __future__ import annotations

import pytest

from spooler.model.device import DeviceCard
from spooler.storage.memory import MemoryBackend, MemoryStorage, MemorySubmitter
from spooler.testing.backend_contract import BackendContract
from spooler.testing.bench import DEVICE, Bench
from spooler.testing.clock import ManualClock


class TestMemory(BackendContract):
    @pytest.fixture
    def bench(self) -> Bench:
        storage, clock = MemoryStorage(), ManualClock()
        MemoryBackend(storage, clock).announce(DeviceCard(DEVICE), clock.now())
        return Bench(clock, lambda: MemoryBackend(storage, clock), MemorySubmitter(storage, clock))
