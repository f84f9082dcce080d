"""A daemon with a look over its worker's shoulder: `run_way SETTINGS OUT [JOBS]`.

Runs `spooler run --once` in this process and writes to OUT, in JSON, which functions of the package
its thread `worker-<device>` has passed through, one entry for each turn of the worker that found a
job and brought its report to the storage. A turn is what Worker does from its look at the queues to
its return. All other threads, and the handler's process, are left alone. The worker delivers each
report itself: a storage as slow as the MongoDB server of the tests would have that done by another
thread, and the way would be cut short. JOBS is for a storage that lives in this process: so many
are queued first.

A move is a call or a return that changes the file of the innermost frame of the package, however
many frames of other packages lie between; it is put down to the function called or left.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import CodeType, FrameType

import spooler
from benchmarks.place import DEVICE, JOB
from spooler.app import RunOptions, run_daemon
from spooler.clock import SystemClock
from spooler.daemon.reports import delivery
from spooler.model.device import DeviceCard
from spooler.model.job import Queue
from spooler.observe import log
from spooler.settings import Settings, load
from spooler.storage.memory import MemoryCatalogue, MemorySubmitter, memory_storage

_PACKAGE = f"{Path(spooler.__file__).parent}/"
_TURN, _FOUND = ("daemon/worker.py", "turn"), ("daemon/executor.py", "execute")
#: Where a storage takes a report: a turn without it has left that to another thread.
_STORAGES, _DELIVERED = "storage/", "ack"


class Onlooker:
    """Follows one thread, from the moment at which it starts."""

    def __init__(self, thread: str) -> None:
        self.turns: list[dict[str, Counter[str]]] = []
        self._thread = thread
        self._turn: FrameType | None = None
        self._at = ""
        self._calls: Counter[str] = Counter()
        self._moves: Counter[str] = Counter()
        self._passed: set[tuple[str, str]] = set()

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """For threading.setprofile: called by each new thread, which may go on without us."""
        del frame, event, argument
        ours = threading.current_thread().name == self._thread
        sys.setprofile(self._follow if ours else None)

    def _follow(self, frame: FrameType, event: str, _: object) -> None:
        if event not in {"call", "return"}:
            return  # of a function written in C
        code = frame.f_code
        file = _file(code)
        if event == "call" and (file, code.co_name) == _TURN:
            self._turn, self._at = frame, file
            self._calls, self._moves, self._passed = Counter(), Counter(), set()
        if self._turn is None:
            return
        here = f"{file}:{code.co_qualname}"
        if event == "call" and file:
            self._calls[here] += 1
            self._passed.add((file, code.co_name))
        at = _innermost(frame if event == "call" else frame.f_back)
        if frame is self._turn and event == "return":
            self._end()
        elif at != self._at:
            self._moves[here] += 1
            self._at = at

    def _end(self) -> None:
        self._turn = None
        delivered = any(
            file.startswith(_STORAGES) and name == _DELIVERED for file, name in self._passed
        )
        if _FOUND in self._passed and delivered:
            self.turns.append({"calls": self._calls, "moves": self._moves})


def _innermost(frame: FrameType | None) -> str:
    """The file of the innermost frame of the package."""
    while frame is not None:
        if file := _file(frame.f_code):
            return file
        frame = frame.f_back
    return ""


def _file(code: CodeType) -> str:
    """The file of a function inside the package; "" for all others."""
    name = code.co_filename
    return name.removeprefix(_PACKAGE) if name.startswith(_PACKAGE) else ""


def _fill(settings: Settings, jobs: int) -> None:
    """Queue jobs in a storage of this process."""
    (storage,) = settings.feeds().values()
    held, queue = memory_storage(storage.name), Queue(DEVICE, DEVICE)
    MemoryCatalogue(held).announce(queue, DeviceCard(DEVICE), datetime.now(UTC))
    submitter = MemorySubmitter(held, SystemClock())
    for _ in range(jobs):
        submitter.submit(DEVICE, JOB)


def main(file: str, out: str, jobs: int = 0) -> int:
    """Serve until nothing waits; the daemon's exit code."""
    settings = load(Path(file), os.environ)
    log.configure(settings.log.level, settings.log.format, colours=False)
    if jobs:
        _fill(settings, jobs)
    delivery.WORTH_HANDING_OVER = math.inf  # see above
    onlooker = Onlooker(f"worker-{DEVICE}")
    threading.setprofile(onlooker)
    code = run_daemon(settings, RunOptions(once=True), reload=lambda: settings)
    Path(out).write_text(json.dumps(onlooker.turns), encoding="utf-8")
    return code


if __name__ == "__main__":
    asked, result, *inside = sys.argv[1:]
    sys.exit(main(asked, result, *map(int, inside)))
