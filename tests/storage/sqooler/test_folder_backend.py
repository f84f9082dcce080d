"""A sqooler folder keeps the contract of a storage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from spooler.model.device import DeviceCard
from spooler.protocols import Backend
from spooler.signing.keys import generate
from spooler.storage.sqooler.documents import LocalLoginInformation
from spooler.storage.sqooler.folder_backend import FolderBackend
from spooler.storage.sqooler.local import LocalProviderExtended
from spooler.storage.sqooler.submitter import SqoolerSubmitter
from spooler.testing.backend_contract import DEVICE, BackendContract, Bench
from spooler.testing.clock import ManualClock


class TestFolder(BackendContract):
    @pytest.fixture(params=[True, False], ids=["fsync", "no-fsync"])
    def bench(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
        clock, base, opened = ManualClock(), tmp_path / "storage", []
        signer = generate("lab")

        def backend() -> Backend:
            made = FolderBackend(base, clock, signer=signer, sync=request.param)
            opened.append(made)
            return made

        backend().announce(DeviceCard(DEVICE), clock.now())
        login = LocalLoginInformation(base_path=str(base))
        submitter = SqoolerSubmitter(LocalProviderExtended(login, "local"))
        ages = iter(range(1000))

        def age() -> None:
            """Make the youngest job file older than the next: files may share a clock tick."""
            queue = base / "jobs" / "queued" / DEVICE
            youngest = max(queue.iterdir(), key=lambda path: path.stat().st_mtime_ns)
            when = 1_000_000_000 + next(ages)
            os.utime(youngest, (when, when))

        yield Bench(clock, backend, submitter, age)
        for each in opened:
            each.close()
