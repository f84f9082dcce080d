"""A throw-away folder with everything that one run needs: settings, key, queue; and its proof."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from spooler.model.json import JsonObject
from spooler.signing.keys import generate, write_file
from spooler.signing.sqooler_form import private_jwk_of, public_jwk_of

DEVICE = "noop"
#: The smallest job that sqooler's own checks let pass.
JOB: JsonObject = {
    "experiment_0": {
        "instructions": [["nop", [0], []]],
        "num_wires": 1,
        "shots": 1,
        "wire_order": "interleaved",
    }
}

#: Where a sync costs nothing.
MEMORY = Path("/dev/shm")  # noqa: S108 - that is the point of it; folders there are made by mkdtemp
#: Time stamps of files are no finer than a tick of the kernel (seconds).
TICK = 0.004


class BenchmarkError(Exception):
    """A peer did not do what it was measured for; the message says what."""


def first_status(job_id: str) -> dict[str, str]:
    """What sqooler's client writes beside a job."""
    return {
        "job_id": job_id,
        "status": "INITIALIZING",
        "detail": "Got your json.",
        "error_message": "None",
    }


class Workplace:
    """A folder for one run: log, state, and a key of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        #: The daemon's own folder, which it syncs whatever its storage does.
        self.state = folder / "state"
        self.log = folder / "log"
        self.key = generate("bench")
        write_file(self.key, folder / "key.jwk")

    def keep_state_in_memory(self) -> None:
        """Have the daemon's own folder where a sync costs nothing, until `close`."""
        if not MEMORY.is_dir():
            raise BenchmarkError(f"there is no {MEMORY}: nothing can be measured without fsync")
        if MEMORY not in self.state.parents:
            # One folder deeper: a daemon looks after what lies beside its state.
            self.state = Path(tempfile.mkdtemp(prefix="spooler-bench-", dir=MEMORY)) / "state"

    def close(self) -> None:
        """Remove what lies in memory; all else stays. Harmless to repeat."""
        if MEMORY in self.state.parents:
            shutil.rmtree(self.state.parent, ignore_errors=True)

    def write_settings(
        self, storage: str, isolation: str = "process", announce_interval: float = 60.0
    ) -> Path:
        """Write settings of spooler for this storage; all else is its default."""
        file = self.folder / "spooler.toml"
        file.write_text(
            f'state = "{self.state}"\n'
            f"[daemon]\nannounce_interval = {announce_interval}\n"
            '[log]\nlevel = "warning"\n'
            f'[storage]\n{storage}\nname = "bench"\n'
            '[signing]\nkey = "key.jwk"\n'
            f'[devices.{DEVICE}]\nhandler = "echo"\nisolation = "{isolation}"\n',
            encoding="utf-8",
        )
        return file

    @property
    def private_jwk(self) -> str:
        """The key as sqooler's users have it, in PRIVATE_JWK_STR."""
        return private_jwk_of(self.key).to_config_str()

    def demand_told(self, result: dict[str, Any], status: dict[str, Any], job_id: str) -> None:
        """Raise BenchmarkError unless result and status, signed or not, say that a job is done."""
        result, status = (each.get("payload", each) for each in (result, status))
        # sqooler's results call themselves INITIALIZING; its status is what says DONE.
        told = (result["job_id"], result["success"], status["job_id"], status["status"])
        if told != (job_id, True, job_id, "DONE"):
            raise BenchmarkError(f"result and status of job {job_id} do not say that it is done")

    def signed(self, document: dict[str, Any]) -> bool:
        """Whether the signature of a document holds, by sqooler's own code."""
        return _verified(document, public_jwk_of(self.key).model_dump())


