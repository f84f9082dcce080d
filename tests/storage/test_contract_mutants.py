"""The contract suite notices every planted fault."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from spooler.model.device import DeviceCard
from spooler.storage.memory import MemoryBackend, MemoryStorage, MemorySubmitter
from spooler.testing.backend_contract import BackendContract
from spooler.testing.bench import DEVICE, Bench
from spooler.testing.clock import ManualClock
from tests.storage import mutants
from tests.storage.folder_bench import folder_bench


def memory_bench(_: Path) -> Iterator[Bench]:
    storage, clock = MemoryStorage(), ManualClock()
    MemoryBackend(storage, clock).announce(DeviceCard(DEVICE), clock.now())
    yield Bench(clock, lambda: MemoryBackend(storage, clock), MemorySubmitter(storage, clock))


CASES = [(fault, folder_bench) for fault in mutants.FOLDER] + [
    (fault, memory_bench) for fault in mutants.MEMORY
]

#: What waits for something that a fault prevents would wait for its whole patience.
PATIENT = {"test_a_new_job_wakes"}


def checks() -> list[tuple[str, dict[str, Any]]]:
    """Every check of the contract, with the arguments of its parametrization."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name, check in inspect.getmembers(BackendContract, inspect.isfunction):
        if not name.startswith("test_"):
            continue
        marks = [mark for mark in getattr(check, "pytestmark", []) if mark.name == "parametrize"]
        values = [{marks[0].args[0]: value} for value in marks[0].args[1]] if marks else [{}]
        found += [(name, value) for value in values]
    return found


@pytest.mark.parametrize(("fault", "bench"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_noticed(fault: mutants.Mutant, bench: Any, tmp_path: Path) -> None:
    """At least one check fails; which ones is said when none does."""
    passed = []
    with fault():
        for number, (name, arguments) in enumerate(checks()):
            if name in PATIENT and "wake" not in fault.__name__:
                continue
            if not _passes(name, arguments, bench(tmp_path / str(number))):
                return
            passed.append(name)
    pytest.fail(f"all {len(passed)} checks pass with the fault {fault.__name__}")


def _passes(name: str, arguments: dict[str, Any], benches: Iterator[Bench]) -> bool:
    try:
        getattr(BackendContract(), name)(next(benches), **arguments)
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 - any failure is a notice
        return False
    finally:
        with suppress(StopIteration):
            next(benches)
    return True


def test_without_a_fault_all_pass(tmp_path: Path) -> None:
    """The harness itself finds nothing where there is nothing."""
    for number, (name, arguments) in enumerate(checks()):
        for bench in (folder_bench, memory_bench):
            folder = tmp_path / f"{number}-{bench.__name__}"
            assert _passes(name, arguments, bench(folder)), f"{name} fails on {bench.__name__}"


def test_the_list_is_long_enough() -> None:
    assert len(CASES) >= 15
