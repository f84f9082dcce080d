"""One process at a time drives a device, whatever became of the daemon that started it.

The lock belongs to an open file, which the handler's process inherits: it is held until the last
process that has it is gone, also when the daemon was killed and could not clean up.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spooler.errors import DeviceUnusable, RunStopped
from spooler.protocols import RunControl

_LOOK_EVERY = 0.05


@contextmanager
def device_lock(
    path: str, device: str, patience: float, control: RunControl | None = None
) -> Iterator[int | None]:
    """The descriptor to hand to the handler's process; our own copy is closed at the end.

    Raises DeviceUnusable when an earlier handler process still has it after `patience` seconds,
    and RunStopped when `control` has ended the waiting.
    """
    if not path:
        yield None
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + patience
        while not _locked(handle):
            if time.monotonic() >= deadline:
                raise DeviceUnusable(
                    f"device {device}: the handler of an earlier daemon still runs and may be "
                    f"driving the instrument; kill it (find it with fuser -v {path}); spooler "
                    "retries by itself"
                )
            if control is not None and (reason := control.stop_reason) is not None:
                raise RunStopped(reason)
            time.sleep(_LOOK_EVERY)
        yield handle
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
