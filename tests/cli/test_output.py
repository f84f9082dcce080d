"""Tables on terminals of any width, and in colours only where they are wanted."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
from pathlib import Path

import pytest


def on_a_terminal(process, *arguments, columns, **options):
    """What a command shows on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    child = process(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, **options)
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:
        pass  # the end of a terminal
    os.close(ours)
    child.wait(timeout=30)
    return shown.decode()


@pytest.mark.acceptance
def test_names_are_whole_in_a_narrow_terminal(lab, process):
    text = lab.settings + '[devices.fermionsinroomtwo]\nhandler = "echo"\n'
    Path("spooler.toml").write_text(text)
    shown = on_a_terminal(process, "check", columns=40, env={"TERM": "xterm"})
    assert "device fermionsinroomtwo" in shown
    widths = [len(line) for line in shown.splitlines() if "\x1b" not in line]
    assert max(widths) < 60, "the last column is wrapped"


@pytest.mark.acceptance
@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_the_log_has_colours_unless_they_are_not_wanted(lab, process, environ, coloured):
    environ = {"TERM": "xterm", "NO_COLOR": "", **environ}
    shown = on_a_terminal(process, "run", "--once", columns=80, cwd=lab.folder, env=environ)
    assert "daemon.started" in shown
    assert ("\x1b[" in shown) is coloured
