from datetime import UTC, datetime
from itertools import islice

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from spooler.settings.cron import checked


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("0 3 * * *", "0 3 * * *"),
        ("*/20 0-6 1,15 Jan-mar *", "*/20 0-6 1,15 Jan-mar *"),
        ("0  3 * *   MON ", "0 3 * * MON"),
        ("5/15 * * */12 *", "5/15 * * */12 *"),
        ("0 3 30 feb mon", "0 3 30 feb mon"),
        ("0 3 * * mon#1,fri#5", "0 3 * * mon#1,fri#5"),
    ],
)
def test_an_expression_stays_as_it_is_written(written, kept):
    assert checked(written) == kept


@pytest.mark.parametrize(
    ("written", "days"),
    [
        ("0 3 * * 0", [7, 14, 21]),
        ("0 3 * * 7", [7, 14, 21]),
        ("0 3 * * sun", [7, 14, 21]),
        ("0 3 * * fri-7", [5, 6, 7]),
        ("0 3 * * 1-5", [1, 2, 3]),
        ("0 3 31,28 * *", [28, 28, 31]),  # of June and July
        ("0 3 13 * fri", [5, 12, 13]),  # either will do, as in crontab(5)
        ("0 3 * * mon#2", [8, 13, 10]),  # of June, July and August
    ],
)
def test_days_are_those_of_crontab(written, days):
    monday = datetime(2026, 6, 1, tzinfo=UTC)
    assert [each.day for each in islice(CronSim(checked(written), monday), 3)] == days


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
        ("0 0 0 3 * *", "five fields"),
        ("0 0 L * *", "day of month 'L'"),
        ("0 0 * * fri#6", "day of week 'fri#6'"),
        ("0 0 1#1 * *", "day of month '1#1'"),
        ("4-4/2 0 * * *", "'4-4/2' has a step and a single value"),
        ("0 0 30 2 */2", "no month '2' has a day 30"),
    ],
)
def test_what_is_no_cron_expression_is_refused_with_the_field(written, complaint):
    with pytest.raises(ValueError, match=complaint):
        checked(written)


FIELDS = {
    "minutes": (0, 59),
    "hours": (0, 23),
    "days": (1, 28),
    "months": (1, 12),
    "weekdays": (0, 7),
}


def _lists(low, high):
    """Lists of items, each as its text and the numbers that crontab(5) means by it."""
    number = st.integers(low, high)
    one = number.map(lambda n: (str(n), {n}))
    all_of_them = st.just(("*", set(range(low, high + 1))))
    steps = st.builds(
        lambda step: (f"*/{step}", set(range(low, high + 1, step))), st.integers(1, 90)
    )
    onwards = st.builds(
        lambda n, step: (f"{n}/{step}", set(range(n, high + 1, step))), number, st.integers(1, 90)
    )
    spans = st.builds(
        lambda a, b: (f"{min(a, b)}-{max(a, b)}", set(range(min(a, b), max(a, b) + 1))),
        number,
        number,
    )
    strides = st.builds(
        lambda ends, step: (
            f"{min(ends)}-{max(ends)}/{step}",
            set(range(min(ends), max(ends) + 1, step)),
        ),
        st.lists(number, min_size=2, max_size=2, unique=True),
        st.integers(1, 90),
    )
    items = st.one_of(one, all_of_them, steps, spans, strides, onwards)
    return st.lists(items, min_size=1, max_size=3).map(
        lambda each: (
            ",".join(text for text, _ in each),
            set().union(*(means for _, means in each)),
        )
    )


# The days end at 28 so that no month is without a day; "*" and steps run to 31 all the same.
LONG_MONTHS = {29, 30, 31}


@given(st.tuples(*(_lists(*ends) for ends in FIELDS.values())))
def test_what_is_accepted_means_to_cronsim_what_it_means_to_crontab(fields):
    text = " ".join(text for text, _ in fields)
    read = CronSim(checked(text), datetime(2026, 6, 1, tzinfo=UTC))
    read.days -= LONG_MONTHS
    for name, (_, means) in zip(FIELDS, fields, strict=True):
        assert getattr(read, name) == means, (name, text)
