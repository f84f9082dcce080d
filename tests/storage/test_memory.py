"""The memory backend keeps the contract."""

from __future__ import annotations

import pytest

from spooler.model.device import DeviceCard
from spooler.storage.memory import MemoryBackend, MemoryStorage, MemorySubmitter
from spooler.testing.backend_contract import BackendContract
from spooler.testing.bench import DEVICE, QUEUE, Bench
from spooler.testing.clock import ManualClock


def memory_bench() -> Bench:
    storage, clock = MemoryStorage(), ManualClock()
    MemoryBackend(storage, clock).catalogue.announce(QUEUE, DeviceCard(DEVICE), clock.now())
    submitter = MemorySubmitter(storage, clock)

    def submit_as(job_id: str, payload: object) -> None:
        submitter.submit(DEVICE, payload, job_id=job_id)  # type: ignore[arg-type]

    def delete(job_id: str) -> None:
        del storage.entries[DEVICE, job_id]

    return Bench(
        clock,
        lambda: MemoryBackend(storage, clock),
        submitter,
        submit_as=submit_as,
        delete=delete,
    )


class TestMemory(BackendContract):
    @pytest.fixture
    def bench(self) -> Bench:
        return memory_bench()
