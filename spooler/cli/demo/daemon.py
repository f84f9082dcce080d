"""The daemon of the demo: a real process, ended by a real signal."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import typer

from spooler.cli import exits, output, session

_TAIL = 3
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def daemon(config: Path, log: Path, *, patience: float) -> Iterator[Callable[[], None]]:
    """`spooler run` in a child process for as long as the block lasts, its log in `log`.

    Gives a function that ends the demo when the daemon has ended by itself. So does leaving the
    block when it did not end in order.
    """
    with _ends_in_order() as interruptible:
        child = _start(config, log)

        def check() -> None:
            if child.poll() is not None:
                _failed(child.returncode, log)

        try:
            interruptible()
            yield check
        finally:
            _end(child, patience)
        if child.returncode != 0:
            _failed(child.returncode, log)


def _start(config: Path, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "spooler", "run", "--config", str(config)]
    with log.open("wb") as lines:
        return subprocess.Popen(  # noqa: S603 - our own interpreter, module and file
            command,
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=lines,
            cwd=config.parent,
            env=session.outside_environment(),
        )


@contextmanager
def _ends_in_order() -> Iterator[Callable[[], None]]:
    """Ctrl-C, SIGTERM and a closed terminal interrupt the block, so that it can clean up.

    Not before the function that this gives is called: a daemon that has just been started and
    that nobody knows of yet would be left behind.
    """
    asked: list[int] = []
    open_to_it: list[bool] = []

    def note(number: int, _: FrameType | None) -> None:
        asked.append(number)
        if open_to_it:
            raise KeyboardInterrupt

    def interruptible() -> None:
        open_to_it.append(True)
        if asked:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in _ENDINGS}
    try:
        yield interruptible
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(child: subprocess.Popen[bytes], patience: float) -> None:
    """SIGTERM, and SIGKILL when that does not help or nobody wants to wait for it."""
    child.terminate()
    try:
        child.wait(patience)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        child.kill()
        child.wait()


def _failed(code: int, log: Path) -> None:
    words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-_TAIL:]
    said = " / ".join(line.strip() for line in words) or "nothing"
    output.note(
        f"spooler: the daemon of the demo ended with exit code {code}; it said last:"
        f" {output.plain(said)}"
    )
    raise typer.Exit(code if code > 0 else exits.Exit.INTERNAL)
