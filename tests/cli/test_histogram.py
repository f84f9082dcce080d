import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooler.cli.jobs import histogram, result
from spooler.model.artifact import Artifact
from spooler.model.result import Result


def test_outcomes_come_in_numerical_order():
    shots = ["10", "9", "9", "0 1", "0 0", "up"]
    assert histogram.counted(shots) == [("0 0", 1), ("0 1", 1), ("9", 2), ("10", 1), ("up", 1)]


@given(st.lists(st.sampled_from(["0", "1", "2", "x"])))
def test_no_shot_is_lost(shots):
    assert sum(count for _, count in histogram.counted(shots)) == len(shots)


@given(st.floats(0, 1), st.integers(1, 60), st.booleans())
def test_a_bar_is_as_wide_as_asked_and_as_full_as_its_share(share, width, blocks):
    drawn = histogram.bar(share, width, blocks=blocks)
    assert len(drawn) == width
    full = drawn.count("█" if blocks else "#")
    assert abs(full - share * width) <= 1


def test_the_largest_bar_is_full_and_the_others_in_proportion():
    lines = list(histogram.bars([("0", 10), ("1", 40)], width=8))
    assert lines == ["0 ██       10", "1 ████████ 40"]
    assert list(histogram.bars([("0", 10), ("1", 40)], width=8, blocks=False)) == [
        "0 ##       10",
        "1 ######## 40",
    ]


def test_with_many_outcomes_the_most_frequent_are_shown():
    lines = list(histogram.bars([(str(n), n) for n in range(1, 101)], most=40))
    assert len(lines) == 41
    assert lines[0].split()[0] == "61"
    assert lines[-1] == "... and 60 less frequent outcomes"


def test_means():
    assert histogram.mean(["0", "1", "2"]) == 1.0
    assert histogram.mean([]) is None
    assert histogram.mean(["0 1"]) is None


def _result(*memories):
    return Result({"results": [{"data": {"memory": list(one)}} for one in memories]})


def test_few_experiments_are_drawn_and_many_get_one_line_each():
    few = list(result.lines(_result("0011", "01")))
    assert few[0] == "experiment_0 (4 shots, mean 0.5)"
    assert len(few) == 6
    many = list(result.lines(_result(*["0001"] * 6)))
    assert len(many) == 7
    assert many[3].endswith("mean 0.25")
    assert next(iter(result.lines(_result(*["0001"] * 6), 5))).startswith("experiment_5")


@pytest.mark.parametrize(
    "data",
    [{"echo": 1}, {"results": 3}, {"results": [3]}, {"results": [{"data": {"memory": "01"}}]},
     {"results": [{"data": None}]}, {"results": []}],
)  # fmt: skip
def test_other_results_are_shown_as_json(data):
    (text,) = result.lines(Result(data))
    assert json.loads(text) == data


def test_files_of_a_result_are_listed():
    lines = list(result.lines(Result({"a": 1}, (Artifact("a.csv", 3, "ab"),))))
    assert lines[1:] == ["file a.csv (3 bytes, ab)"]


def test_shots_cannot_steer_the_terminal():
    lines = list(result.lines(_result(["\x1b[2J", "0"])))
    assert "\x1b" not in "".join(lines)
