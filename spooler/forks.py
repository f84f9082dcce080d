"""A fork of this process is not this process: what it must not keep, and where it ends.

A handler may fork, and so may the libraries that it uses. The fork is a copy with all our code
around it: without these rules it would answer jobs, hear nobody, and hold our locks.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache

#: What is called at the begin of each fork.
_forget: list[Callable[[], None]] = []
_ours: set[int] = set()
#: Python drops signals that reach a fork before it has looked at itself: they wait until then.
_WAITING = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_mask = threading.local()


def in_forks(forget: Callable[[], None]) -> None:
    """Have each fork of this process begin with a call of `forget`."""
    _watch()
    if forget not in _forget:
        _forget.append(forget)


@cache
def _watch() -> None:
    def before() -> None:
        _mask.was = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITING)

    def after() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _mask.was)

    def begin() -> None:
        for forget in _forget:
            forget()
        after()

    os.register_at_fork(before=before, after_in_parent=after, after_in_child=begin)


def keep_to_ourselves(handle: int) -> None:
    """Have forks of this process close a descriptor: what it stands for is not theirs."""
    in_forks(_close_ours)
    _ours.add(handle)


def close(handle: int) -> None:
    """Close a descriptor that was kept to ourselves."""
    _ours.discard(handle)
    os.close(handle)


def _close_ours() -> None:
    for handle in _ours:
        with suppress(OSError):
            os.close(handle)
    _ours.clear()


@contextmanager
def here() -> Iterator[None]:
    """End whoever leaves this block in another process than the one that has entered it.

    Such a fork ends as a program would that has reached its end there: with the code of its
    `sys.exit`, with its traceback and 1, or with 0.
    """
    entered = os.getpid()
    try:
        yield
    except BaseException as error:
        if os.getpid() != entered:
            _leave(error)
        raise
    if os.getpid() != entered:
        _leave(None)


def _leave(error: BaseException | None) -> None:
    code = 0
    if isinstance(error, SystemExit):
        said = error.code
        code = said if isinstance(said, int) else int(said is not None)
        if isinstance(said, str):
            print(said, file=sys.stderr)
    elif error is not None:
        code = 1
        traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code & 0xFF)
