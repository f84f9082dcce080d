"""One storage, one submitter and the states of some daemons: what the kill points are tried in.

A storage of another kind joins by deriving from `World`: how its settings look, whether its
documents are whole, and where a job can be.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from spooler.app import open_submitter
from spooler.errors import UnknownJob
from spooler.model.state import State
from spooler.protocols import Submitter
from spooler.settings import Settings
from spooler.signing.keys import generate, write_file
from spooler.storage.sqooler.folder.watch import FolderWatch
from tests.faults.points import Point, TracedOs, install

At = Callable[[Point, Callable[[], Any]], None]

DEVICE = "spins"
KEY = generate("lab")
#: Kept in memory where that is possible: a kill needs no real disk.
SHELF = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108


def client_of(folder: Path) -> Any:
    """The public sqooler package's client on a folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sqooler.schemes import LocalLoginInformation
        from sqooler.storage_providers.local import LocalProviderExtended
    return LocalProviderExtended(LocalLoginInformation(base_path=str(folder)), "lab")


class World:
    """A storage in a folder of its own. `folder` also holds key, book and states."""

    #: Steps that show how far a claim has come, as patterns of point labels.
    marks: ClassVar[dict[str, str]] = {
        "claimed": r"^rename .*queued.* -> .*claims.*\.c$",
        "started": r"^rename .*claims.*\.c -> .*claims.*\.s$",
        "kept": r"^rename .*outbox/\..* -> .*outbox/",
        "committed": r"^rename .*claims.* -> .*claims.*\.[de]$",
    }

    def __init__(self, like: World | None = None, *, sync: bool = True) -> None:
        self.temporary = tempfile.TemporaryDirectory(prefix="spooler-faults.", dir=SHELF)
        self.folder = Path(self.temporary.name) / "lab"
        self.folder.mkdir()
        #: What a test writes down lies outside of what is traced.
        self.notes = Path(self.temporary.name) / "notes"
        self.notes.mkdir()
        self.storage = self.folder / "storage"
        self.sync = sync
        self.job = ""
        write_file(KEY, self.folder / "key.jwk")
        if like is None:
            self._announced()
        else:
            self._copy(like)
            for source in like.folder.glob("state-*"):
                shutil.copytree(source, self.folder / source.name)

    def close(self) -> None:
        self.temporary.cleanup()

    def _copy(self, like: World) -> None:
        shutil.copytree(like.storage, self.storage)

    def _announced(self) -> None:
        """A device that an earlier daemon has announced, so that jobs can be submitted."""
        configs = self.storage / "backends" / "configs"
        configs.mkdir(parents=True)
        (configs / f"{DEVICE}.json").write_text("{}")

    # --- settings ---------------------------------------------------------------------------

    def settings(self, name: str, act: str, rerun: str) -> Settings:
        """Settings of the daemon `name`, quicker than a settings file may ask for."""
        made = Settings.model_validate(
            {
                "state": self.state(name),
                "storage": self.storage_settings(),
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

    def storage_settings(self) -> dict[str, Any]:
        return {"type": "sqooler-local", "path": self.storage, "name": "lab", "fsync": self.sync}

    def submitter(self) -> Submitter:
        return open_submitter(self.settings("submitter", "done", "never"))

    def state(self, name: str) -> Path:
        return self.folder / f"state-{name}"

    def quicken(self) -> None:
        """Take out, in a daemon's process, what waits and changes nothing."""
        # Closing inotify takes half a second after a rename; the process ends in a moment.
        FolderWatch.close = lambda _: None  # type: ignore[method-assign]

    def trace(self, at: At, *, looks: bool) -> TracedOs:
        """Have `at` called at each step of this process from now on."""
        return install(str(self.folder), at, looks=looks)

    def after_death(self) -> None:
        """What the storage does by itself when a daemon has died."""

    # --- looking ----------------------------------------------------------------------------

    def submit(self) -> str:
        self.job = self.submitter().submit(DEVICE, {"value": 1})
        return self.job

    def executions(self) -> list[list[str]]:
        """Job, attempt and value of each execution."""
        try:
            lines = (self.folder / "book").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line.split() for line in lines]

    def kept(self, name: str) -> dict[str, dict[str, Any]]:
        """The whole reports that wait in a daemon's outbox."""
        found = {}
        for path in (self.state(name) / "outbox").glob("[!.]*.json"):
            with suppress(FileNotFoundError):  # delivered just now, by a daemon that is alive
                found[path.name] = json.loads(path.read_bytes())
        return found

    def parked(self, name: str) -> set[str]:
        folder = self.state(name) / "outbox" / "parked"
        return {path.name for path in folder.glob("[!.]*.json")}

    def published_jws(self) -> str:
        """The signed report that the storage has; "" when there is none."""
        place = self.storage / "spooler" / "reports" / DEVICE / f"{self.job}.json"
        return str(json.loads(place.read_bytes())["jws"]) if place.exists() else ""

    def view(self) -> tuple[str, str]:
        """What the submitter sees: the state, and the value of the result."""
        submitter = self.submitter()
        status = submitter.status(DEVICE, self.job)
        try:
            value = str(submitter.result(DEVICE, self.job).data["value"])
        except UnknownJob:
            value = ""
        return str(status.state), value

    def documents_broken(self) -> list[str]:
        """Documents that a reader would stumble over, at this moment."""
        found = []
        for path in self.storage.rglob("[!.]*.json"):
            try:
                json.loads(path.read_bytes())
            except ValueError:
                found.append(f"{path.relative_to(self.storage)} is not whole")
        if found:
            return found
        client = client_of(self.storage)
        status = client.get_status(DEVICE, "alice", self.job).status
        if status == "DONE":
            result = client.get_result(DEVICE, "alice", self.job)
            if result.status != "DONE" or not client.verify_result(DEVICE, self.job):
                found.append(f"sqooler reads {result.status} for a job that is DONE")
        elif status not in {"INITIALIZING", "ERROR"}:
            found.append(f"sqooler reads the status {status}")
        return found

    def places(self) -> list[str]:
        """Where the job file lies; `running` is only shown as a link and comes last."""
        base = self.storage
        files = [*base.glob("jobs/*/*.json"), *base.glob("jobs/*/*/*.json")]
        files += base.glob("spooler/claims/*/*")
        found = [str(path.relative_to(base)) for path in files if path.name.startswith(self.job)]
        return sorted(found, key=lambda place: (place.startswith("jobs/running"), place))

    def leftovers(self) -> list[str]:
        """What of ours has no purpose once the job has ended and no daemon runs."""
        return self._left_in_storage() + self._left_in_states()

    def _left_in_storage(self) -> list[str]:
        found = [path for path in self.storage.rglob("*.tmp")]
        for room in ("claims", "history", "cancels", "owners", "replaced"):
            found += [path for path in self.storage.glob(f"spooler/{room}/**/*") if path.is_file()]
        return [str(path.relative_to(self.folder)) for path in found]

    def _left_in_states(self) -> list[str]:
        found: list[Path] = []
        for state in self.folder.glob("state-*"):
            found += [path for path in state.rglob("*") if path.is_file() and path.name != "lock"]
        return [str(path.relative_to(self.folder)) for path in found]

    def ended(self) -> bool:
        return State(self.view()[0]).ended
