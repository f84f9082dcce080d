"""Planted faults: how one is planted, and what counts as catching it.

A fault is caught only by the assertion that names it: the checks that it names must pass without
it, and must fail with it by an assertion of theirs. Any other exception is a broken fault, and one
whose code is never called is stale; both fail the test of the suite.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from spooler.testing.bench import Bench

#: One check, to be given a storage and the folder that it may be in.
Check = Callable[[Bench, Path], None]
#: Makes the bad version of something out of the good one, for a storage in this folder.
Make = Callable[[Any, Path], Any]


@dataclass(frozen=True)
class Fault:
    """One public name of `owner` that does something else than it should.

    `make` returns what takes its place. `checks` are the names of those that must notice.
    """

    name: str
    owner: Any
    attribute: str
    make: Make
    checks: tuple[str, ...]

    @contextmanager
    def planted(self, base: Path) -> Iterator[list[str]]:
        """Plant it; the list grows with each call of what was planted."""
        assert not self.attribute.startswith("_"), "faults are planted at public names"
        calls: list[str] = []
        bad = self.make(getattr(self.owner, self.attribute), base)

        def counted(*args: Any, **kwargs: Any) -> Any:
            calls.append(self.attribute)
            return bad(*args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.owner, self.attribute, counted)
            yield calls


def demand_caught(
    fault: Fault, name: str, check: Check, bench: Callable[[Path], Iterator[Bench]], folder: Path
) -> None:
    """Fail unless `check` passes without the fault and fails with it, by an assertion."""
    if not holds(check, bench, folder / "good"):
        pytest.fail(f"{name} fails without {fault.name}")
    with fault.planted(folder / "bad") as calls:
        caught = not holds(check, bench, folder / "bad")
    if not calls:
        pytest.fail(f"{fault.name} is stale: {name} does not call {fault.attribute}")
    if not caught:
        pytest.fail(f"{name} passes with {fault.name}")


def holds(check: Check, bench: Callable[[Path], Iterator[Bench]], base: Path) -> bool:
    """Whether a check's assertions hold on a new storage; any other exception goes on."""
    benches = bench(base)
    try:
        check(next(benches), base)
    except (AssertionError, pytest.fail.Exception):
        return False
    finally:
        with suppress(StopIteration):
            next(benches)
    return True


def checks_named(name: str, *suites: type) -> list[tuple[str, Check]]:
    """Every case of the check of that name in one of these suites."""
    suite = next((each for each in suites if hasattr(each, name)), None)
    if suite is None:
        raise LookupError(f"there is no check {name}")
    body = getattr(suite, name)
    marks = [each for each in getattr(body, "pytestmark", []) if each.name == "parametrize"]
    cases = [{mark.args[0]: value} for mark in marks for value in mark.args[1]] or [{}]

    def check(bench: Bench, base: Path, case: dict[str, Any]) -> None:
        known = {"bench": bench, "base": base, **case}
        wanted = [each for each in inspect.signature(body).parameters if each != "self"]
        body(suite(), **{each: known[each] for each in wanted})

    return [(f"{name}{list(case.values()) or ''}", partial(check, case=case)) for case in cases]
