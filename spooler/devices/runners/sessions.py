"""Ending a process together with everything that it started.

The process must lead its own session and must not have been reaped: as long as it is there,
even as a zombie, its number cannot come to belong to somebody else.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended: its exit code, or the signal that ended it."""

    code: int = 0
    signum: int = 0

    def __str__(self) -> str:
        if not self.signum:
            return f"ended by itself with exit code {self.code}"
        try:
            name = signal.Signals(self.signum).name
        except ValueError:
            name = f"signal {self.signum}"
        hint = " (by the system, when memory ran out?)" if self.signum == signal.SIGKILL else ""
        return f"ended with {name}{hint}"


def end_of(pid: int) -> End | None:
    """Return how the child process `pid` ended, or None while it runs. It is not reaped."""
    try:
        info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return End()  # somebody else in this process has reaped it
    if info is None:
        return None
    if info.si_code == os.CLD_EXITED:
        return End(code=info.si_status)
    return End(signum=info.si_status)


def signal_session(leader: int, signum: int) -> None:
    """Send `signum` to all process groups of the session that `leader` leads."""
    for group in {leader, *_groups(leader)}:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signum)


def kill_session(leader: int) -> None:
    """SIGKILL until nothing of the session is left but zombies. A process may fork meanwhile."""
    for _ in range(_ROUNDS):
        signal_session(leader, signal.SIGKILL)
        if not _groups(leader):
            return
        time.sleep(0.002)


def _groups(leader: int) -> set[int]:
    """Return the process groups with a live member in the session; Linux only, else empty."""
    groups: set[int] = set()
    try:
        entries = [name for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - names only
    except OSError:
        return groups
    for name in entries:
        try:
            stat = Path("/proc", name, "stat").read_bytes()
        except OSError:
            continue
        # After the command in brackets: state, parent, group, session.
        state, _, group, session = stat.rpartition(b")")[2].split()[:4]
        if int(session) == leader and state not in {b"Z", b"X"}:
            groups.add(int(group))
    return groups
