"""A folder storage as a bench for the contract suite."""

from __future__ import annotations

import hashlib
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
from spooler.testing.bench import DEVICE, QUEUE, Bench
from spooler.testing.clock import ManualClock

KEY = generate("lab")


def folder_bench(base: Path, *, sync: bool = False) -> Iterator[Bench]:
    """A bench on the folder `base`; what was opened is closed at the end."""
    clock, opened = ManualClock(), []

    def backend() -> Backend:
        made = FolderBackend(base, clock, signer=KEY, sync=sync)
        opened.append(made)
        return made

    announcer = FolderBackend(base, clock, signer=KEY, sync=sync)
    announcer.catalogue.announce(QUEUE, DeviceCard(DEVICE), clock.now())
    login = LocalLoginInformation(base_path=str(base))
    submitter = SqoolerSubmitter(LocalProviderExtended(login, "local"))
    ages = iter(range(1000))

    def age() -> None:
        """Make the youngest job file older than the next: files may share a clock tick."""
        queue = base / "jobs" / "queued" / DEVICE
        youngest = max(queue.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        when = 1_000_000_000 + next(ages)
        os.utime(youngest, (when, when))

    def job_file(job_id: str) -> Path:
        """The job file, waiting or claimed."""
        queued = base / "jobs" / "queued" / DEVICE / f"{job_id}.json"
        claims = (base / "spooler" / "claims" / DEVICE).glob(f"{job_id}.*")
        return queued if queued.exists() else next(claims)

    def digest(job_id: str) -> str:
        return hashlib.sha256(job_file(job_id).read_bytes()).hexdigest()

    yield Bench(
        clock,
        backend,
        submitter,
        age,
        delete=lambda job_id: job_file(job_id).unlink(),
        digest=digest,
    )
    for each in opened:
        each.close()
