"""`python -m tests.powercut` (make powercut): what a block device holds when the power goes.

The image of a file system lies on an XFS of ours; FICLONE takes its content at one moment, while
a real daemon works in it. Each snapshot is mounted (its journal is replayed), checked and drained.
It needs root, loop devices, mkfs.xfs and mkfs.btrfs. It shows what the device had accepted; it
does not reorder writes that were not flushed, nor does it show device caches that lie.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from spooler.signing.keys import generate, write_file

DEVICE = "counter"
SYSTEMS = ("ext4", "btrfs", "xfs")
FAULTS = ("lost", "twice", "result gone", "request gone", "called empty", "audit", "drain")
#: What was seen final this many seconds before the cut has to be durable.
SETTLED = 1.0


def command(*words: object) -> None:
    """Run a command of the system; its failure is ours."""
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


def unmount(place: Path) -> None:
    """Unmount, as soon as the last worker in there has gone."""
    for _ in range(100):
        if subprocess.run(["umount", str(place)], check=False, capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    command("umount", place)


@dataclass(frozen=True)
class Cut:
    """A snapshot, and what was known outside before it was taken."""

    image: Path
    acknowledged: frozenset[str]
    final: dict[str, str]
    runs: Counter[str]


def submit(base: Path, number: int, *, sync: bool) -> str:
    """Queue a job; with `sync` durably, else as sqooler's own client does."""
    queue, job = base / "jobs/queued" / DEVICE, uuid.uuid4().hex[:24]
    queue.mkdir(parents=True, exist_ok=True)
    beside = queue / f".{job}"
    with beside.open("w") as file:
        file.write(json.dumps({"value": number}))
        file.flush()
        if sync:
            os.fsync(file.fileno())
    beside.rename(queue / f"{job}.json")
    if sync:
        handle = os.open(queue, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    return job


def whole(path: Path) -> bool:
    """Whether a file holds a JSON object."""
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except (OSError, ValueError):
        return False


def said(base: Path, job: str) -> dict[str, str]:
    """The status document of a job; empty if there is none that is whole."""
    try:
        found = json.loads((base / "status" / DEVICE / f"{job}.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return dict(found.get("payload", found))


def runs(book: Path) -> Counter[str]:
    """How often the device ran each job."""
    lines = book.read_text().splitlines() if book.exists() else []
    return Counter(line.split()[1] for line in lines if line.startswith("run "))


class Machine:
    """A machine whose disk is an image, and whose power can be cut."""

    def __init__(self, folder: Path, system: str, options: argparse.Namespace) -> None:
        self.folder, self.system, self.options = folder, system, options
        self.disk, self.pool = folder / "disk", folder / "pool"
        self.base, self.book = self.disk / "storage", folder / "book"
        self.config = str(folder / "spooler.toml")
        self.disk.mkdir(exist_ok=True)

    def configure(self) -> None:
        fsync = str(not self.options.without_fsync).lower()
        (self.folder / "spooler.toml").write_text(
            f'state = "{self.disk}/state"\n[daemon]\npoll_interval = 0.1\nlease = 2.0\n'
            f'[storage]\ntype = "sqooler-local"\npath = "{self.base}"\nname = "cut"\n'
            # Nobody goes on with what a cut has left of an upload.
            f'fsync = {fsync}\nupload_pause = 1.0\n[signing]\nkey = "key.jwk"\n'
            '[log]\nlevel = "error"\n'
            f'[devices.{DEVICE}]\nhandler = "lab_counting:Counting"\nrerun = "never"\n'
            f'options = {{book = "{self.book}", seconds = 0.02}}\n'
        )

    def spooler(self, *words: str) -> subprocess.Popen[bytes]:
        log = (self.folder / "log").open("ab")
        with log:
            return subprocess.Popen(
                [sys.executable, "-m", "spooler", *words, "--config", self.config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def cuts(self) -> list[Cut]:
        """Let a daemon work, and take snapshots at random moments."""
        image = self.pool / f"{self.system}.img"
        command("truncate", "-s", "320M", image)
        command(f"mkfs.{self.system}", image)
        command("mount", "-o", "loop", image, self.disk)
        self.configure()
        acknowledged: set[str] = set()
        jobs: list[str] = []
        final: dict[str, tuple[float, str]] = {}
        taken: list[Cut] = []
        daemon = self.spooler("run")
        moment = time.monotonic() + 4
        while len(taken) < self.options.cuts:
            sync = random.random() < 0.03
            jobs.append(submit(self.base, len(jobs), sync=sync))
            if sync:
                acknowledged.add(jobs[-1])
            for job in jobs[-60:]:
                if job not in final and said(self.base, job).get("status") == "DONE":
                    result = self.base / "results" / DEVICE / f"{job}.json"
                    final[job] = (time.monotonic(), result.read_text() if result.exists() else "")
            time.sleep(0.05)
            if time.monotonic() > moment:
                before = time.monotonic() - SETTLED
                known = {job: text for job, (when, text) in final.items() if when < before}
                book, target = runs(self.book), self.pool / f"{self.system}-{len(taken)}.img"
                acked = frozenset(acknowledged)
                command("cp", "--reflink=always", image, target)
                taken.append(Cut(target, acked, known, book))
                moment = time.monotonic() + random.uniform(0.3, 1.5)
        daemon.terminate()
        daemon.wait(60)
        unmount(self.disk)
        return taken

    def check(self, cut: Cut) -> Counter[str]:
        """Mount a snapshot, look, drain it, and look again."""
        command("mount", "-o", "loop", cut.image, self.disk)
        try:
            return self._judge(cut)
        finally:
            unmount(self.disk)
            cut.image.unlink()

    def _judge(self, cut: Cut) -> Counter[str]:
        self.book.unlink(missing_ok=True)
        found: Counter[str] = Counter()
        for job, text in cut.final.items():
            result = self.base / "results" / DEVICE / f"{job}.json"
            same = not text or (result.exists() and result.read_text() == text)
            found["result gone"] += not (said(self.base, job).get("status") == "DONE" and same)
        drain = self.spooler("run", "--once")
        try:
            found["drain"] += drain.wait(60) != 0
        except subprocess.TimeoutExpired:
            drain.kill()
            drain.wait()
            found["drain"] += 1
        again = runs(self.book)
        found["twice"] += sum(1 for job in again if again[job] + cut.runs[job] > 1)
        for job in cut.acknowledged:
            status = said(self.base, job)
            found["lost"] += status.get("status") not in {"DONE", "ERROR"}
            found["called empty"] += "empty" in status.get("error_message", "")
        for job in cut.final:
            place = self.base / "jobs/finished" / DEVICE / f"{job}.json"
            found["request gone"] += not whole(place)
        found["audit"] += self.spooler("audit", "verify").wait() != 0
        return found


def missing() -> str:
    """What this machine lacks for it; empty when it has all."""
    programs = ["mount", "umount", "truncate", "cp", "mkfs.ext4", "mkfs.btrfs", "mkfs.xfs"]
    lacking = [each for each in programs if shutil.which(each) is None]
    if lacking:
        return f"the programs {', '.join(lacking)} (Debian: e2fsprogs, btrfs-progs, xfsprogs)"
    if os.geteuid() != 0:
        return "the rights to mount: run it as root, in a machine that may be lost"
    return "" if Path("/dev/loop-control").exists() else "loop devices"


def main() -> int:
    """Cut the power of each file system, and print what was lost; 2 where it cannot be tried."""
    parser = argparse.ArgumentParser(prog="python -m tests.powercut")
    parser.add_argument("--cuts", type=int, default=17, help="snapshots of each file system")
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, choices=SYSTEMS)
    parser.add_argument("--without-fsync", action="store_true", help="storage with fsync = false")
    options = parser.parse_args()
    if lacks := missing():
        print(f"a power cut cannot be tried here, this machine lacks {lacks}", file=sys.stderr)
        return 2
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="powercut-") as name:
        folder = Path(name)
        write_file(generate("cut"), folder / "key.jwk")
        source = Path(__file__).parents[1] / "acceptance" / "counting.py"
        (folder / "lab_counting.py").write_text(source.read_text())
        (folder / "pool").mkdir()
        command("truncate", "-s", "8G", folder / "pool.img")
        command("mkfs.xfs", "-m", "reflink=1", folder / "pool.img")
        command("mount", "-o", "loop", folder / "pool.img", folder / "pool")
        try:
            print("system cuts final", *FAULTS, sep=" | ")
            for system in options.systems:
                machine = Machine(folder, system, options)
                taken = machine.cuts()
                found: Counter[str] = Counter()
                for cut in taken:
                    found += machine.check(cut)
                    machine.book.unlink(missing_ok=True)
                seen = sum(len(cut.final) for cut in taken)
                print(system, len(taken), seen, *(found[f] for f in FAULTS), sep=" | ", flush=True)
                total += found
        finally:
            subprocess.run(["umount", str(folder / "disk")], check=False, capture_output=True)
            unmount(folder / "pool")
    return int(bool(sum(total.values())))


if __name__ == "__main__":
    sys.exit(main())
