"""Whether the process behind a claim is certainly dead, as far as this machine can tell.

What a predecessor on the same host left behind need not wait for its lease. Everything here
errs on the side of "may be alive": then the lease decides.
"""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path

from spooler.model.claim import Owner


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _start_ticks(pid: int) -> str:
    """When a process started, in clock ticks since boot (proc(5), field 22); "" when unknown."""
    stat = _read(f"/proc/{pid}/stat")
    # The command name in parentheses is field 2 and may hold blanks; what follows is field 3.
    return dict(enumerate(stat[stat.rfind(")") + 2 :].split(), start=3)).get(22, "")


def this_host() -> str:
    """A name that two processes share only when they can see each other's pids.

    Host name, boot and pid name space: containers with one host name do not see each other.
    """
    boot = _read("/proc/sys/kernel/random/boot_id")[:8] or "unknown"
    try:
        space = Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
    except OSError:
        space = uuid.uuid4().hex[:8]
    name = socket.gethostname().encode("utf-8", "replace").decode()  # it is written everywhere
    return f"{name}:{boot}:{space}"


def this_process() -> Owner:
    """A new owner for this process; `process` begins with the start time, to know reused pids."""
    pid = os.getpid()
    return Owner(this_host(), pid, f"{_start_ticks(pid) or '0'}-{uuid.uuid4().hex}")


def certainly_dead(owner: Owner, me: Owner) -> bool:
    """Whether `owner` is a process of my host that no longer exists."""
    if owner.host != me.host:
        return False
    started = owner.process.partition("-")[0]
    if not started.isdigit() or started == "0":
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    now_there = _start_ticks(owner.pid)
    return bool(now_there) and now_there != started
