"""A storage that promises something else than it does is caught, whichever trait it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from spooler.model.claim import Claim, Lease
from spooler.model.device import DeviceCard
from spooler.model.job import Queue
from spooler.model.storage import Fence, Traits
from spooler.storage.memory import MemoryBackend, MemoryStorage, MemorySubmitter
from spooler.testing.backend_contract import BackendContract
from spooler.testing.bench import DEVICE, QUEUE, Bench, new_token
from spooler.testing.clock import ManualClock
from tests.storage.planted import checks_named


class Lifo(MemoryBackend):
    """Hands out the youngest job first."""

    def claim(self, queue: Queue, lease: Lease) -> Claim | None:
        taken = []
        while (claim := super().claim(queue, replace(lease, token=new_token()))) is not None:
            taken.append(claim)
        for each in taken[:-1]:
            self.release(each, "the youngest goes first", refund=True)
        return taken[-1] if taken else None


def bench_of(traits: Traits, kind: type[MemoryBackend] = MemoryBackend) -> Bench:
    storage, clock = MemoryStorage(), ManualClock()
    MemoryBackend(storage, clock).catalogue.announce(QUEUE, DeviceCard(DEVICE), clock.now())
    return Bench(clock, lambda: kind(storage, clock, traits), MemorySubmitter(storage, clock))


#: What is promised wrongly, by whom, and the check that says so.
LIES = {
    "keeps_claims": (Traits(keeps_claims=False), MemoryBackend, "a_repeat_with_the_same_token"),
    "delays": (Traits(delays=False), MemoryBackend, "a_delayed_job_waits"),
    "ordered": (Traits(), Lifo, "the_oldest_comes_first"),
    "largest_report": (Traits(largest_report=1), MemoryBackend, "reports_of_every_size"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_caught_by_the_check_of_its_trait(lie: str, tmp_path: Path) -> None:
    traits, kind, name = LIES[lie]
    found = [each for each in dir(BackendContract) if name in each]
    assert len(found) == 1
    failed = []
    for _, check in checks_named(found[0], BackendContract):
        try:
            check(bench_of(traits, kind), tmp_path)
        except (AssertionError, pytest.fail.Exception):
            failed.append(check)
    assert failed, f"{found[0]} believes it"


@pytest.mark.parametrize("lie", LIES)
def test_the_truth_passes(lie: str, tmp_path: Path) -> None:
    """The checks find nothing where there is nothing."""
    (name,) = [each for each in dir(BackendContract) if LIES[lie][2] in each]
    for _, check in checks_named(name, BackendContract):
        check(bench_of(Traits()), tmp_path)


def test_every_trait_has_a_lie_here_or_a_check_elsewhere() -> None:
    """`fence` is asked by the overlap of renewal and end, which only an atomic one need pass."""
    assert set(Traits.__dataclass_fields__) == {*LIES, "fence"}
    assert set(Fence) == {Fence.ATOMIC, Fence.CHECKED}
