"""Reasons and frames and encodings: the small parts."""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from spooler.devices.encoding import NotJson, decode, encode
from spooler.devices.output import BURST, TAIL, OutputLog
from spooler.devices.runners.wire import FrameError, Unpacker, pack
from spooler.devices.sentences import accident, one_line, problems, without_paths

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_json_survives_exactly(value: Any) -> None:
    back = decode(encode(value))
    assert back == value
    assert repr(back) == repr(value)  # -0.0, 1 against True, and every digit of a float


@given(
    JSON,
    st.sampled_from([math.nan, math.inf, -math.inf]),
    st.lists(st.integers(0, 3), max_size=6),
)
def test_numbers_that_are_none_are_refused_wherever_they_are(
    value: Any, bad: float, path: list[int]
) -> None:
    for step in path:
        value = [value] * step + [bad] if step % 2 else {"key": value, "bad": bad}
    whole = value if path else {"it": bad}
    with pytest.raises(NotJson, match="is not a finite number"):
        encode({"data": [whole, bad]})


def test_other_mappings_become_objects() -> None:
    class Odd(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            return 1

        def __iter__(self) -> Any:
            return iter(["a"])

        def __len__(self) -> int:
            return 1

    assert encode({"odd": Odd()}) == b'{"odd":{"a":1}}'


@given(st.lists(st.tuples(JSON, st.binary(max_size=50))), st.integers(1, 40))
def test_frames_survive_any_cutting(sent: list[tuple[Any, bytes]], cut: int) -> None:
    stream = b"".join(pack({"value": value}, body) for value, body in sent)
    unpacker = Unpacker(1000)
    got = []
    for start in range(0, len(stream), cut):
        unpacker.feed(stream[start : start + cut])
        while (frame := unpacker.take()) is not None:
            got.append((frame.head["value"], frame.body))
    assert got == sent


@pytest.mark.parametrize(
    "nonsense",
    [b"\xff" * 8, b"\0\0\0\1\0\0\0\0x", b"\0\0\0\2\0\0\0\0[]", b"\0\0\0\2\0\0\1\0{}"],
)
def test_nonsense_is_noticed(nonsense: bytes) -> None:
    unpacker = Unpacker(100)
    unpacker.feed(nonsense)
    with pytest.raises(FrameError):
        unpacker.take()


@given(st.text())
def test_one_line_is_one_bounded_line(text: str) -> None:
    line = one_line(text, 40)
    assert len(line) <= 40
    assert len(line.splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("cannot open /home/lab/run 3.txt", "cannot open run 3.txt"),
        ("'/home/my lab/a b.txt' is gone", "'a b.txt' is gone"),
        ("see https://lab.example/a/b/c", "see https://lab.example/a/b/c"),
        ("ratio 3/4 and a/b/c", "ratio 3/4 and a/b/c"),
        ("/dev/ttyUSB0: busy", "ttyUSB0: busy"),
    ],
)
def test_paths_of_this_machine_are_shortened(text: str, short: str) -> None:
    assert without_paths(text) == short


def test_an_accident_is_named() -> None:
    assert accident(OSError(2, "No such file", "/a/b/c")) == (
        "FileNotFoundError: [Errno 2] No such file: 'c'"
    )
    assert accident(RuntimeError()) == "RuntimeError"


def invalid(model: Any, value: str) -> str:
    with pytest.raises(ValidationError) as error:
        TypeAdapter(model).validate_json(value)
    return problems(error.value)


def test_problems_of_a_payload_are_one_sentence() -> None:
    class Inner(BaseModel):
        shots: int
        gain: float | None = None

    class Outer(BaseModel):
        experiments: dict[str, list[Inner]]

    assert invalid(Outer, '{"experiments": {"e": [{"shots": "x"}]}}') == (
        "experiments.e.0.shots: input should be a valid integer, unable to parse string as an"
        " integer, got 'x'"
    )
    assert invalid(Outer, "{}") == "experiments: is missing"
    many = '{"experiments": {"e": [{}, {}, {}, {}, {}]}}'
    assert invalid(Outer, many).endswith("experiments.e.2.shots: is missing; and 2 more")
    assert len(invalid(Outer, '{"experiments": {"' + "e" * 9000 + '": [{}]}}')) <= 500


def test_output_is_passed_on_at_once_up_to_a_burst() -> None:
    lines: list[str] = []
    log = OutputLog(lines.append)
    log.feed(b"one\ntw", 0.0)
    assert lines == ["one"]
    log.feed(b"o\n", 0.0)
    assert lines == ["one", "two"]
    log.feed(b"three", 0.0)
    log.finish()
    assert lines == ["one", "two", "three"]


def test_slow_output_is_never_held_back() -> None:
    lines: list[str] = []
    log = OutputLog(lines.append)
    for second in range(10_000):
        log.feed(b"%04d\n" % second, float(second))
    passed = [line for line in lines if not line.startswith("...")]
    assert passed[-1] == "9999"
    assert len(passed) > 9000


@given(st.lists(st.tuples(st.integers(0, 30_000), st.integers(1, 200), st.floats(0, 5))))
def test_output_is_bounded_and_accounted_for(chunks: list[tuple[int, int, float]]) -> None:
    lines: list[str] = []
    log = OutputLog(lines.append)
    now, fed = 0.0, 0
    for size, width, pause in chunks:
        now += pause
        data = (b"x" * (width - 1) + b"\n") * (size // width)
        fed += len(data)
        log.feed(data, now)
    log.finish()
    notes = [line for line in lines if line.startswith("...")]
    passed = sum(len(line) + 1 for line in lines if not line.startswith("..."))
    empty = 0 if all(width > 1 for _, width, _ in chunks) else fed
    assert passed + sum(int(note.split()[1]) for note in notes) >= fed - empty
    assert passed <= 2 * BURST + TAIL + 1024 * now + 2000


def test_a_socket_of_frames() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.sendall(pack({"a": 1}, b"body"))
        unpacker = Unpacker(10)
        unpacker.feed(other.recv(1000))
        assert unpacker.take() == ({"a": 1}, b"body")
        assert unpacker.take() is None


@given(st.text())
def test_a_reason_can_be_shown_and_written_down(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    line.encode()


def test_what_would_steer_a_terminal_is_spelled_out() -> None:
    assert one_line("\x1b]0;mine\x07 \x9b31m \ud800 ü") == "\\x1b]0;mine\\x07 \\x9b31m \\ud800 ü"


def test_a_line_that_is_written_over_is_one_line() -> None:
    """As a progress bar does it, in pieces of any size."""
    lines: list[str] = []
    log = OutputLog(lines.append)
    for percent in range(101):
        text = f"\r{percent}%|{'#' * percent}".encode()
        log.feed(text[:3], 0.0)
        log.feed(text[3:], 0.0)
    log.feed(b"\nnext\r\nover\r", 0.0)
    log.feed(b"last", 0.0)
    log.finish()
    assert lines == [f"100%|{'#' * 100}", "next", "last"]
