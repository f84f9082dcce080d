"""A folder storage as a bench for the contract suite."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from spooler.model.device import DeviceCard
from spooler.protocols import Backend
from spooler.signing.keys import generate
from spooler.storage.sqooler.client.documents import LocalLoginInformation
from spooler.storage.sqooler.client.local import LocalProviderExtended
from spooler.storage.sqooler.folder.backend import FolderBackend
from spooler.storage.sqooler.submitter import SqoolerSubmitter
from spooler.testing.bench import DEVICE, Bench
from spooler.testing.clock import ManualClock

KEY = generate("lab")


def folder_bench(base: Path, *, sync: bool = False) -> Iterator[Bench]:
    """A bench on the folder `base`; what was opened is closed at the end."""
    clock, opened = ManualClock(), []

    def backend() -> Backend:
        made = FolderBackend(base, clock, signer=KEY, sync=sync)
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
