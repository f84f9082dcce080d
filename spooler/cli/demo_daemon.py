"""The daemon of the demo: a real process, ended by a real signal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from spooler.cli import exits, output

_TAIL = 3


@contextmanager
def daemon(config: Path, log: Path, *, patience: float) -> Iterator[Callable[[], None]]:
    """`spooler run` in a child process for as long as the block lasts, its log in `log`.

    Gives a function that ends the demo when the daemon has ended by itself. So does leaving the
    block when it did not end in order.
    """
    command = [sys.executable, "-m", "spooler", "run", "--config", str(config)]
    with log.open("wb") as lines:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter, module and file
            command, stdin=subprocess.DEVNULL, stdout=lines, stderr=lines, cwd=config.parent
        )

    def check() -> None:
        if child.poll() is not None:
            _failed(child.returncode, log)

    try:
        yield check
    finally:
        _end(child, patience)
    if child.returncode != 0:
        _failed(child.returncode, log)


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
