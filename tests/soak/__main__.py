"""`python -m tests.soak` (make soak): daemons that are killed all the time, and what is lost.

Prints the numbers of jobs lost, doubled and wrongly ordered, and how long it took until what a
killed daemon held was in other hands. The aim: 0, 0, 0, and less than two lease periods.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from spooler.observe.audit import audit_files
from spooler.signing.keys import generate, write_file
from tests.soak.storages import DEVICE, STORAGES, Soaked


@dataclass
class Soak:
    """One soak: its daemons by number, and what was noted on the way."""

    options: argparse.Namespace
    folder: Path
    storage: Soaked
    daemons: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)
    kills: int = 0
    #: When a daemon was killed, its pid, and the jobs it held.
    orphans: list[tuple[float, int, set[str]]] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)

    def prepare(self) -> None:
        write_file(generate("soak"), self.folder / "key.jwk")
        source = Path(__file__).parents[1] / "acceptance" / "counting.py"
        (self.folder / "lab_counting.py").write_text(source.read_text())
        options = self.options
        for number in range(options.daemons):
            (self.folder / f"{number}.toml").write_text(
                f'state = "state-{number}"\n'
                f"[daemon]\npoll_interval = 0.2\nlease = {options.lease}\n"
                f"recovery_interval = {options.lease / 5}\n"
                f"[storage]\n{self.storage.settings()}\n"
                '[signing]\nkey = "key.jwk"\n[log]\nlevel = "error"\n'
                f'[devices.{DEVICE}]\nhandler = "lab_counting:Counting"\n'
                f'isolation = "{options.isolation}"\nrerun = "{options.rerun}"\n'
                f'options = {{book = "{self.folder}/book", seconds = {options.seconds}}}\n'
            )
        self.feed(0)

    def feed(self, ended: int) -> None:
        """Submit as many jobs as the storage bears to have waiting, in portions."""
        room = min(self.storage.waiting - (len(self.jobs) - ended), self.wanted - len(self.jobs))
        if room >= min(self.storage.waiting // 4, self.wanted - len(self.jobs)) and room > 0:
            self.jobs += self.storage.submit(room)

    @property
    def wanted(self) -> int:
        """How many jobs this soak has."""
        return int(self.options.jobs or self.storage.jobs)

    def start(self, number: int) -> None:
        log = (self.folder / f"{number}.log").open("ab")
        config = str(self.folder / f"{number}.toml")
        with log:
            self.daemons[number] = subprocess.Popen(
                [sys.executable, "-m", "spooler", "run", "--config", config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill_one(self) -> None:
        """SIGKILL a daemon, note what it held, and start it again, as systemd would."""
        number = random.choice(list(self.daemons))
        process = self.daemons[number]
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.kills += 1
        held = self.storage.held_by(process.pid)
        if held:
            self.orphans.append((time.monotonic(), process.pid, held))
        self.start(number)

    def look_after_orphans(self) -> None:
        now = time.monotonic()
        for orphan in list(self.orphans):
            since, pid, held = orphan
            if not held & self.storage.held_by(pid):
                self.recoveries.append(now - since)
                self.orphans.remove(orphan)

    def run(self) -> float:
        """Until every job has ended, or time is up; seconds."""
        began = time.monotonic()
        for number in range(self.options.daemons):
            self.start(number)
        next_kill, next_look, ended = began + 3.0, began, 0
        while time.monotonic() < began + self.options.limit:
            now = time.monotonic()
            if now >= next_kill and ended < self.wanted:
                self.kill_one()
                next_kill = time.monotonic() + self.options.every
            self.look_after_orphans()
            if now >= next_look:
                next_look = now + 1.0
                ended = len(self.storage.ends(self.jobs))
                if ended == self.wanted and not self.orphans:
                    break
                self.feed(ended)
            time.sleep(0.02)
        return time.monotonic() - began

    def stop(self) -> list[int]:
        """Exit codes after SIGTERM; who has just been started may simply end by it."""
        for process in self.daemons.values():
            process.terminate()
        codes = [process.wait(60) for process in self.daemons.values()]
        return [0 if code == -signal.SIGTERM else code for code in codes]

    # --- the figures ------------------------------------------------------------------------

    def executions(self) -> Counter[str]:
        lines = (self.folder / "book").read_text().splitlines()
        return Counter(line.split()[1] for line in lines if line.startswith("run "))

    def claims(self) -> Iterator[tuple[float, str]]:
        """When each job was claimed first, from the audit trails."""
        for number in range(self.options.daemons):
            for path in audit_files(self.folder / f"state-{number}" / "audit"):
                for line in path.read_bytes().splitlines():
                    try:
                        said = json.loads(line)
                    except ValueError:
                        continue  # torn by a kill
                    if said["what"] == "job.claimed" and said["attempt"] == 1:
                        yield datetime.fromisoformat(said["at"]).timestamp(), said["job"]

    def late(self) -> list[float]:
        """By how many seconds jobs were claimed later than a younger one."""
        first: dict[str, float] = {}
        for at, job in self.claims():
            first[job] = min(at, first.get(job, at))
        found, earliest = [0.0], float("inf")
        for job in reversed(self.jobs):
            at = first.get(job)
            if at is None:
                continue  # its daemon died between claiming it and saying so
            found.append(max(0.0, at - earliest))
            earliest = min(earliest, at)
        return found

    def report(self, seconds: float) -> int:
        ends, runs = self.storage.ends(self.jobs), self.executions()
        lost = self.wanted - len(ends)
        most = 3 if self.options.rerun == "always" else 1
        twice = {job for job, count in runs.items() if count > most} | self.storage.doubled()
        unmeasured = [job for job, end in ends.items() if end == "DONE" and not runs[job]]
        late, slack = self.late(), self.storage.slack
        disordered = sum(by > slack for by in late)
        how = Counter(ends.values())
        slowest = max(self.recoveries, default=0.0)
        middle = statistics.median(self.recoveries) if self.recoveries else 0.0
        say(
            f"{self.options.storage}: {self.wanted} jobs, {self.options.daemons} daemons, "
            f"{self.kills} kills, {seconds:.0f} s"
        )
        say(f"ended: {how['DONE']} done, {how['ERROR']} error (cut off while they ran)")
        say(
            f"lost: {lost}, doubled: {len(twice)}, wrongly ordered: {disordered} (by more than "
            f"{slack:g} s; the most is {max(late):.1f} s)"
        )
        say(
            f"recovery of {len(self.recoveries)} killed daemons' jobs: median {middle:.2f} s, max "
            f"{slowest:.2f} s (lease {self.options.lease:g} s), not recovered: {len(self.orphans)}"
        )
        good = not (lost or twice or unmeasured or disordered or self.orphans)
        return 0 if good and slowest < 2 * self.options.lease else 1


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def wanted() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--storage", choices=sorted(STORAGES), help="this one alone")
    parser.add_argument("--jobs", type=int, default=0, help="without it: as the storage bears")
    parser.add_argument("--daemons", type=int, default=8)
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two kills")
    parser.add_argument("--seconds", type=float, default=0.2, help="how long a job runs")
    parser.add_argument("--lease", type=float, default=5.0)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds, at most")
    parser.add_argument("--isolation", choices=("process", "thread"), default="thread")
    parser.add_argument(
        "--rerun", choices=("never", "if-not-started", "always"), default="if-not-started"
    )
    return parser.parse_args()


def main() -> int:
    options = wanted()
    failed = 0
    for name in [options.storage] if options.storage else STORAGES:
        options.storage = name
        failed |= soaked(options)
    return failed


def soaked(options: argparse.Namespace) -> int:
    """One storage; 0 when everything is as it should be."""
    with tempfile.TemporaryDirectory(prefix="spooler-soak.") as name:
        folder = Path(name)
        storage = STORAGES[options.storage](folder)
        soak = Soak(options, folder, storage)
        try:
            soak.prepare()
            seconds = soak.run()
            codes = soak.stop()
            failed = soak.report(seconds)
        finally:
            for process in soak.daemons.values():
                process.kill()
                process.wait()
            storage.close()
        if any(codes):
            say(f"exit codes after SIGTERM: {codes}")
            for number, code in enumerate(codes):
                if code:
                    say((folder / f"{number}.log").read_text()[-2000:])
        return failed or int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
