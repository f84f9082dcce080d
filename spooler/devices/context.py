"""What a handler may use while it runs: the JobContext that both runners hand out."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from spooler.devices.sentences import one_line
from spooler.durable import Disk
from spooler.model.artifact import REFUSED, Artifact

#: Seconds between two words of progress that leave the handler; what comes sooner is dropped.
PROGRESS_INTERVAL = 0.05
PROGRESS_LIMIT = 200


def _state(facts: os.stat_result) -> tuple[int, int, int]:
    """Return what changes when a file is written or replaced."""
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


class HostContext:
    """One run's context. `timeout` counts from now; `tell` carries progress outside."""

    def __init__(
        self,
        *,
        job_id: str,
        attempt: int,
        timeout: float,
        scratch: str,
        logger: logging.Logger,
        tell: Callable[[str], None],
    ) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.stop = threading.Event()
        self.logger = logger
        self.artifacts: dict[str, Artifact] = {}
        #: How each published file was when it was measured.
        self._states: dict[str, tuple[int, int, int]] = {}
        self._deadline = time.monotonic() + timeout
        self._scratch = scratch
        self._tell = tell
        self._told_at = 0.0
        self._over = False

    @cached_property
    def scratch(self) -> Path:
        """Made when it is first asked for: most runs need none."""
        folder = Path(self._scratch)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def remaining(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def progress(self, text: str) -> None:
        now = time.monotonic()
        if self._over or now - self._told_at < PROGRESS_INTERVAL:
            return
        self._told_at = now
        self._tell(one_line(str(text), PROGRESS_LIMIT))

    def publish(self, path: Path) -> Artifact:
        """Note a file; size and SHA-256 are those of its end, taken again where it has changed.

        Raises ValueError for what is not a file in `scratch`.
        """
        if self._over:
            raise ValueError("the run is over, nothing can be published any more")
        folder = self.scratch.resolve()
        file = (folder / path).resolve()
        if not file.is_relative_to(folder):
            raise ValueError(f"{file.name} is outside the scratch folder and is not published")
        if not file.is_file():
            raise ValueError(f"{file.name} is not a file in the scratch folder")
        name = file.relative_to(folder).as_posix()
        name.encode()  # a name that is no Unicode is a ValueError here, and a crash later
        return self._measured(name, file)

    def _measured(self, name: str, file: Path) -> Artifact:
        with file.open("rb") as stream:
            before = _state(os.fstat(stream.fileno()))
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            size = stream.tell()
        self.artifacts[name] = artifact = Artifact(path=name, size=size, sha256=digest)
        self._states[name] = before
        return artifact

    def final(self, published: Iterable[Artifact]) -> list[Artifact]:
        """Return what was published, as it is after the run: a file may have been open until now.

        One that is gone stays as it was noted: the daemon says that it is missing.
        """
        found = []
        for each in published:
            file = self.scratch / each.path
            try:
                changed = self._states.get(each.path) != _state(file.stat())
                found.append(self._measured(each.path, file) if changed else each)
            except OSError:
                found.append(each)
        return found

    def keep_refused(self, content: bytes) -> None:
        """Put aside what was measured and cannot be reported; the daemon says where it is kept."""
        if not content:
            return
        with suppress(OSError):
            Disk(sync=False).stage(self.scratch / REFUSED, content)

    def end(self) -> None:
        """The run is over: a thread that the handler left behind changes nothing any more."""
        self._over = True
        self.stop.set()
