"""Every planted fault is caught, by the very checks that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spooler.testing.backend_contract import BackendContract
from spooler.testing.bench import QUEUE, Bench, take
from tests.storage import test_memory
from tests.storage.folder_bench import folder_bench
from tests.storage.mutants import FOLDER, MEMORY
from tests.storage.planted import Fault, checks_named, demand_caught
from tests.storage.sqooler.folder_checks import FolderChecks


def memory_bench(_: Path) -> Iterator[Bench]:
    yield test_memory.memory_bench()


CASES = [
    pytest.param(fault, name, bench, id=f"{fault.name}-{name}")
    for faults, bench in ((FOLDER, folder_bench), (MEMORY, memory_bench))
    for fault in faults
    for name in fault.checks
]


@pytest.mark.parametrize(("fault", "name", "bench"), CASES)
def test_caught(
    fault: Fault, name: str, bench: Callable[[Path], Iterator[Bench]], tmp_path: Path
) -> None:
    for number, (case, check) in enumerate(checks_named(name, BackendContract, FolderChecks)):
        demand_caught(fault, case, check, bench, tmp_path / str(number))


def test_every_fault_names_a_check_and_is_listed_once() -> None:
    faults = [*FOLDER, *MEMORY]
    assert len(faults) >= 30
    assert len({fault.name for fault in faults}) == len(faults)
    assert all(fault.checks for fault in faults)


# --- the harness -----------------------------------------------------------------------------


class Lamp:
    """Something to break."""

    def lit(self) -> bool:
        return True

    def broken(self) -> bool:
        return False


def lamp_lights(_: Bench, __: Path) -> None:
    assert Lamp().lit()


def verdict(fault: Fault, check: Any, folder: Path) -> None:
    demand_caught(fault, "lamp_lights", check, memory_bench, folder)


def broken(attribute: str, answer: Callable[[Any], Any]) -> Fault:
    return Fault("a fault", Lamp, attribute, lambda real, base: answer, ("lamp_lights",))


def test_a_fault_that_an_assertion_names_is_caught(tmp_path: Path) -> None:
    verdict(broken("lit", lambda lamp: False), lamp_lights, tmp_path)


def test_a_fault_that_changes_nothing_is_not_caught(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="passes with"):
        verdict(broken("lit", lambda lamp: True), lamp_lights, tmp_path)


def test_a_stale_fault_is_not_caught(tmp_path: Path) -> None:
    """Neither one that is never called, nor one whose place is gone."""
    with pytest.raises(pytest.fail.Exception, match="stale"):
        verdict(broken("broken", lambda lamp: True), lamp_lights, tmp_path)
    with pytest.raises(AttributeError):
        verdict(broken("gone", lambda lamp: True), lamp_lights, tmp_path)


def test_any_other_exception_catches_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        verdict(broken("lit", lambda lamp: 1 // 0), lamp_lights, tmp_path)


def test_a_check_that_fails_anyhow_catches_nothing(tmp_path: Path) -> None:
    def fails(_: Bench, __: Path) -> None:
        assert not Lamp().lit()

    with pytest.raises(pytest.fail.Exception, match="fails without"):
        verdict(broken("lit", lambda lamp: False), fails, tmp_path)


def test_a_check_that_does_not_raise_as_it_should_is_a_failed_assertion(tmp_path: Path) -> None:
    def raises(bench: Bench, _: Path) -> None:
        with pytest.raises(AssertionError, match="nothing to claim"):
            take(bench.backend())
        if not Lamp().lit():
            with pytest.raises(KeyError):
                bench.backend().depth(QUEUE)

    verdict(broken("lit", lambda lamp: False), raises, tmp_path)


def test_private_names_are_not_patched(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="public"):
        verdict(broken("_lit", lambda lamp: False), lamp_lights, tmp_path)


def test_a_check_that_nobody_has_is_no_check() -> None:
    with pytest.raises(LookupError):
        checks_named("test_of_nothing", BackendContract)
