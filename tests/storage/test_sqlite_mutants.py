"""The contract suite notices each planted fault of the SQLite backend where it names it."""

from __future__ import annotations

import inspect
import traceback
from contextlib import closing
from pathlib import Path
from types import TracebackType

import pytest

from spooler.testing.backend_contract import BackendContract
from tests.storage.sqlite_bench import sqlite_bench
from tests.storage.sqlite_mutants import FAULTS, Fault


def run(check: str, folder: Path) -> None:
    with closing(sqlite_bench(folder)) as benches:
        getattr(BackendContract(), check)(next(benches))


def failed_at(check: str, trouble: TracebackType) -> str:
    """The line of a check that has failed; of `with pytest.raises(...):` also the line inside."""
    source = inspect.getsourcefile(getattr(BackendContract, check))
    assert source is not None
    lines = Path(source).read_text(encoding="utf-8").splitlines()
    (number,) = [
        each.lineno
        for each in traceback.extract_tb(trouble)
        if (each.filename, each.name) == (source, check)
    ]
    assert number is not None
    line = lines[number - 1]
    return line + lines[number] if "with pytest.raises" in line else line


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_noticed_by_the_assertion_that_names_it(fault: Fault, tmp_path: Path) -> None:
    run(fault.check, tmp_path / "sound")
    with fault.planted(), pytest.raises((AssertionError, pytest.fail.Exception)) as caught:
        run(fault.check, tmp_path / "broken")
    assert fault.line in failed_at(fault.check, caught.tb)


def test_no_two_faults_are_the_same() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 8
