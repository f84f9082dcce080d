"""The contract suite notices every fault that is planted in the MongoDB backend.

A fault counts as noticed only when the check that names it fails by an assertion; one whose
code is never called is stale, and fails its test.
"""

from __future__ import annotations

from contextlib import suppress

import pytest

from tests.servers.mongodb import MongoServer
from tests.storage.mongo_bench import mongo_bench
from tests.storage.mongo_mutants import MUTANTS, Check, Mutant


def _ends_with(check: Check, server: MongoServer, prefix: str, kind: str) -> BaseException | None:
    benches = mongo_bench(server, prefix, kind)
    try:
        check(next(benches))
    except (Exception, pytest.fail.Exception) as trouble:  # noqa: BLE001 - looked at by the caller
        return trouble
    finally:
        with suppress(StopIteration):
            next(benches)
    return None


@pytest.mark.parametrize("fault", MUTANTS.values(), ids=list(MUTANTS))
def test_noticed(fault: Mutant, mongodb_server: MongoServer, mongo_prefix: str) -> None:
    for number, check in enumerate(fault.checks):
        name = check.__name__
        sound = _ends_with(check, mongodb_server, f"{mongo_prefix}{number}a_", fault.kind)
        assert sound is None, f"{name} fails without a fault: {sound!r}"
        before = len(fault.calls)
        with fault.planted():
            found = _ends_with(check, mongodb_server, f"{mongo_prefix}{number}b_", fault.kind)
        assert len(fault.calls) > before, f"{name} never comes to the planted code: it is stale"
        assert isinstance(found, fault.fails), f"{name} does not notice: {found!r}"


def test_the_list_is_long_enough() -> None:
    assert len(MUTANTS) >= 25
