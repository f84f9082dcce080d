"""The form that each type of value has in JSON, and what is refused: nothing is lost silently."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
import pathlib
import uuid
from collections import Counter, deque
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from spooler.devices.encoding import NotJson, as_it_is, encode


class Outcome(Enum):
    UP = "0"
    DOWN = "1"


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)
    it: Any = None


class Renamed(BaseModel):
    model_config = ConfigDict(extra="allow")
    mean: float = Field(default=1.0, serialization_alias="average")


@dataclasses.dataclass
class Counts:
    table: Any


@pydantic.dataclasses.dataclass
class Checked:
    table: Any


TWICE: list[tuple[Any, str, str]] = [
    ({"counts": {0: 480, "0": 20}}, "counts", '"0"'),
    ({"pairs": {(0, 1): 3, "0,1": 4}}, "pairs", '"0,1"'),
    ({"pairs": {(0, "1,2"): 3, ("0,1", 2): 4}}, "pairs", '"0,1,2"'),
    ({0: 1, "0": 2}, "data has", '"0"'),
    ({"a": [{}, {"b": {1.5: 1, "1.5": 2}}]}, "a.1.b", '"1.5"'),
    ({"a": {True: 1, "true": 2}}, "a has", '"true"'),
    ({"a": {None: 1, "None": 2}}, "a has", '"None"'),
    ({"a": {Outcome.UP: 1, "0": 2}}, "a has", '"0"'),
    ({"a": {Outcome.UP: 1, 0: 2}}, "a has", '"0"'),
    ({"a": {np.int64(0): 1, "0": 2}}, "a has", '"0"'),
    ({"a": {np.float32(0.5): 1, "0.5": 2}}, "a has", '"0.5"'),
    ({"a": {math.nan: 1, float("nan"): 2}}, "a has", '"nan"'),
    ({"a": {dt.date(2024, 1, 1): 1, "2024-01-01": 2}}, "a has", '"2024-01-01"'),
    ({"a": {np.datetime64("2024-01-01"): 1, "2024-01-01": 2}}, "a has", '"2024-01-01"'),
    ({"a": {uuid.UUID(int=0): 1, str(uuid.UUID(int=0)): 2}}, "a has", "0000"),
    ({"a": {pathlib.Path("x"): 1, "x": 2}}, "a has", '"x"'),
    ({"a": Loose(it={0: 1, "0": 2})}, "a.it", '"0"'),
    (Loose(it=[{0: 1, "0": 2}]), "it.0", '"0"'),
    (Renamed(average=2.0), "data has", '"average"'),
    ({"a": Counts({0: 1, "0": 2})}, "a.table", '"0"'),
    ({"a": Checked({0: 1, "0": 2})}, "a.table", '"0"'),
    ({"a": np.array([{0: 1, "0": 2}], dtype=object)}, "a.0", '"0"'),
    ({"a": Counter([0, "0"])}, "a has", '"0"'),
    ({"a": ({0: 1, "0": 2},)}, "a.0", '"0"'),
]


@pytest.mark.parametrize(("value", "place", "key"), TWICE)
def test_two_keys_of_one_text_are_refused_with_their_place(
    value: Any, place: str, key: str
) -> None:
    with pytest.raises(NotJson) as refused:
        encode(value)
    said = f"the result's data {refused.value}"
    assert place in said
    assert key in said


KEYS = st.one_of(
    st.integers(-3, 12),
    st.booleans(),
    st.none(),
    st.sampled_from([0.5, 1.0, "0", "1", "true", "None", "0,1", "0.5", "", Outcome.UP]),
    st.tuples(st.integers(0, 2), st.sampled_from([0, 1, "1"])),
    st.integers(0, 2).map(np.int32),
)
TABLES = st.recursive(
    st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def _numbers(value: Any) -> list[int]:
    if isinstance(value, dict):
        return [each for item in value.values() for each in _numbers(item)]
    if isinstance(value, list):
        return [each for item in value for each in _numbers(item)]
    return [value]


@given(TABLES)
def test_every_number_arrives_or_the_whole_is_refused(table: Any) -> None:
    try:
        text = encode({"table": table})
    except NotJson as refused:
        assert "two keys" in str(refused)
        return
    assert _numbers(json.loads(text)["table"]) == _numbers(table)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (1 + 2j, [1.0, 2.0]),
        (np.array([1 + 2j, complex(-0.0, -0.5)]), [[1.0, 2.0], [-0.0, -0.5]]),
        (np.complex64(1 + 2j), [1.0, 2.0]),
        (np.datetime64("2024-01-01T00:00:00.000000001"), "2024-01-01T00:00:00.000000001"),
        (np.array(["2024-01-01"], dtype="datetime64[D]"), ["2024-01-01"]),
        (
            np.array([["2024-01-01"]], dtype="datetime64[ns]"),
            [["2024-01-01T00:00:00.000000000"]],
        ),
        (dt.datetime(2024, 1, 1, tzinfo=dt.UTC), "2024-01-01T00:00:00Z"),
        (dt.date(2024, 1, 1), "2024-01-01"),
        (dt.timedelta(seconds=1.5), "PT1.5S"),
        (Decimal("0.10"), "0.10"),
        (pathlib.Path("a/b"), "a/b"),
        (Outcome.DOWN, "1"),
        ({3}, [3]),
        (frozenset([3]), [3]),
        (deque([1, 2]), [1, 2]),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array(3), 3),
        (np.zeros((2, 0)), [[], []]),
        (np.array([(1, 0.5)], dtype=[("n", "i4"), ("x", "f8")]), [[1, 0.5]]),
        (np.array([(1, "2024-01-01")], dtype=[("n", "i4"), ("t", "M8[ns]")]),
         [[1, "2024-01-01T00:00:00.000000000"]]),
        (np.array([1j, 2.0, {0: 1}], dtype=object), [[0.0, 1.0], 2.0, {"0": 1}]),
        (Counts({"a": 1j}), {"table": {"a": [0.0, 1.0]}}),
        ({np.int64(3): 1, np.int64(4): 2}, {"3": 1, "4": 2}),
    ],
)  # fmt: skip
def test_each_type_has_one_form(value: Any, form: Any) -> None:
    assert json.loads(encode({"x": value})) == {"x": form}


class Odd:
    """Looks like an array, and turns into another of its kind, for ever."""

    def tolist(self) -> Odd:
        return Odd()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.longdouble(1.5), "x is a numpy.longdouble"),
        (np.array([1.5], dtype=np.longdouble), "x is a numpy.longdouble"),
        (np.clongdouble(1.5), "x is a numpy.clongdouble"),
        (b"\x01\x02", "x is a bytes"),
        (b"\xff\xd8", "x is a bytes"),
        (bytearray(b"ab"), "x is a bytearray"),
        (memoryview(b"ab"), "x is a memoryview"),
        (np.bytes_(b"ab"), "x is a numpy.bytes_"),
        (np.array([b"ab"]), "x is a bytes"),
        (np.array([b"ab"], dtype=object), "x.0 is a bytes"),
        (np.void(b"ab"), "x is a bytes"),
        (np.datetime64("NaT"), "NaT"),
        (np.array(["2024-01-01", "NaT"], dtype="datetime64[s]"), "NaT"),
        (np.timedelta64(3, "ns"), "x is a numpy.timedelta64"),
        (complex(math.nan, 0), "x is not a finite number"),
        (np.array([complex(0, math.inf)]), "x.0 is not a finite number"),
        (Decimal("NaN"), "x is not a finite number"),
        (np.float32("nan"), "x is not a finite number"),
        (Odd(), "Odd, which JSON cannot represent"),
        (object(), "x is a builtins.object"),
        ({b"a": 1}, "(a key) is a bytes"),
        ({1j: 1}, "(a key) is a complex"),
        (Loose(it=math.nan), "x.it is not a finite number"),
        (Loose(it=[{"a": b"text"}]), "x.it.0.a is a bytes"),
        (Loose(it=b"\xff"), "x.it is a bytes"),
        (Loose(it=1j), "x.it is a complex"),
        (Loose(it=np.longdouble(1)), "numpy.longdouble"),
        (Checked(math.inf), "x.table is not a finite number"),
    ],
)
def test_what_has_no_form_is_refused_with_the_name_of_its_type(value: Any, words: str) -> None:
    with pytest.raises(NotJson) as refused:
        encode({"x": value})
    assert words in str(refused.value)
    assert "nested" not in str(refused.value)


def test_a_form_that_a_models_author_has_chosen_stays() -> None:
    class Chosen(BaseModel):
        model_config = ConfigDict(ser_json_bytes="hex")
        raw: bytes = b"\xff\x01"
        amplitude: Annotated[complex, PlainSerializer(lambda v: [v.real, v.imag])] = 1j
        width: Annotated[float, PlainSerializer(lambda _: "none", when_used="json")] = math.nan

    assert json.loads(encode(Chosen())) == {"raw": "ff01", "amplitude": [0, 1], "width": "none"}


def test_what_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop += [loop, loop]
    for value in (loop, {1: loop}):
        with pytest.raises(NotJson, match="contains itself"):
            encode({"x": value})


def test_the_times_of_pandas_keep_their_nanoseconds() -> None:
    pandas = pytest.importorskip("pandas")
    time = pandas.Timestamp("2024-01-01T00:00:00.000000001")
    assert json.loads(encode({"x": time})) == {"x": "2024-01-01T00:00:00.000000001"}
    series = pandas.Series([time])
    assert json.loads(encode({"x": series})) == {"x": ["2024-01-01T00:00:00.000000001"]}
    for refused in (pandas.NaT, pandas.Timedelta("1ns")):
        with pytest.raises(NotJson, match="x is a pandas"):
            encode({"x": refused})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({0: "a", "0": "b"}, b'{"0":"a","0":"b"}'),
        ({"raw": b"\xff\x00"}, b'{"raw":"_wA="}'),
        ({"z": [1 + 2j]}, b'{"z":["1+2j"]}'),
        ({"text": "\ud800"}, b"{'text': '\\ud800'}"),
    ],
)
def test_as_it_is(value: object, text: bytes) -> None:
    assert as_it_is(value) == text
