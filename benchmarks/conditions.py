"""Under which conditions it was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import spooler
from benchmarks.figures import quantile
from benchmarks.peers import ROOT
from benchmarks.place import MEMORY

NO_JOURNAL = "without a journal"
_PROBES = 100
_BLOCK = b"\0" * 4096
_PACKAGES = (
    "sqooler",
    "pydantic",
    "cryptography",
    "pymongo",
    "watchdog",
    "apscheduler",
    "structlog",
)


@dataclass(frozen=True, slots=True)
class Moment:
    """The machine at one moment: load of the last minute, fsync of 4 KiB in milliseconds."""

    load: float
    fsync_median: float
    fsync_p99: float
    stolen: float
    total: float

    def stolen_until(self, later: Moment) -> float:
        """Per cent of the machine's time that the hypervisor gave to others in between."""
        total = later.total - self.total
        return 100 * (later.stolen - self.stolen) / total if total else 0.0


def moment(work: Path) -> Moment:
    """Look at the machine; writes and removes a small file below `work`."""
    probe = work / f"fsync-probe-{os.getpid()}"
    times = []
    handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for _ in range(_PROBES):
            since = time.perf_counter()
            os.write(handle, _BLOCK)
            os.fsync(handle)
            times.append((time.perf_counter() - since) * 1000)
    finally:
        os.close(handle)
        probe.unlink()
    ticks = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return Moment(
        os.getloadavg()[0], quantile(times, 0.5), quantile(times, 0.99), ticks[7], sum(ticks)
    )


@dataclass(frozen=True, slots=True)
class Phase:
    """How the machine was before and after one measurement, and how long that took."""

    before: Moment
    after: Moment
    seconds: float


def watched(work: Path, measure: Callable[[], None]) -> Phase:
    """Measure, and look at the machine before and after."""
    before, since = moment(work), time.monotonic()
    measure()
    return Phase(before, moment(work), time.monotonic() - since)


def machine(work: Path) -> dict[str, str]:
    """What does not change while we measure, as text by name."""
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": f"{_processor()}, {os.cpu_count()} cores, {memory:.1f} GiB",
        "system": f"{platform.system()} {platform.release()}, {_file_system(work)} at {work}",
        "state folders": f"beside the storage; with fsync off {_file_system(MEMORY)} at {MEMORY}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "spooler": f"{spooler.__version__}, {_commit()}",
        "packages": packages,
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(work: Path) -> str:
    """The type of the file system that holds `work`: of the mounts above it, the nearest."""
    place = f"{work.resolve()}/"
    found = ("", "unknown file system")
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        device, at, kind = line.split()[:3]
        if place.startswith(at.rstrip("/") + "/") and len(at) >= len(found[0]):
            without = kind == "ext4" and not _has_journal(device)
            found = (at, f"{kind} {NO_JOURNAL}" if without else kind)
    return found[1]


def _has_journal(device: str) -> bool:
    task = Path("/sys/fs/ext4", Path(device).resolve().name, "journal_task")
    return not task.exists() or task.read_text(encoding="utf-8").strip() != "<none>"


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words],  # noqa: S607 - whichever git there is
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()

    commit = git("rev-parse", "--short", "HEAD")
    if not commit:
        return "not in git"
    changed = git("status", "--porcelain", "--untracked-files=no", "spooler")
    return f"commit {commit}" + (", with changes in spooler/ not committed" if changed else "")
