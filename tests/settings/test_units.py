import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooler.settings.units import as_duration, as_size, duration, size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (0, 0.0),
        (1.5, 1.5),
        ("2", 2.0),
        ("0.25", 0.25),
        ("10s", 10.0),
        ("10 s", 10.0),
        ("500ms", 0.5),
        ("10m", 600.0),
        ("10min", 600.0),
        ("1h30m", 5400.0),
        (" 1h 30m 5s ", 5405.0),
        ("1d", 86400.0),
    ],
)
def test_durations_as_people_write_them(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "s", "1 parsec", "-1", -1, "1h-3m", "10m x", True, None, [1], math.nan, math.inf,
     "nan", "inf", 10**400, "9" * 5000, "2y", "400d", "1e3", "\u0661s"],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_what_is_expected(text):
    with pytest.raises(ValueError, match=r'number of seconds or a text such as "10s"'):
        duration(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (1, 1),
        ("17", 17),
        ("17 B", 17),
        ("4 MiB", 4 * 2**20),
        ("4MiB", 4 * 2**20),
        ("4 mib", 4 * 2**20),
        ("1.5 KiB", 1536),
        ("1 kB", 1000),
        ("2 GB", 2 * 10**9),
    ],
)
def test_sizes_as_people_write_them(text, number):
    assert size(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "MiB", "4 MX", "4M", 0, -1, True, 1.5, None, "0 B", 10**400, "9" * 400 + " TiB"],
)
def test_what_is_no_size_is_refused_with_what_is_expected(text):
    with pytest.raises(ValueError, match=r'number of bytes or a text such as "512 KiB"'):
        size(text)


@given(st.floats(0, 31_622_400, allow_nan=False).filter(lambda x: x == 0 or x > 1e-4))
def test_a_written_duration_reads_back_exactly(seconds):
    assert duration(as_duration(seconds)) == seconds


@given(st.integers(1, 2**50))
def test_a_written_size_reads_back_exactly(number):
    assert size(as_size(number)) == number
