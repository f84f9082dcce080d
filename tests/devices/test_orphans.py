"""A handler whose daemon is killed makes its instrument safe and ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import wait_gone

_PARENT = """
import os, sys, threading
from spooler.devices import HandlerSpec, open_runner
from spooler.model.run import RunRequest

sys.path.insert(0, {folder!r})
spec = HandlerSpec("left", "misbehaving:Zoo", {{"diary": {diary!r}}}, grace=0.4)
runner = open_runner(spec)
runner.open()
if {fork}:
    if os.fork() == 0:
        threading.Event().wait(30)
        os._exit(0)

class Control:
    stop_reason = None
    def progress(self, text):
        print(runner.pid, flush=True)

runner.run(RunRequest("j", 1, {{"do": {what!r}}}, 600.0, "/nowhere"), Control())
"""


@pytest.mark.parametrize("what", ["wait", "deaf", "stubborn"])
@pytest.mark.parametrize("fork", [False, True])
def test_the_handler_does_not_outlive_a_killed_daemon(
    tmp_path: Path, what: str, fork: bool
) -> None:
    diary = tmp_path / "diary"
    folder = str(Path(__file__).parent / "handlers")
    code = _PARENT.format(folder=folder, diary=str(diary), what=what, fork=fork)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        assert wait_gone(pid, 20)
        parent.stdout.close()
    assert diary.read_text().split() == ["open"] if what == "stubborn" else ["open", "close"]
