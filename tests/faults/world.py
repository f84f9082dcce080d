"""One storage, one submitter and the states of some daemons: what the kill points are tried in."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from spooler.clock import SystemClock
from spooler.daemon.claims.records import Phase, Record
from spooler.errors import UnknownJob
from spooler.protocols import Submitter
from spooler.settings import Settings
from spooler.signing.keys import write_file
from spooler.testing.bench import DEVICE
from tests.faults.nodes import records_in
from tests.faults.points import At
from tests.faults.storages import KEY, SHELF, Storage

#: Steps that show how far a claim has come, as patterns of point labels; a storage may have more.
MARKS = {
    "claimed": r"^claim$",
    "started": r"^start$",
    "kept": r"^rename .*/records/.*tmp -> .*/records/.*json$",
    "acked": r"^ack$",
}


class Shown(NamedTuple):
    """What the submitter sees: the state, and the value of the result."""

    state: str
    value: str
    verified: bool


class World:
    """A storage in a folder of its own, beside key, book and states."""

    def __init__(self, storage: Storage, like: World | None = None) -> None:
        self.storage = storage
        self.temporary = tempfile.TemporaryDirectory(prefix="spooler-faults.", dir=SHELF)
        self.folder = Path(self.temporary.name) / "lab"
        self.folder.mkdir()
        #: What a test writes down lies outside of what is traced.
        self.notes = Path(self.temporary.name) / "notes"
        self.notes.mkdir()
        self.marks = {**MARKS, **storage.marks}
        self.job = ""
        write_file(KEY, self.folder / "key.jwk")
        self._copied = like is not None
        self.site = self.folder / (like.site.name if like else f"k{uuid.uuid4().hex[:10]}")
        if like is None:
            self.site.mkdir()
            storage.announce(self.site, SystemClock())
        else:
            storage.copy(like.site, self.site)
            for host in like.folder.glob("host-*"):
                shutil.copytree(host, self.folder / host.name)

    def close(self) -> None:
        if not self._copied:
            self.storage.drop(self.site)
        self.temporary.cleanup()

    # --- settings ---------------------------------------------------------------------------

    def settings(self, name: str, act: str, rerun: str) -> Settings:
        """Settings of the daemon `name`, quicker than a settings file may ask for."""
        made = Settings.model_validate(
            {
                "state": self.state(name),
                "storages": {"lab": self.storage.settings(self.site)},
                "signing": {"key": self.folder / "key.jwk"},
                "daemon": {"grace": 0.0},
                "devices": {
                    DEVICE: {
                        "handler": "tests.faults.handlers:Acting",
                        "options": {"book": str(self.folder / "book"), "act": act},
                        "isolation": "thread",
                        "rerun": rerun,
                        "max_attempts": 3,
                    }
                },
            }
        )
        quick = {"lease": 0.3, "recovery_interval": 0.02, "poll_interval": 0.02}
        return made.model_copy(update={"daemon": made.daemon.model_copy(update=quick)})

    def state(self, name: str) -> Path:
        """The state folder of a daemon; "far" ones cannot see the others' disks."""
        host = "host-2" if name.startswith("far") else "host-1"
        return self.folder / host / f"state-{name}"

    def trace_finer(self, at: At) -> Any:
        """Have `at` called at what the storage calls a step, for what is opened within."""
        return self.storage.finer(at)

    # --- looking ----------------------------------------------------------------------------

    @contextmanager
    def submitter(self) -> Iterator[Submitter]:
        """One for each use: no connection is to live on in a forked process."""
        made = self.storage.submitter(self.site, SystemClock())
        try:
            yield made
        finally:
            made.close()

    def submit(self) -> str:
        with self.submitter() as submitter:
            self.job = submitter.submit(DEVICE, {"value": 1})
        return self.job

    def cancel(self, job: str) -> None:
        with self.submitter() as submitter:
            submitter.cancel(DEVICE, job)

    def executions(self) -> list[list[str]]:
        """Job, attempt and value of each execution."""
        try:
            lines = (self.folder / "book").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line.split() for line in lines if line.startswith(self.job)]

    def records(self, phase: Phase) -> dict[str, Record]:
        """The reports on the disks of all daemons, by token."""
        found: dict[str, Record] = {}
        for state in self.folder.glob("host-*/state-*"):
            found |= records_in(state, phase)
        return found

    def view(self) -> Shown:
        with self.submitter() as submitter:
            state = submitter.status(DEVICE, self.job).state
            try:
                value = str(submitter.result(DEVICE, self.job).data["value"])
            except UnknownJob:
                return Shown(state, "", verified=False)
            return Shown(state, value, submitter.verify(DEVICE, self.job).ok)

    def broken(self, *, ended: bool) -> list[str]:
        """What a reader would stumble over, at this moment."""
        return self.storage.look(self.site, self.job, ended)

    def leftovers(self) -> list[str]:
        """What of ours has no purpose once the job has ended and no daemon runs."""
        found = [
            str(path.relative_to(self.folder))
            for path in self.folder.glob("host-*/state-*/**/*")
            if path.is_file() and path.name != "lock"
        ]
        return found + self.storage.left(self.site)

    def over(self) -> bool:
        """Whether the job has ended."""
        return self.view().state in {"done", "error", "cancelled"}


#: What is done in a forked process.
Body = Callable[[], int]
