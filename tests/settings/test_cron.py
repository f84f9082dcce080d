import pytest
from apscheduler.triggers.cron import CronTrigger
from hypothesis import given
from hypothesis import strategies as st

from spooler.settings.cron import normalised


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("0 3 * * *", "0 3 * * *"),
        ("*/20 0-6 1,15 Jan-mar *", "0,20,40 0-6 1,15 jan-mar *"),
        ("0 3 29 2 *", "0 3 29 2 *"),
        ("0 3 31,28 2 *", "0 3 31,28 2 *"),
        ("0 3 * * 0", "0 3 * * sun"),
        ("0 3 * * 7", "0 3 * * sun"),
        ("0 3 * * 1-5", "0 3 * * mon,tue,wed,thu,fri"),
        ("0 3 * * fri-7", "0 3 * * sun,fri,sat"),
        ("0  3 * *   MON", "0 3 * * mon"),
        ("5/15 * * */12 *", "5,20,35,50 * * 1 *"),
    ],
)
def test_weekdays_become_names_as_crontab_means_them(written, meant):
    assert normalised(written) == meant


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("0 3 * *", "five fields"),
        ("", "five fields"),
        ("60 3 * * *", "minute '60' is not between 0 and 59"),
        ("0 24 * * *", "hour '24'"),
        ("0 0 0 * *", "day of month '0'"),
        ("0 0 * 13 *", "month '13'"),
        ("0 3 30 feb *", "no month 'feb' has a day 30"),
        ("0 3 31 2,4-4,9/20 *", "has a day 31"),
        ("0 0 * * 8", "day of week '8'"),
        ("0 0 * * someday", "day of week 'someday'"),
        ("*/0 0 * * *", "minute"),
        ("5-1 0 * * *", "backwards"),
        ("1,,2 0 * * *", "minute ''"),
        ("@daily", "five fields"),
    ],
)
def test_what_is_no_cron_expression_is_refused_with_the_field(written, complaint):
    with pytest.raises(ValueError, match=complaint):
        normalised(written)


def _fields(low, high):
    number = st.integers(low, high).map(str)
    pair = st.tuples(st.integers(low, high), st.integers(low, high)).map(sorted)
    spans = pair.map(lambda two: f"{two[0]}-{two[1]}")
    steps = st.integers(1, 30).map(lambda step: f"*/{step}")
    return st.lists(st.one_of(number, spans, steps, st.just("*")), min_size=1, max_size=3).map(
        ",".join
    )


@given(st.tuples(*map(_fields, (0, 0, 1, 1, 0), (59, 23, 28, 12, 7))))
def test_whatever_is_accepted_is_understood_by_the_scheduler(parts):
    CronTrigger.from_crontab(normalised(" ".join(parts)), timezone="UTC")