class Place(Workplace):
    """One folder in the format of sqooler's local storage."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.storage = folder / "storage"
        for name in ("queue", "status", "finished", "incoming"):
            self.inside(name).mkdir(parents=True)
        self._body = json.dumps(JOB).encode()

    def inside(self, name: str) -> Path:
        """A folder by its role."""
        places = {
            "queue": self.storage / "jobs" / "queued" / DEVICE,
            "finished": self.storage / "jobs" / "finished" / DEVICE,
            "status": self.storage / "status" / DEVICE,
            "results": self.storage / "results" / DEVICE,
            "incoming": self.folder / "incoming",
        }
        return places[name]

    def settings(self, *, isolation: str, fsync: bool, announce_interval: float) -> Path:
        """Write spooler's settings; everything that is not said here is its default."""
        storage = f'type = "sqooler-local"\npath = "storage"\nfsync = {str(fsync).lower()}'
        return self.write_settings(storage, isolation, announce_interval)

    # --- the submitter's side ---------------------------------------------------------------

    def prepare(self) -> tuple[str, str, str]:
        """A job that is all but submitted: its id, its file, and where that has to go."""
        job_id = uuid.uuid4().hex[:24]
        name = f"{job_id}.json"
        first = json.dumps(first_status(job_id))
        Path(self.inside("status"), name).write_text(first, encoding="utf-8")
        beside = str(self.inside("incoming") / name)
        Path(beside).write_bytes(self._body)
        return job_id, beside, str(self.inside("queue") / name)

    def submit(self, count: int = 1) -> list[str]:
        """Put jobs into the queue, whole files, each after its first status; their ids."""
        ids = []
        for _ in range(count):
            job_id, beside, target = self.prepare()
            os.rename(beside, target)
            ids.append(job_id)
        return ids

    def fill(self, count: int) -> None:
        """Queue jobs, and bring them to the disk: a later fsync would pay for them as well."""
        self.submit(count)
        os.sync()

    def is_finished(self, job_id: str) -> bool:
        """Whether the job file is at its last place."""
        return (self.inside("finished") / f"{job_id}.json").exists()

    # --- what came out ----------------------------------------------------------------------

    def seconds_between_results(self) -> float:
        """From the first result document to the last, by the times of the files."""
        times = [
            entry.stat().st_mtime_ns
            for entry in os.scandir(self.inside("results"))
            if _is_document(entry.name)
        ]
        return max((max(times) - min(times)) / 1e9, TICK)

    def demand_done(self, count: int, *, signed: bool) -> None:
        """Raise BenchmarkError unless `count` jobs are done, with statuses and results that hold.

        Signatures are verified with sqooler's own code: of the first, the middle and the last.
        """
        results = self.inside("results")
        found = sorted(filter(_is_document, os.listdir(results))) if results.exists() else []
        finished = len(os.listdir(self.inside("finished")))
        if (len(found), finished) != (count, count):
            raise BenchmarkError(
                f"{count} jobs were to be done, and there are {len(found)} results and "
                f"{finished} finished jobs; see {self.log}"
            )
        for name in {found[0], found[len(found) // 2], found[-1]}:
            self._demand_result(results / name, signed=signed)

    def _demand_result(self, place: Path, *, signed: bool) -> None:
        document = json.loads(place.read_bytes())
        if signed and not self.signed(document):
            raise BenchmarkError(f"the signature of {place} does not hold")
        status = json.loads((self.inside("status") / place.name).read_bytes())
        self.demand_told(document, status, place.stem)


def _is_document(name: str) -> bool:
    return name.endswith(".json") and not name.startswith(".")


def _verified(document: dict[str, Any], public: dict[str, Any]) -> bool:
    with warnings.catch_warnings():
        # pydantic warns about sqooler's own models when they are imported.
        warnings.simplefilter("ignore")
        from sqooler.security import JWK, JWSDict
    try:
        return bool(JWSDict(**document).verify_signature(JWK(**public)))
    except (TypeError, ValueError):
        return False


AnyPlace = TypeVar("AnyPlace", bound=Workplace)


@contextmanager
def fresh(kind: Callable[[Path], AnyPlace], work: Path) -> Iterator[AnyPlace]:
    """A place of its own below `work`. It stays until the round or the measurement is over.

    Deleting thousands of files is work for the file system, and the next peer would pay for it.
    What lies in memory is removed at the end of the block.
    """
    place = kind(Path(tempfile.mkdtemp(prefix="run-", dir=work)))
    try:
        yield place
    finally:
        place.close()


@contextmanager
def work_folder(below: Path) -> Iterator[Path]:
    """A new folder for one measurement; removed at the end, kept when a peer has failed."""
    folder = Path(tempfile.mkdtemp(prefix="spooler-bench-", dir=below))
    try:
        yield folder
    except BenchmarkError as error:
        if not list(folder.iterdir()):
            folder.rmdir()
            raise
        raise BenchmarkError(f"{error} (everything is left in {folder})") from error
    except BaseException:
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)
