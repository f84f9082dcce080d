import io
import json
import logging
import os
import re
from datetime import UTC, datetime

import pytest

from spooler.observe import log
from spooler.observe.events import EventName, Observer

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def lines():
    stream = io.StringIO()
    log.configure("info", "json", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_line_with_its_fields_first(lines):
    Observer(log.LogEvents()).emit(
        EventName.JOB_FAILED, reason="bad\nnews \u00b5", job="a" * 24, device="echo", attempt=2
    )
    (line,) = lines()
    assert list(line) == ["timestamp", "level", "event", "device", "job", "attempt", "reason"]
    assert line["event"] == "job.failed"
    assert line["level"] == "warning"
    assert line["reason"] == "bad\nnews \u00b5"
    assert ISO.fullmatch(line["timestamp"])


def test_json_stays_json_in_every_encoding():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    log.configure("info", "json", stream)
    Observer(log.LogEvents()).emit(EventName.JOB_FAILED, reason="\u00b5 \u2603 \U0001f389")
    stream.flush()
    assert json.loads(stream.buffer.getvalue())["reason"] == "\u00b5 \u2603 \U0001f389"


def test_the_time_of_a_line_is_the_time_of_the_event(lines):
    class Clock:
        def now(self):
            return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

        def monotonic(self):
            return 0.0

    Observer(log.LogEvents(), clock=Clock()).emit(EventName.DAEMON_STARTED)
    assert lines()[0]["timestamp"] == "2026-01-02T03:04:05.000000Z"


def test_what_libraries_log_in_words_comes_out_the_same_way(lines):
    logging.getLogger("apscheduler.scheduler").warning("missed %s", "it")
    (line,) = lines()
    assert line["event"] == "log"
    assert line["message"] == "missed it"
    assert line["logger"] == "apscheduler.scheduler"
    assert ISO.fullmatch(line["timestamp"])


def test_chatter_of_libraries_is_left_out(lines):
    logging.getLogger("apscheduler.scheduler").info("Added job")
    logging.getLogger("watchdog.observers").info("in-event")
    assert lines() == []


def test_bound_fields_are_in_every_line_of_the_thread(lines):
    with log.bound(device="echo", job="j"):
        logging.getLogger("spooler.daemon").info("inside", extra={"attempt": 3})
        Observer(log.LogEvents()).emit(EventName.DEVICE_OPENED)
    logging.getLogger("spooler.daemon").info("outside")
    inside, event, outside = lines()
    assert (inside["device"], inside["job"], inside["attempt"]) == ("echo", "j", 3)
    assert event["device"] == "echo"
    assert "device" not in outside


def test_a_traceback_stays_inside_its_json_line(lines):
    try:
        int("boom")
    except ValueError:
        logging.getLogger("spooler").exception("the handler failed")
    (line,) = lines()
    assert "ValueError: invalid literal" in line["exception"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, b"x"])
def test_every_value_gives_a_line_that_json_readers_take(value):
    stream = io.StringIO()
    log.configure("info", "json", stream)
    Observer(log.LogEvents()).emit(EventName.JOB_FINISHED, seconds=value)
    line = json.loads(
        stream.getvalue(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON")
    )
    assert line["event"] == "job.finished"


@pytest.mark.parametrize(
    ("form", "stream", "readable"),
    [
        ("auto", io.StringIO, False),
        ("auto", Terminal, True),
        ("json", Terminal, False),
        ("console", io.StringIO, True),
    ],
)
def test_the_form_follows_the_terminal_unless_it_is_chosen(form, stream, readable):
    out = stream()
    log.configure("info", form, out)
    Observer(log.LogEvents()).emit(EventName.JOB_FINISHED, device="echo", seconds=0.1234567)
    text = out.getvalue()
    assert text.startswith("{") != readable
    if readable:
        assert "job.finished" in text
        assert "device=echo seconds=0.123" in text
        assert ("\x1b[" in text) == (stream is Terminal)


def test_a_readable_line_cannot_be_forged_by_what_is_logged():
    out = io.StringIO()
    log.configure("info", "console", out)
    evil = "x\n2026-01-01T00:00:00Z info job.finished\x1b[2J"
    Observer(log.LogEvents()).emit(EventName.JOB_FAILED, reason=evil)
    logging.getLogger("spooler").warning(evil)
    assert len(out.getvalue().splitlines()) == 2
    assert "\x1b" not in out.getvalue()


def test_configuring_again_replaces_and_does_not_double():
    first, second = io.StringIO(), io.StringIO()
    log.configure("info", "json", first)
    observer = Observer(log.LogEvents())
    observer.emit(EventName.JOB_CLAIMED)
    assert first.getvalue() == ""
    log.configure("debug", "json", second)
    observer.emit(EventName.JOB_CLAIMED)
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def test_a_log_that_cannot_be_written_stops_nothing(capsys):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    log.configure("info", "json", Full())
    Observer(log.LogEvents()).emit(EventName.JOB_FINISHED)
    logging.getLogger("spooler").error("x")
    assert capsys.readouterr().err == ""


def test_every_level_is_for_an_event_that_exists():
    assert set(log.LEVELS) <= set(EventName)


def test_a_traceback_on_a_terminal_steers_nothing():
    stream = Terminal()
    log.configure("info", "console", stream)
    try:
        pytest.fail("\x1b]0;mine\x07 \x9b31m\nnext")
    except pytest.fail.Exception:
        logging.getLogger("spooler").exception("the handler failed")
    text = re.sub("\x1b\\[[0-9;]*m", "", stream.getvalue(), count=2)
    assert "Traceback" in text
    assert all(line.isprintable() for line in text.splitlines())
    assert "\\x1b]0;mine" in text


@pytest.mark.parametrize("colours", [True, False])
def test_a_terminal_gets_colours_unless_they_are_not_wanted(colours):
    stream = Terminal()
    log.configure("info", "auto", stream, colours=colours)
    logging.getLogger("lab").warning("hot")
    assert ("\x1b[" in stream.getvalue()) is colours


def test_the_journal_is_told_the_priority_of_each_line(tmp_path):
    with (tmp_path / "journal").open("w+") as stream:
        facts = os.fstat(stream.fileno())
        here = {"JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino}"}
        assert log.is_journal(stream, here)
        assert not log.is_journal(stream, {"JOURNAL_STREAM": f"{facts.st_dev}:0"})
        assert not log.is_journal(stream, {})
        assert not log.is_journal(io.StringIO(), here)
        for form in ("json", "console"):
            log.configure("debug", form, stream, journal=True)
            logger = logging.getLogger("spooler.daemon")
            for level in (10, 20, 30, 40, 50):
                logger.log(level, "two\nlines")
            try:
                int("boom")
            except ValueError:
                logger.exception("the handler failed")
            logging.getLogger().handlers[-1].flush()
        lines = (tmp_path / "journal").read_text().splitlines()
    seen = [line[1:2] for line in lines if line.startswith("<")]
    assert len(seen) == len(lines)
    assert seen[:6] == ["7", "6", "4", "3", "2", "3"]
    assert json.loads(lines[2][3:])["level"] == "warning"
    assert set(seen[11:]) == {"3"}, "a traceback has the priority of its event"
