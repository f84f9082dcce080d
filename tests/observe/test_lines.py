"""A log that is not read, or cannot be written: whoever logs goes on."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from spooler.observe import lines
from spooler.observe.lines import WaitingLines


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe of one page, reading and writing end; whatever is open is closed."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    yield reading, writing
    for each in (reading, writing):
        os.close(each)


def logger_on(handler: logging.Handler) -> logging.Logger:
    logger = logging.Logger("test")
    logger.addHandler(handler)
    return logger


def test_nobody_waits_for_a_reader_and_what_is_missing_is_counted(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MOST_WAITING", 20_000)
    reading, writing = pipe
    handler = WaitingLines(writing, "utf-8")
    logger = logger_on(handler)
    for number in range(5000):
        logger.info("line %04d %s", number, "x" * 90)
    handler.flush()  # in vain, and not for ever
    text = b""
    while True:
        text += os.read(reading, 65536)
        seen = re.findall(rb"line (\d{4}) x{90}\n", text)
        left_out = [int(each) for each in re.findall(rb"(\d+) log lines dropped", text)]
        if len(seen) + sum(left_out) >= 5000:
            break
    assert len(seen) + sum(left_out) == 5000
    assert len(seen) < 1000
    assert seen == sorted(seen), "in the order of the calls"
    assert b"line 0000" in text


def test_all_lines_come_out_where_they_are_read(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    handler = WaitingLines(writing, "ascii")
    logger = logger_on(handler)
    said, text = b"", b""
    for number in range(200):
        logger.info("line %d of 200 \u00b5", number)
        said += f"line {number} of 200 \\xb5\n".encode()
    while len(text) < len(said):
        text += os.read(reading, 65536)
    assert text == said


def test_a_program_that_ends_writes_its_last_lines_first() -> None:
    program = (
        "import logging, sys\n"
        "from spooler.observe import log\n"
        "log.configure('info', 'json', sys.stderr)\n"
        "for number in range(1000): logging.getLogger('x').warning('line %d', number)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stderr.count(b"\n") == 1000
    assert b"line 999" in done.stderr.splitlines()[-1]


def test_a_full_disk_costs_lines_and_no_more() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    handler = WaitingLines(full, "utf-8")
    logger_on(handler).info("to nowhere")
    handler.flush()
    logger_on(handler).info("and again")
    handler.flush()
    os.close(full)
