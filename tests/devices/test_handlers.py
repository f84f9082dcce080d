"""The small built-in handlers: echo, the sqooler adapter, the template."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from spooler.devices import HandlerSpec, open_runner
from spooler.devices.template import handler_template
from spooler.errors import ConfigError, PayloadInvalid, RunStopped
from spooler.model.result import Outcome, Result
from spooler.model.run import RunRequest, StopReason
from spooler.model.state import State
from spooler.observe import log

from .conftest import Control, MakeBench

JOB = {
    "experiment_0": {
        "instructions": [["flip", [0], [0.5]]],
        "num_wires": 1,
        "shots": 3,
        "wire_order": "interleaved",
    }
}


def test_echo(bench: MakeBench) -> None:
    it = bench("echo", isolation="thread")
    assert it.run(JOB) == Outcome(State.DONE, "", Result({"echo": JOB}))
    failing = bench("echo", isolation="thread", options={"fail": "no light"})
    assert failing.run({}) == Outcome(State.ERROR, "no light")
    slow = bench("echo", isolation="thread", options={"delay": 60.0}, grace=20.0)
    with pytest.raises(RunStopped, match="timeout"):
        slow.run({}, timeout=0.1)


@pytest.mark.interop
@pytest.mark.usefixtures("real_sqooler")
def test_a_real_sqooler_object_runs_unchanged(bench: MakeBench) -> None:
    it = bench("sqooler", options={"spooler": "sqooler_lab:spooler"})
    outcome = it.run(JOB)
    assert outcome.state is State.DONE, outcome.reason
    assert outcome.result is not None
    results = outcome.result.data["results"]
    assert isinstance(results, list)
    assert results[0]["data"]["memory"] == ["1", "1", "1"]
    assert results[0]["header"]["name"] == "experiment_0"


@pytest.mark.interop
@pytest.mark.usefixtures("real_sqooler")
def test_the_card_of_a_sqooler_object_is_its_configuration(bench: MakeBench) -> None:
    it = bench("sqooler", options={"spooler": "sqooler_lab:spooler"}, opened=False)
    card = it.runner.open()
    assert (card.version, card.description, card.simulator) == ("0.3.1", "a coin", True)
    assert card.properties["supported_instructions"] == ["flip"]
    assert "display_name" not in card.properties
    assert "sign" not in card.properties, "whether we sign is said by the storage"
    it = bench("sqooler", options={"spooler": "sqooler_lab:signing"}, opened=False)
    assert it.runner.open().properties["sign"] is True, "without a key it does not run"


@pytest.mark.interop
@pytest.mark.usefixtures("real_sqooler")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"instructions": [["spin", [0], [0.5]]]}, "Failed json sanity check"),
        ({"instructions": [["flip", [0], [0.9]]]}, "the coin is too heavy"),
    ],
)
def test_the_errors_of_a_sqooler_object_are_the_reasons(
    bench: MakeBench, change: dict[str, object], reason: str
) -> None:
    it = bench("sqooler", options={"spooler": "sqooler_lab:spooler"}, isolation="thread")
    outcome = it.run({"experiment_0": {**JOB["experiment_0"], **change}})  # type: ignore[dict-item]
    assert outcome.state is State.ERROR
    assert outcome.reason.startswith(reason)


@pytest.mark.interop
@pytest.mark.usefixtures("real_sqooler")
def test_what_is_no_sqooler_object(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def adapt(spooler: str) -> None:
        bench("sqooler", isolation="thread", options={"spooler": spooler})

    with pytest.raises(ConfigError, match="math:pi is not a sqooler Spooler object"):
        adapt("math:pi")
    with pytest.raises(ConfigError, match="sqooler_lab has no spoler; did you mean spooler"):
        adapt("sqooler_lab:spoler")
    with pytest.raises(ConfigError, match="'sqooler_lab' names a module and nothing in it"):
        adapt("sqooler_lab")
    with pytest.raises(ConfigError, match=r'handler = "sqooler" with options = \{ spooler = "sq'):
        bench("sqooler_lab:spooler", isolation="thread")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install sqooler"):
        adapt("sqooler_lab:spooler")


def test_the_template_is_a_handler(
    bench: MakeBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "laser2.py").write_text(handler_template("laser2"))
    monkeypatch.syspath_prepend(str(tmp_path))
    it = bench("laser2:Laser2", grace=10.0)
    control = Control()
    outcome = it.run({"shots": 3}, control)
    assert outcome.state is State.DONE, outcome.reason
    assert outcome.result is not None
    assert outcome.result.data["shots"] == 3
    assert [item.path for item in outcome.result.artifacts] == ["counts.csv"]
    assert control.said == ["shot 1 of 3"]
    assert it.runner.calibrates
    assert it.runner.dry_run(it.request({}), Control()).state is State.DONE
    with pytest.raises(PayloadInvalid, match="shot: extra inputs are not permitted"):
        it.run({"shot": 3})
    with pytest.raises(RunStopped):
        it.run({"shots": 100_000}, Control(StopReason.CANCELLED, stop_at="shot 1 of 100000"))


def test_the_template_is_typed_and_formatted(tmp_path: Path) -> None:
    file = tmp_path / "laser2.py"
    file.write_text(handler_template("laser2"))
    cache = ["--cache-dir", str(tmp_path / "cache")]
    for check in (
        ["mypy", "--strict", *cache, str(file)],
        ["ruff", "format", "--check", "--isolated", "--line-length", "100", str(file)],
        ["ruff", "check", "--isolated", str(file)],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *check], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["", "Laser", "1laser", "my-laser", "a/b", "läser"])
def test_names_that_cannot_be_modules_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="use small letters and digits"):
        handler_template(name)


class _Plain:
    """Nothing that pydantic knows how to check."""


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pydantic.v1 is not made for the newest Pythons
    from pydantic.v1 import BaseModel as OldModel


class OldParameters(OldModel):
    shots: int = 1


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (None, "it is None."),
        ("Parameters", "it is a str."),
        (
            OldParameters,
            "it is a model of pydantic version 1 (pydantic.v1)",
        ),
        (5, "it is a int."),
        (_Plain, "it is the class _Plain."),
        (dict["Undefined", int], "it names a type that is not defined."),  # noqa: F821 - the point
        ({"shots": int}, "must be a pydantic model, as in params = Parameters"),
    ],
)
def test_params_that_check_nothing_are_refused_in_one_short_sentence(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch, params: object, said: str
) -> None:
    monkeypatch.setattr("spooler.devices.handlers.echo.Echo.params", params)
    with pytest.raises(ConfigError, match="`params` of handler echo must be a pydantic") as refused:
        bench("echo", isolation="thread")
    assert said in str(refused.value)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_what_a_handler_logs_names_its_device_and_job(
    isolation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "talking.py").write_text(
        "class Talking:\n"
        "    params = dict\n"
        "    def open(self): ...\n"
        "    def close(self): ...\n"
        "    def run(self, params, context):\n"
        "        context.logger.warning('the cavity is warm')\n"
        "        return {}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    stream, root = io.StringIO(), logging.getLogger()
    before = root.handlers[:], root.level
    runner = open_runner(HandlerSpec("fridge", "talking:Talking", isolation=isolation))
    try:
        log.configure("info", "json", stream)
        runner.open()
        runner.run(RunRequest("a" * 24, 2, {}, 30.0, str(tmp_path / "scratch")), Control())
    finally:
        runner.close()
        root.handlers[:], root.level = before
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    (line,) = [line for line in lines if "the cavity is warm" in line["message"]]
    assert (line["event"], line["device"], line["job"], line["attempt"]) == (
        "log", "fridge", "a" * 24, 2,
    )  # fmt: skip
