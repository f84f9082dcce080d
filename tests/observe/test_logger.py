import io
import json
import logging
import subprocess
import sys

import pytest

from spooler.observe import log
from spooler.observe.logger import get_logger, leave_out


@pytest.fixture
def lines():
    stream = io.StringIO()
    logger = get_logger("spooler.early")  # as modules do: before logging is configured
    log.configure("info", "json", stream)
    return logger, lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_in_words_is_the_event_log_with_its_fields(lines):
    logger, written = lines
    with log.bound(device="echo"):
        logger.warning("a job waits", job="j1", error="it may not be read")
    (line,) = written()
    del line["timestamp"]
    assert line == {
        "level": "warning",
        "event": "log",
        "device": "echo",
        "job": "j1",
        "error": "it may not be read",
        "message": "a job waits",
        "logger": "spooler.early",
    }


def test_levels_values_and_tracebacks_work_as_everywhere(lines):
    logger, written = lines
    logger.debug("not at this level")
    logger.info("%d of %s", 2, "them")
    logger.info("100 % sure")
    try:
        int("boom")
    except ValueError:
        logger.exception("it failed")
    two, sure, failed = written()
    assert two["message"] == "2 of them"
    assert sure["message"] == "100 % sure"
    assert failed["level"] == "error"
    assert "invalid literal" in failed["exception"]


def test_a_reader_of_the_console_sees_the_fields():
    stream = io.StringIO()
    log.configure("info", "console", stream)
    get_logger("spooler.x").warning("a job waits", job="j1")
    assert "warning a job waits (spooler.x) job=j1" in stream.getvalue()


def test_what_is_left_out(lines):
    _, written = lines
    leave_out("somebody.chatty", "closed it")
    logging.getLogger("somebody.chatty").warning("just %s", "closed it")
    logging.getLogger("somebody.chatty").warning("broken")
    assert [line["message"] for line in written()] == ["broken"]


def ran(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout, done.stderr


SPEAK = """
import sys
from spooler.observe.logger import get_logger, keep_quiet
logger = get_logger("spooler.x")
{quiet}
assert "structlog" not in sys.modules, "only what logs pays for it"
logger.warning("a job waits", job="j1")
try:
    int("boom")
except ValueError:
    logger.exception("it failed")
"""


def test_a_command_without_a_log_says_nothing():
    assert ran(SPEAK.format(quiet="keep_quiet()")) == ("", "")


def test_in_somebody_elses_program_their_own_rules_hold():
    out, err = ran(SPEAK.format(quiet=""))
    assert out == ""
    assert err.splitlines()[:2] == ["a job waits", "it failed"]
    out, err = ran("import logging\nlogging.basicConfig()\n" + SPEAK.format(quiet=""))
    assert out == ""
    assert err.startswith("WARNING:spooler.x:a job waits\nERROR:spooler.x:it failed\n")
