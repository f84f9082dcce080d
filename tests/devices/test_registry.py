from __future__ import annotations

from pathlib import Path

import pytest

from spooler.devices.handlers.echo import Echo
from spooler.devices.registry import known_handlers, load_handler
from spooler.errors import ConfigError
from spooler.model.json import Json


def refused(reference: str, **options: Json) -> str:
    with pytest.raises(ConfigError) as error:
        load_handler(reference, options)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_the_built_in_handlers_are_known() -> None:
    assert {"command", "echo", "singlequdit", "sqooler"} <= set(known_handlers())


def test_by_entry_point_and_by_reference() -> None:
    assert isinstance(load_handler("echo", {}), Echo)
    assert isinstance(load_handler("spooler.devices.handlers.echo:Echo", {"delay": 0.5}), Echo)


def test_unknown_names_name_the_nearest() -> None:
    assert "did you mean echo?" in refused("ecko")
    assert "installed are command, echo" in refused("zzzzzz")


@pytest.mark.parametrize("reference", [":Echo", "a:", "a:b c", "a:1"])
def test_references_of_the_wrong_form(reference: str) -> None:
    assert "is not of the form 'module:Name'" in refused(reference)


def test_missing_modules_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needslaser.py").write_text("import pylaser9000.driver\n")
    (tmp_path / "plain.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert refused("nowhere.at.all:X").startswith("module nowhere not found: install it")
    assert refused("plain.sub:X").startswith("module plain")
    assert "needslaser needs the module pylaser9000, which is not" in refused("needslaser:X")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def broken(:", "cannot be imported: SyntaxError: invalid syntax (code.py, line 1)"),
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero."),
        ("import sys; sys.exit(2)", "cannot be imported: SystemExit: 2."),
    ],
)
def test_modules_that_break(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    name = f"broken{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert said.replace("code", name) in refused(f"{name}:X")


def test_missing_attributes_name_the_nearest() -> None:
    assert "spooler.devices.handlers.echo has no Ecko; did you mean Echo?" in refused(
        "spooler.devices.handlers.echo:Ecko"
    )


def test_options_that_do_not_fit() -> None:
    assert "unexpected keyword argument 'dely'; did you mean delay?" in refused("echo", dely=1)
    assert "missing a required argument: 'argv'; it takes argv, timeout" in refused("command")
    assert "refuses its options: ValueError: delay must not be negative." in refused(
        "echo", delay=-1
    )


def test_things_that_are_no_handlers() -> None:
    assert "is not a device handler: it has no open and no run and no close and no params" in (
        refused("builtins:dict")
    )
    assert "is not a class: a float was found" in refused("math:pi")


def test_a_file_named_as_a_module_of_python_is_told_why_it_is_not_found() -> None:
    assert refused("json:Fridge") == (
        "json has no Fridge; Python itself has a module json, so give your own file another name."
    )
    assert refused("pydantic:Fridge") == "pydantic has no Fridge."


_HANDLER = """
class Fridge:
    params = dict
    def open(self): ...
    def close(self): ...
    {run}
"""


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("def run(self, params): ...", "run must take the two arguments of def run(self, params,"),
        ("def run(): ...", "run must take the two arguments of"),
        ("def run(self, params, context, shots): ...", "missing a required argument: 'shots'"),
        ("async def run(self, params, context): ...", "run is an async def, which nothing would"),
    ],
)
def test_a_run_that_would_fail_every_job_is_refused_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str, said: str
) -> None:
    name = f"fridge{abs(hash(run))}"
    (tmp_path / f"{name}.py").write_text(_HANDLER.format(run=run))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert said in refused(f"{name}:Fridge")


@pytest.mark.parametrize("run", ["def run(self, *args): ...", "run = staticmethod(max)"])
def test_a_run_that_can_be_called_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str
) -> None:
    name = f"fridge{abs(hash(run))}"
    (tmp_path / f"{name}.py").write_text(_HANDLER.format(run=run))
    monkeypatch.syspath_prepend(str(tmp_path))
    load_handler(f"{name}:Fridge", {})
