"""A window is open for its real length, on the nights on which the clock changes too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from spooler.daemon.device_rules import DeviceRules
from spooler.daemon.schedule.opening_hours import OpeningHours
from spooler.daemon.schedule.windows import Window
from spooler.model.result import Outcome
from spooler.model.state import State
from spooler.observe.events import Observation, Observer
from spooler.protocols import RunControl
from spooler.testing.clock import ManualClock
from tests.daemon.parts import Scripted

HOUR = 3600.0
BERLIN, PACIFIC, LORD_HOWE = "Europe/Berlin", "US/Pacific", "Australia/Lord_Howe"
ZONES = (BERLIN, PACIFIC, LORD_HOWE, "UTC")
BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
HALF_PAST = [f"{hour:02}:30" for hour in range(2, 13)]
EVEN_HOURS = [f"{hour:02}:15" for hour in (2, 4, 6, 8, 10, 12)]


def window(cron: str = "0 3 * * *", duration: float = 1800.0, zone: str = "UTC") -> Window:
    return Window.of("maintenance", cron, duration, "", zone)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def openings(each: Window, begin: datetime, end: datetime) -> Iterator[datetime]:
    opening = each.opens_after(begin - TICK)
    while opening is not None and opening < end:
        yield opening
        opening = each.opens_after(opening)


@pytest.mark.parametrize(
    ("hour", "minute", "is_open"),
    [(2, 59, False), (3, 0, True), (3, 15, True), (3, 29, True), (3, 30, False), (15, 0, False)],
)
def test_a_window_is_open_when_it_says(hour: int, minute: int, *, is_open: bool) -> None:
    now = datetime(2026, 6, 1, hour, minute, tzinfo=UTC)
    assert (window().opened_at(now) is not None) == is_open


def test_a_window_over_midnight_and_one_longer_than_its_period() -> None:
    late = window("30 23 * * *", HOUR)
    assert late.opened_at(utc("2026-06-02T00:15")) == utc("2026-06-01T23:30")
    always = window("* * * * *", 120)
    for second in range(0, 180, 7):
        moment = utc("2026-06-01T05:00") + timedelta(seconds=second)
        assert always.opened_at(moment) == moment.replace(second=0)


@given(st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)))  # noqa: DTZ001
def test_windows_against_arithmetic(moment: datetime) -> None:
    now = moment.replace(tzinfo=UTC)
    seconds = (now.hour * 60 + now.minute) * 60 + now.second + now.microsecond / 1e6
    assert (window().opened_at(now) is not None) == (3 * 3600 <= seconds < 3.5 * 3600)


# The right values are written by hand from the law of each place. UTC all along.
@pytest.mark.parametrize(
    ("cron", "zone", "day", "expected"),
    [
        # Forward at 01:00 UTC, from 02:00 to 03:00.
        ("30 2 * * *", BERLIN, "2026-03-29", ["01:00"]),
        ("0 2 * * *", BERLIN, "2026-03-29", ["01:00"]),
        ("30 1 * * *", BERLIN, "2026-03-29", ["00:30"]),
        ("30 3 * * *", BERLIN, "2026-03-29", ["01:30"]),
        ("0,30 2,3 * * *", BERLIN, "2026-03-29", ["01:00", "01:30"]),
        ("*/20 2 * * *", BERLIN, "2026-03-29", ["01:00"]),
        ("* 2 * * *", BERLIN, "2026-03-29", ["01:00"]),
        ("15 */2 * * *", BERLIN, "2026-03-29", ["01:00", *EVEN_HOURS]),
        ("30 * * * *", BERLIN, "2026-03-29", [f"{hour:02}:30" for hour in range(13)]),
        # Back at 01:00 UTC, from 03:00 to 02:00.
        ("30 2 * * *", BERLIN, "2026-10-25", ["00:30"]),
        ("0 2 * * *", BERLIN, "2026-10-25", ["00:00"]),
        ("0 3 * * *", BERLIN, "2026-10-25", ["02:00"]),
        ("*/20 2 * * *", BERLIN, "2026-10-25", ["00:00", "00:20", "00:40"]),
        ("30 * * * *", BERLIN, "2026-10-25", [f"{hour:02}:30" for hour in range(13)]),
        ("30 0-23 * * *", BERLIN, "2026-10-25", [f"{hour:02}:30" for hour in range(13)]),
        ("30 */1 * * *", BERLIN, "2026-10-25", [f"{hour:02}:30" for hour in range(13)]),
        ("30 0-22 * * *", BERLIN, "2026-10-25", ["00:30", *HALF_PAST]),
        # Forward at 10:00 UTC on the 8th, from 02:00 to 03:00; the 9th begins an hour earlier.
        ("0 0 * * *", PACIFIC, "2026-03-08", ["08:00"]),
        ("30 2 * * *", PACIFIC, "2026-03-08", ["10:00"]),
        ("0 0 * * *", PACIFIC, "2026-03-09", ["07:00"]),
        ("0 0 * * mon", PACIFIC, "2026-03-09", ["07:00"]),
        # Back at 09:00 UTC, from 02:00 to 01:00.
        ("30 1 * * *", PACIFIC, "2026-11-01", ["08:30"]),
        # Half an hour: forward from 02:00 to 02:30 at 15:30 UTC, back from 02:00 to 01:30 at 15:00.
        ("15 2 * * *", LORD_HOWE, "2026-10-03T12", ["15:30"]),
        ("45 2 * * *", LORD_HOWE, "2026-10-03T12", ["15:45"]),
        ("45 1 * * *", LORD_HOWE, "2026-04-04T12", ["14:45"]),
        ("15 2 * * *", LORD_HOWE, "2026-04-04T12", ["15:45"]),
        # Midnight itself does not exist: from 00:00 to 01:00 at 04:00 UTC.
        ("0 0 * * *", "America/Santiago", "2026-09-06", ["04:00"]),
        ("0 0 * * sun", "America/Santiago", "2026-09-06", ["04:00"]),
        (
            "30 * * * sun",
            "America/Santiago",
            "2026-09-06T02",
            [f"{hour:02}:30" for hour in range(4, 15)],
        ),
    ],
)
def test_the_nights_on_which_the_clock_changes(
    cron: str, zone: str, day: str, expected: list[str]
) -> None:
    begin = utc(day)
    found = openings(window(cron, 60, zone), begin, begin + timedelta(hours=13))
    assert [f"{each:%H:%M}" for each in found] == expected


@pytest.mark.parametrize(
    ("cron", "length", "zone", "opens", "closes"),
    [
        ("30 2 * * *", HOUR, BERLIN, "2026-03-29T01:00", "2026-03-29T02:00"),
        ("30 2 * * *", HOUR, BERLIN, "2026-10-25T00:30", "2026-10-25T01:30"),
        ("0 2 * * *", 2 * HOUR, BERLIN, "2026-03-29T01:00", "2026-03-29T03:00"),
        ("0 22 * * sat", 5 * HOUR, BERLIN, "2026-03-28T21:00", "2026-03-29T02:00"),
        ("0 22 * * sat", 5 * HOUR, BERLIN, "2026-10-24T20:00", "2026-10-25T01:00"),
        ("0 0 * * *", 2 * HOUR, PACIFIC, "2026-03-09T07:00", "2026-03-09T09:00"),
        ("30 1 * * *", HOUR, PACIFIC, "2026-11-01T08:30", "2026-11-01T09:30"),
        ("45 1 * * *", HOUR, LORD_HOWE, "2026-04-04T14:45", "2026-04-04T15:45"),
    ],
)
def test_a_window_lasts_its_real_length_when_the_clock_changes(
    cron: str, length: float, zone: str, opens: str, closes: str
) -> None:
    each = window(cron, length, zone)
    minutes = [utc(opens) + timedelta(minutes=n) for n in range(-240, 600)]
    is_open = [moment for moment in minutes if each.opened_at(moment) is not None]
    assert is_open == [moment for moment in minutes if utc(opens) <= moment < utc(closes)]
    assert {each.opened_at(moment) for moment in is_open} == {utc(opens)}


# (ours, what cronsim is given): cronsim's rule for a skipped or repeated time goes by the text.
EXPRESSIONS = [
    ("30 2 * * *", "30 2 * * *"),
    ("0 2 * * *", "0 2 * * *"),
    ("45 1 * * *", "45 1 * * *"),
    ("0 0 * * *", "0 0 * * *"),
    ("15 2 1-7 * sun", "15 2 1-7 * sun"),
    ("0 2 * * sun#5", "0 2 * * sun#5"),
    ("*/40 1-3/2 * * *", "0,40 1,3 * * *"),
    ("20 */2 */2 * sat", "20 0,2,4,6,8,10,12,14,16,18,20,22 */2 * sat"),
    ("5 * * 3,4,10,11 *", "5 * * 3,4,10,11 *"),
]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(("cron", "given_to_cronsim"), EXPRESSIONS)
def test_two_years_against_cronsim(cron: str, given_to_cronsim: str, zone: str) -> None:
    begin = BEGIN.astimezone(UTC if zone == "UTC" else ZoneInfo(zone)) - timedelta(seconds=1)
    right = []
    for each in CronSim(given_to_cronsim, begin):
        if each >= END:
            break
        right.append(each.astimezone(UTC))
    assert len(right) > 7
    length = 900.0
    ours = window(cron, length, zone)
    assert list(openings(ours, BEGIN, END)) == right
    for opening, following in pairwise(right):
        closing = opening + timedelta(seconds=length)
        assert closing < following
        assert ours.opened_at(opening) == ours.opened_at(closing - TICK) == opening
        assert ours.opened_at(closing) is ours.opened_at(following - TICK) is None


def test_every_day_opens_at_the_first_instant_that_is_not_before_its_time() -> None:
    """The rule itself, minute by minute and without cronsim, on the days around each change."""
    for zone in ZONES[:3]:
        place = ZoneInfo(zone)
        days = [BEGIN + timedelta(days=n) for n in range(730)]
        changes = [a for a, b in pairwise(days) if offset(a, place) != offset(b, place)]
        assert len(changes) == 4
        for change in changes:
            begin = change - timedelta(days=1)
            minutes = [begin + timedelta(minutes=n) for n in range(3 * 1440)]
            shown = [moment.astimezone(place).replace(tzinfo=None) for moment in minutes]
            for hour, minute in ((0, 0), (1, 30), (1, 45), (2, 0), (2, 15), (2, 59), (3, 0)):
                date = change.astimezone(place).date()
                for day in (date, date + timedelta(days=1)):
                    wanted = datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001
                    first = next(m for m, s in zip(minutes, shown, strict=True) if s >= wanted)
                    daily = window(f"{minute} {hour} * * *", 60, zone)
                    assert daily.opened_at(first) == first, (zone, wanted)
                    assert first in openings(daily, begin, begin + timedelta(days=3))


def offset(moment: datetime, place: ZoneInfo) -> timedelta | None:
    return moment.astimezone(place).utcoffset()


@given(
    steps=st.lists(
        st.one_of(
            st.floats(-40 * HOUR, 40 * HOUR),
            st.floats(-300, 300),
            st.integers(-4, 4).map(lambda n: n * 1800.0),
        ),
        min_size=1,
        max_size=12,
    ),
    night=st.sampled_from(["2026-03-29T01:00", "2026-10-25T01:00", "2026-06-01T00:30"]),
    cron=st.sampled_from(["30 2 * * *", "*/10 * * * *", "0 2,3 * * *", "0 3 * * sun"]),
    length=st.sampled_from([60.0, HOUR, 30 * HOUR]),
)
def test_what_was_asked_before_changes_no_answer(
    steps: list[float], night: str, cron: str, length: float
) -> None:
    """The wall clock is set forward and back; a window that has never been asked agrees."""
    asked, now = window(cron, length, BERLIN), utc(night)
    for step in steps:
        now += timedelta(seconds=step)
        fresh = window(cron, length, BERLIN)
        assert asked.opened_at(now) == fresh.opened_at(now)
        assert asked.opens_after(now) == fresh.opens_after(now)


def test_an_hourly_window_does_not_depend_on_where_a_search_begins() -> None:
    """Half an hour comes twice: whoever asks in it for the first time hears what others hear."""
    asked = window("45 * * * *", 60, LORD_HOWE)
    seen = list(openings(asked, utc("2026-04-04T12:00"), utc("2026-04-04T20:00")))
    for minute in range(0, 360, 5):
        now = utc("2026-04-04T12:00") + timedelta(minutes=minute)
        fresh = window("45 * * * *", 60, LORD_HOWE).opens_after(now)
        assert fresh == next(each for each in seen if each > now)


def test_rare_and_endless_windows() -> None:
    leap = window("0 0 29 2 *", 86400.0)
    assert leap.opens_after(utc("2026-01-01T00:00")) == utc("2028-02-29T00:00")
    assert leap.opened_at(utc("2028-02-29T23:59")) == utc("2028-02-29T00:00")
    assert leap.opened_at(utc("2028-03-01T00:00")) is None
    endless = window("0 0 29 2 *", 1e15)
    assert endless.opened_at(utc("2027-12-31T00:00")) == utc("2024-02-29T00:00")
    assert window("* * * * *", 1e15).opened_at(utc("1970-01-01T00:00")) is not None


def test_looks_between_two_openings_search_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked before each look at the queue; cron is computed once per opening."""
    searches = 0

    class Counting(CronSim):
        def __init__(self, *args: object) -> None:
            nonlocal searches
            searches += 1
            super().__init__(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("spooler.daemon.schedule.openings.CronSim", Counting)
    nightly, now = window("30 2 * * *", HOUR, BERLIN), utc("2026-03-28T12:00")
    nightly.opened_at(now)
    searches = 0
    for _ in range(1440):
        now += timedelta(minutes=1)
        nightly.opened_at(now)
        nightly.opens_after(now)
    assert searches == 1


def test_utc_needs_no_time_zone_database(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ZoneInfo:
        raise LookupError(name)

    monkeypatch.setattr("spooler.daemon.schedule.windows.ZoneInfo", missing)
    assert window().opened_at(utc("2026-06-01T03:10")) == utc("2026-06-01T03:00")


@pytest.fixture
def hours() -> tuple[OpeningHours, ManualClock, list[Observation]]:
    clock, seen = ManualClock(utc("2026-03-09T05:00")), list[Observation]()
    observer = Observer(seen.append, clock=clock)
    return OpeningHours(Scripted(), clock, observer, lambda note: None), clock, seen


def test_a_device_in_a_midnight_window_on_the_day_after_the_clock_changes(
    hours: tuple[OpeningHours, ManualClock, list[Observation]],
) -> None:
    device, clock, _ = hours
    rules = DeviceRules("q", windows=(window("0 0 * * *", 2 * HOUR, PACIFIC),))
    closed = []
    for _ in range(24):
        if device.closed(rules):
            closed.append(f"{clock.now():%H:%M}")
        clock.advance(900)
    assert closed == ["07:00", "07:15", "07:30", "07:45", "08:00", "08:15", "08:30", "08:45"]


def test_a_reload_that_changes_no_window_does_not_open_it_again(
    hours: tuple[OpeningHours, ManualClock, list[Observation]],
) -> None:
    device, clock, seen = hours
    rules = DeviceRules("q", windows=(window("0 0 * * *", 2 * HOUR, PACIFIC),))
    clock.advance(2.5 * HOUR)
    assert device.closed(rules)
    again = replace(rules, windows=(window("0 0 * * *", 2 * HOUR, PACIFIC),))
    assert device.closed(again)
    assert len(seen) == 1


class Calibrated(Scripted):
    """A runner whose calibrations end as they are told to."""

    outcome = Outcome(State.DONE)

    def calibrate(self, timeout: float, control: RunControl) -> Outcome:
        return self.outcome


@pytest.mark.parametrize("rests", [False, True])
def test_a_calibration_that_failed_is_shown_until_one_succeeds(rests: bool) -> None:
    clock, notes, runner = ManualClock(utc("2026-03-09T05:00")), list[str](), Calibrated()
    device = OpeningHours(runner, clock, Observer(clock=clock), notes.append)
    closed = replace(window("30 * * * *", 120), note="helium")
    calibration = replace(window("0 * * * *", 600), kind="calibration")
    rules = DeviceRules("q", windows=(calibration, closed), rests_uncalibrated=rests)
    runner.outcome = Outcome(State.ERROR, "no light")
    assert device.closed(rules) is rests
    assert notes[-1].startswith("calibration failed: no light")
    assert ("takes no jobs until" in notes[-1]) is rests
    clock.advance(900)
    assert device.closed(rules) is rests
    assert notes[-1].startswith("calibration failed: no light"), "its window is over"
    clock.advance(900)
    assert device.closed(rules)
    assert notes[-1] == "helium"
    clock.advance(300)
    assert device.closed(rules) is rests
    assert notes[-1].startswith("calibration failed: no light")
    runner.outcome = Outcome(State.DONE)
    clock.advance(1500)
    assert not device.closed(rules)
    clock.advance(900)
    assert not device.closed(rules)
    assert notes[-1] == ""
