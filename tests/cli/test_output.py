"""Tables on terminals of any width, and in colours only where they are wanted."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios

import pytest


def on_a_terminal(process, *arguments, columns, env, **options):
    """What a command shows on a terminal of so many columns."""
    env = {"COLUMNS": "", **env}  # pytest-xdist says 80 there
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    ends = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    child = process(*arguments, env=env, **ends, **options)
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
def test_only_the_last_column_is_wrapped_in_a_narrow_terminal(lab, process):
    lab.drain()
    shown = on_a_terminal(process, "devices", columns=40, cwd=lab.folder, env={"TERM": "xterm"})
    assert "broken  1.0.0    simulator  0        " in shown
    assert "Answers with the\r\n" in shown


@pytest.mark.acceptance
@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_the_log_has_colours_unless_they_are_not_wanted(lab, process, environ, coloured):
    environ = {"TERM": "xterm", "NO_COLOR": "", **environ}
    shown = on_a_terminal(process, "run", "--once", columns=80, cwd=lab.folder, env=environ)
    assert "daemon.started" in shown
    assert ("\x1b[" in shown) is coloured
