"""The contract suite notices every fault that is planted in the MongoDB backend."""

from __future__ import annotations

import itertools

import pytest

from tests.servers.mongodb import MongoServer
from tests.storage import mongo_mutants
from tests.storage.mongo_bench import mongo_bench
from tests.storage.test_contract_mutants import PATIENT, _passes, checks

#: The checks that notice most faults come first: it spares a minute.
_FIRST = (
    "test_the_oldest_comes_first",
    "test_who_lost_the_lease_can_write_nothing",
    "test_a_later_job_does_not_overtake",
    "test_a_released_job_keeps_place_and_attempt",
    "test_an_attempt_that_counts_is_remembered",
)
_NUMBERS = itertools.count()


@pytest.mark.parametrize("fault", mongo_mutants.MONGO, ids=lambda fault: fault.__name__)
def test_noticed(
    fault: mongo_mutants.Mutant, mongodb_server: MongoServer, mongo_prefix: str
) -> None:
    """At least one check fails; which ones is said when none does."""
    passed = []
    ordered = sorted(checks(), key=lambda check: check[0] not in _FIRST)
    with fault():
        for name, arguments in ordered:
            if (name in PATIENT) != ("wakes" in fault.__name__):
                continue
            bench = mongo_bench(
                mongodb_server,
                f"{mongo_prefix}{next(_NUMBERS)}_",
                mongo_mutants.WAY.get(fault, "together"),
            )
            if not _passes(name, arguments, bench):
                return
            passed.append(name)
    pytest.fail(f"all {len(passed)} checks pass with the fault {fault.__name__}")
