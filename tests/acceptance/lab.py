"""A lab in a folder: settings, a key, a storage, and real daemons as processes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spooler.signing.keys import generate, write_file

#: Seconds after which a test gives up waiting; machines are shared and slow.
PATIENCE = 60.0

#: Has root meet the permissions that everybody else meets.
_NO_POWERS = "-dac_override,-dac_read_search"
_POWERLESS = ("setpriv", f"--bounding-set={_NO_POWERS}", f"--inh-caps={_NO_POWERS}", "--")

RABI = {
    "experiment_0": {
        "instructions": [["load", [0], [20]], ["rlx", [0], [1.5707963]], ["measure", [0], []]],
        "num_wires": 1,
        "shots": 50,
        "wire_order": "interleaved",
        "seed": 7,
    }
}


def until(found: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Look again and again until there is something; fails with `what` when there is not."""
    deadline = time.monotonic() + patience
    while not (value := found()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:g} s for {what}")
        time.sleep(0.01)
    return value


def kept(state: Path) -> list[Path]:
    """The undelivered reports below a state folder, parked ones left out."""
    found = state.glob("records/*/*/[!.]*.json")
    return [path for path in found if path.parent.parent.name != "parked"]


def parked(state: Path) -> list[Path]:
    """The reports below a state folder that cannot be delivered."""
    return list(state.glob("records/parked/*/[!.]*.json"))


class Process:
    """One `spooler run`."""

    def __init__(
        self, lab: Lab, arguments: tuple[str, ...], config: Path, *, prefix: tuple[str, ...] = ()
    ) -> None:
        self.log = lab.folder / f"log-{uuid.uuid4().hex[:6]}.jsonl"
        environ = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("SPOOLER") and key != "PRIVATE_JWK_STR"
        } | lab.environment
        with self.log.open("wb") as stream, lab.stdout.open("ab") as shown:
            self.process = subprocess.Popen(
                [
                    *prefix,
                    *(sys.executable, "-m", "spooler", "run", "--config", str(config)),
                    *arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=shown,
                stderr=stream,
                cwd=lab.folder,
                env=environ,
            )

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """The log lines so far; those of one event when it is named."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        found = [json.loads(line) for line in lines if line.endswith("}")]
        return [line for line in found if name is None or line["event"] == name]

    def wait_for(self, name: str, patience: float = PATIENCE) -> dict[str, Any]:
        """The first log line of an event."""

        def look() -> dict[str, Any] | None:
            seen = self.events(name)
            if not seen and self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}: {self.text()}")
            return seen[0] if seen else None

        found: dict[str, Any] = until(look, f"the event {name}", patience)
        return found

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, patience: float = PATIENCE) -> int:
        """The exit code, once the process has ended."""
        return self.process.wait(patience)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return self.end()


class Lab:
    """One folder with everything in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage = folder / "storage"
        self.stdout = folder / "stdout"
        self.key = generate("lab")
        write_file(self.key, folder / "key.jwk")
        self.processes: list[Process] = []
        #: What each daemon finds in its environment beside ours.
        self.environment: dict[str, str] = {}

    def configure(
        self,
        device: str = "singlequdit",
        handler: str = "singlequdit",
        *,
        name: str = "spooler",
        extra: str = "",
        daemon: str = "",
        **options: object,
    ) -> Path:
        """Write a settings file; `name` keeps the states of several daemons apart."""
        config = self.folder / f"{name}.toml"
        config.write_text(
            f'state = "{name}-state"\n'
            f"[daemon]\n{daemon or 'poll_interval = 0.2'}\n"
            '[storage]\ntype = "sqooler-local"\npath = "storage"\n'
            'upload_pause = "2s"\nname = "lab"\n'
            '[signing]\nkey = "key.jwk"\n'
            f'[devices.{device}]\nhandler = "{handler}"\noptions = {_inline(options)}\n{extra}\n',
            encoding="utf-8",
        )
        return config

    def run(
        self,
        config: Path,
        *arguments: str,
        ready: bool = True,
        powerless: bool = False,
        prefix: tuple[str, ...] = (),
    ) -> Process:
        """Start a daemon; `prefix` is the command that starts it."""
        if powerless and os.geteuid() == 0:
            prefix = (*prefix, *_POWERLESS)
        process = Process(self, arguments, config, prefix=prefix)
        self.processes.append(process)
        if ready:
            process.wait_for("daemon.started")
        return process

    def counting(
        self, *, name: str = "spooler", extra: str = "", daemon: str = "", **options: object
    ) -> Path:
        """Settings of a device `counter` that keeps a book of its executions."""
        source = Path(__file__).with_name("counting.py").read_text(encoding="utf-8")
        (self.folder / "lab_counting.py").write_text(source, encoding="utf-8")
        return self.configure(
            "counter",
            "lab_counting:Counting",
            name=name,
            extra=extra,
            daemon=daemon,
            book=str(self.folder / "book"),
            **options,
        )

    def book(self, word: str = "run") -> list[str]:
        """The book's lines that begin with `word`, without it."""
        try:
            lines = (self.folder / "book").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [line.removeprefix(word).strip() for line in lines if line.startswith(word)]

    def submit(
        self, job: dict[str, Any], device: str = "counter", job_id: str | None = None
    ) -> str:
        """Drop a job and its first status into the folder, whole files only."""
        place = self.queue(device, job_id)
        first = {
            "job_id": place.stem,
            "status": "INITIALIZING",
            "detail": "Got your json.",
            "error_message": "None",
        }
        status = self.storage / "status" / device / place.name
        status.parent.mkdir(parents=True, exist_ok=True)
        status.write_text(json.dumps(first), encoding="utf-8")
        beside = place.with_suffix(".part")
        beside.write_text(json.dumps(job), encoding="utf-8")
        beside.rename(place)
        return place.stem

    def queue(self, device: str, job_id: str | None = None) -> Path:
        """The place of a new job file."""
        folder = self.storage / "jobs" / "queued" / device
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{job_id or uuid.uuid4().hex[:24]}.json"

    def status_document(self, device: str, job_id: str) -> dict[str, Any] | None:
        try:
            content = json.loads((self.storage / "status" / device / f"{job_id}.json").read_text())
        except FileNotFoundError:
            return None
        found: dict[str, Any] = content.get("payload", content)
        return found

    def ended(self, device: str, job_id: str) -> dict[str, Any]:
        """The last status of a job."""

        def look() -> dict[str, Any] | None:
            status = self.status_document(device, job_id)
            return status if status and status["status"] in {"DONE", "ERROR"} else None

        found: dict[str, Any] = until(look, f"the end of job {job_id}")
        return found

    def close(self) -> None:
        for each in self.processes:
            if each.process.poll() is None:
                each.process.kill()
                each.process.wait()


def _inline(options: dict[str, object]) -> str:
    return "{" + ", ".join(f"{key} = {json.dumps(value)}" for key, value in options.items()) + "}"


def tree_digest(folder: Path) -> str:
    """Names, kinds and contents of everything below a folder, as one hash."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path.relative_to(folder)}|{path.is_dir()}|".encode())
        if path.is_file():
            digest.update(path.read_bytes())
            digest.update(str(path.stat().st_mtime_ns).encode())
    return digest.hexdigest()


__all__ = ["PATIENCE", "RABI", "Lab", "Process", "tree_digest", "until"]
