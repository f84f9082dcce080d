"""What both runners do alike."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

import pytest

from spooler.errors import ConfigError, DeviceUnusable, PayloadInvalid, RunStopped
from spooler.model.artifact import REFUSED, Artifact
from spooler.model.result import Outcome, Result
from spooler.model.run import StopReason
from spooler.model.state import State

from .conftest import Control, MakeBench

pytestmark = pytest.mark.parametrize("isolation", ["process", "thread"])


def test_the_card_is_the_handlers_under_the_devices_name(bench: MakeBench, isolation: str) -> None:
    card = bench(isolation=isolation, opened=False).runner.open()
    assert (card.name, card.version, card.simulator) == ("bench", "2.3.4", False)
    assert set(card.properties) == {"pid"}


def test_data_comes_home(bench: MakeBench, isolation: str) -> None:
    it = bench(isolation=isolation)
    assert it.do("nothing") == Outcome(State.DONE, "", Result({}))
    assert it.do("model").result == Result({"counts": [1, 2]})
    assert it.do("numpy").result == Result({"mean": 0.5, "n": 3, "counts": [0, 1, 2]})
    assert it.do("nan_word").state is State.DONE


def test_files_come_home_with_their_hashes(bench: MakeBench, isolation: str) -> None:
    it = bench(isolation=isolation)
    expected = Artifact("sub/trace.txt", 5, hashlib.sha256(b"12345").hexdigest())
    assert it.do("result").result == Result({"x": 1}, (expected,))


def test_a_file_is_signed_as_it_is_at_the_end(bench: MakeBench, isolation: str) -> None:
    """Published before it was closed, or with facts that the handler made up."""
    result = bench(isolation=isolation).do("publish_early").result
    assert result is not None
    found = {each.path: (each.size, each.sha256) for each in result.artifacts}
    assert found["open.txt"] == (5, hashlib.sha256(b"12345").hexdigest())
    assert found["own.txt"] == (3, hashlib.sha256(b"abc").hexdigest())
    assert found["gone.txt"] == (1, hashlib.sha256(b"1").hexdigest()), "the daemon says it is lost"


def test_progress_is_passed_on_as_one_line(bench: MakeBench, isolation: str) -> None:
    control = Control()
    bench(isolation=isolation).do("progress", control)
    assert control.said == ["first words"]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("type_error", "TypeError: cannot read laser.cfg"),
        ("bad_str", "BadError"),
        ("exit", "the handler called sys.exit(3)"),
        ("interrupt", "KeyboardInterrupt"),
        ("none", "the handler returned None; it must return a mapping"),
        ("list", "the handler returned a list; it must return a mapping"),
        ("nan", "the result's data fit.width.1 is not a finite number"),
        ("nan_array", "the result's data fit.0 is not a finite number"),
        ("object", "the result's data camera.handle is a builtins.object, which JSON cannot"),
        ("surrogate", "the result's data text is text that is not valid Unicode"),
        ("recursion", "RecursionError: maximum recursion depth exceeded"),
        ("unheard_of", "AttributeError: 'Zoo' object has no attribute 'do_unheard_of'"),
    ],
)
def test_accidents_end_as_reasons_and_the_handler_lives_on(
    bench: MakeBench, isolation: str, what: str, reason: str
) -> None:
    it = bench(isolation=isolation)
    outcome = it.do(what)
    assert outcome.state is State.ERROR
    assert outcome.result is None
    assert outcome.reason.startswith(reason)
    answer = it.do("answer").result
    assert answer is not None
    assert answer.data["runs"] == 2


@pytest.mark.parametrize(
    ("what", "kept"),
    [
        ("nan", {"fit": {"width": [1.0, float("nan")]}}),
        ("nan_array", {"fit": [float("inf")]}),
        ("huge", {"text": "x" * 5_000_000}),
        ("nothing", None),
        ("value_error", None),
    ],
)
def test_what_was_measured_and_cannot_be_reported_is_put_aside(
    bench: MakeBench, isolation: str, what: str, kept: object
) -> None:
    it = bench(isolation=isolation, max_output=1_000_000)
    it.do(what)
    place = it.scratch / REFUSED
    assert place.exists() == (kept is not None)
    if kept is not None:
        assert repr(json.loads(place.read_text())) == repr(kept), "NaN is not equal to itself"


def test_a_value_error_is_the_submitters_reason_in_one_short_line(
    bench: MakeBench, isolation: str
) -> None:
    outcome = bench(isolation=isolation).do("value_error")
    assert outcome.reason.startswith("the detuning is too large!!!")
    assert len(outcome.reason) == 500


@pytest.mark.parametrize("levels", [201, 230, 260, 100_000])
def test_a_result_nested_too_deeply_is_an_error(
    bench: MakeBench, isolation: str, levels: int
) -> None:
    it = bench(isolation=isolation)
    outcome = it.run({"do": "deep", "with": {"levels": levels}})
    assert outcome.state is State.ERROR
    assert "nested more than 200 levels deep" in outcome.reason


def test_a_result_larger_than_agreed_is_an_error(bench: MakeBench, isolation: str) -> None:
    it = bench(isolation=isolation, max_output=1_000_000)
    outcome = it.do("huge")
    assert outcome.state is State.ERROR
    assert "the result has 5000011 bytes, more than the 1000000" in outcome.reason
    assert it.do("nothing").state is State.DONE


def test_payloads_that_cannot_be_sent_are_invalid(bench: MakeBench, isolation: str) -> None:
    it = bench(isolation=isolation)
    deep: list[object] = []
    for _ in range(220):
        deep = [deep]
    with pytest.raises(PayloadInvalid, match="a is not a finite number"):
        it.run({"a": float("nan")})
    with pytest.raises(PayloadInvalid, match="nested more than 200 levels deep"):
        it.run({"a": deep})  # type: ignore[dict-item]
    with pytest.raises(PayloadInvalid, match="not valid Unicode"):
        it.run({"a": "\ud800"})
    with pytest.raises(PayloadInvalid, match="input should be an object, got 3"):
        it.run(3)
    assert it.do("nothing").state is State.DONE


def test_every_run_has_its_own_context(bench: MakeBench, isolation: str) -> None:
    it = bench(isolation=isolation)
    control = Control()
    for _ in range(2):
        result = it.do("context", control).result
        assert result is not None
        remaining = result.data["remaining"]
        assert isinstance(remaining, float)
        assert 0 < remaining <= 30
        rest = {key: value for key, value in result.data.items() if key != "remaining"}
        assert rest == {
            "fresh": True, "stopped": False, "files": [], "job": "a" * 24, "attempt": 1,
        }  # fmt: skip
    assert control.said == []


def test_a_stop_ends_a_cooperative_run_and_the_handler_lives_on(
    bench: MakeBench, isolation: str
) -> None:
    it = bench(isolation=isolation, grace=20.0)
    before = it.do("answer").result
    with pytest.raises(RunStopped) as stopped:
        it.do("wait", Control(StopReason.CANCELLED, stop_at="waiting"))
    assert stopped.value.reason == "cancelled"
    after = it.do("answer").result
    assert before is not None
    assert after is not None
    assert after.data["pid"] == before.data["pid"]
    assert after.data["runs"] == 3


def test_a_run_ends_at_its_timeout(bench: MakeBench, isolation: str) -> None:
    it = bench(isolation=isolation, grace=20.0)
    with pytest.raises(RunStopped) as stopped:
        it.do("wait", timeout=0.2)
    assert stopped.value.reason == "timeout"


def test_a_run_that_should_not_begin_does_not(bench: MakeBench, isolation: str) -> None:
    it = bench(isolation=isolation)
    with pytest.raises(RunStopped, match="shutdown"):
        it.do("nothing", Control(StopReason.SHUTDOWN))
    answer = it.do("answer").result
    assert answer is not None
    assert answer.data["runs"] == 1


def test_what_cannot_be_opened(bench: MakeBench, isolation: str) -> None:
    def trouble(kind: str) -> None:
        bench(isolation=isolation, options={"trouble": kind}, opened=False).runner.open()

    with pytest.raises(DeviceUnusable, match=r"bench cannot be opened: OSError: .*'laser'"):
        trouble("open")
    with pytest.raises(ConfigError, match="refuses its options: RuntimeError: no such board"):
        trouble("construct")
    with pytest.raises(ConfigError, match=r"card.* has the key 'verzion'; known are version,"):
        trouble("card")
    with pytest.raises(ConfigError, match="module nowhere not found"):
        bench("nowhere:Man", isolation=isolation, opened=False).runner.open()


def test_an_opening_ends_when_the_daemon_is_stopped(bench: MakeBench, isolation: str) -> None:
    it = bench(isolation=isolation, options={"trouble": "open-hang"}, opened=False)
    with pytest.raises(RunStopped):
        it.runner.open(Control(StopReason.SHUTDOWN))
    assert not it.runner.ready


def test_an_opening_that_takes_too_long_is_given_up(bench: MakeBench, isolation: str) -> None:
    it = bench(
        isolation=isolation, options={"trouble": "open-hang"}, opened=False, start_timeout=1.0
    )
    with pytest.raises(DeviceUnusable, match="was not open within 1 s"):
        it.runner.open()


def test_close_closes_the_handler_once(bench: MakeBench, isolation: str, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    it = bench(isolation=isolation, options={"diary": str(diary)})
    it.runner.close()
    it.runner.close()
    assert diary.read_text().split() == ["open", "close"]


def test_a_failed_opening_is_closed_too(bench: MakeBench, isolation: str, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    options = {"diary": str(diary), "trouble": "open"}
    with pytest.raises(DeviceUnusable):
        bench(isolation=isolation, options=options)
    assert diary.read_text().split() == ["open", "close"]


def test_a_dry_run_before_opening_touches_nothing(
    bench: MakeBench, isolation: str, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    it = bench(isolation=isolation, options={"diary": str(diary)}, opened=False)
    outcome = it.runner.dry_run(it.request({"do": "os_exit"}), Control())
    assert outcome == Outcome(State.DONE, "", Result({}))
    with pytest.raises(PayloadInvalid):
        it.runner.dry_run(it.request([1]), Control())
    it.runner.close()
    assert not diary.exists()


def test_a_run_without_open_opens(bench: MakeBench, isolation: str, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    it = bench(isolation=isolation, options={"diary": str(diary)}, opened=False)
    it.runner.load()
    assert not diary.exists()
    assert it.do("nothing").state is State.DONE
    assert diary.read_text().split() == ["open"]


def test_calibration(bench: MakeBench, isolation: str) -> None:
    it = bench("optional:Full", isolation=isolation)
    assert it.runner.calibrates
    control = Control()
    assert it.runner.calibrate(30.0, control).state is State.DONE
    assert control.said == ["calibrating"]
    assert not Path("fit.txt").exists()
    assert it.runner.dry_run(it.request({"x": 2}), Control()).result == Result({"would": 2})
    failed = bench("optional:Uncalibrated", isolation=isolation).runner.calibrate(30.0, control)
    assert failed == Outcome(State.ERROR, "calibrate() returned False")
    zoo = bench(isolation=isolation)
    assert not zoo.runner.calibrates
    with pytest.raises(ConfigError, match=r"has no method calibrate\(context\)"):
        zoo.runner.calibrate(30.0, Control())


def test_nothing_is_left_behind(bench: MakeBench, isolation: str) -> None:
    it = bench(isolation=isolation)
    threads = threading.active_count()
    for _ in range(2):
        it.runner.close()
        it.runner.open()
    assert threading.active_count() == threads
