"""A handler that does what no handler should; copied into the lab's folder by test_abuse.py."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any


class Abusing:
    """Writes the pids of its process and its forks into its book."""

    params = dict[str, Any]

    def __init__(self, book: str) -> None:
        self.book = book

    def open(self) -> None:
        return

    def run(self, params: Mapping[str, Any], context: Any) -> Mapping[str, Any]:
        self._note(context.job_id, os.getpid())
        return getattr(self, str(params["do"]))(context) or {"pid": os.getpid()}

    def close(self) -> None:
        return

    def _note(self, job: str, pid: int) -> None:
        handle = os.open(self.book, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(handle, f"pid {job} {pid}\n".encode())
        os.close(handle)

    def nothing(self, _: Any) -> None:
        return

    def segfault(self, _: Any) -> None:
        ctypes.string_at(0)

    def leak(self, _: Any) -> None:
        kept = []
        while True:
            kept.append(bytearray(16 * 2**20))

    def leak_in_c(self, _: Any) -> None:
        """Memory that Python knows nothing of; what does not get any crashes, as C code does."""
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        libc.malloc.argtypes = [ctypes.c_size_t]
        while True:
            ctypes.memset(libc.malloc(16 * 2**20) or 0, 1, 16 * 2**20)

    def forks(self, context: Any) -> None:
        """Children and their children, all of them deaf to SIGTERM."""
        for _ in range(3):
            child = os.fork()
            if child == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                os.fork()
                self._note(context.job_id, os.getpid())
                time.sleep(600)
        time.sleep(600)

    def forks_and_dies(self, context: Any) -> None:
        if os.fork() == 0:
            self._note(context.job_id, os.getpid())
            time.sleep(600)
        time.sleep(0.2)
        os._exit(9)

    def ignores_sigterm(self, _: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(0.01)

    def holds_the_gil(self, _: Any) -> None:
        ctypes.PyDLL(None).sleep(600)

    def closes_its_pipes(self, _: Any) -> None:
        os.closerange(3, 200)
        time.sleep(600)

    def prints(self, _: Any) -> None:
        line = ("x" * 99 + "\n") * 10_000
        for _ in range(2000):
            sys.stdout.write(line)

    def prints_without_line_ends(self, _: Any) -> None:
        while True:
            sys.stderr.write("x" * 1_000_000)

    def returns_too_much(self, _: Any) -> Mapping[str, Any]:
        return {"text": "x" * 2_000_000}
