"""What takes a certain moment: a slow disk, a late write, a legacy, an old picture of a claim.

Each way is gone on each storage, at each step at which a daemon can stand. Then the faults that the
first edition had are put back, one after the other: each has to be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from spooler.daemon.claims.estates import Estates
from spooler.daemon.claims.leases import Leases
from spooler.durable import exists
from spooler.model.device import Rerun
from spooler.model.state import State
from spooler.model.storage import Standing
from spooler.storage.sqooler.folder.claims import FolderClaims
from spooler.storage.sqooler.folder.endings import FolderEndings
from spooler.testing.bench import TTL
from tests.faults.everything import STORAGES
from tests.faults.machine import Machine, machine_on
from tests.faults.nodes import Fault
from tests.faults.on_mongodb import MONGODB
from tests.faults.storages import FOLDER, Storage
from tests.faults.test_single_faults import WAYS

#: More steps than a run has.
MOST = 200
#: On a server, every so manieth.
FEWER = 5


@contextmanager
def machine(storage: Storage, rerun: Rerun = Rerun.IF_NOT_STARTED) -> Iterator[Machine]:
    """Two daemons on two hosts, and a job."""
    made = machine_on(storage)()
    made.begin(rerun, 2, 2)
    made.submit()
    try:
        yield made
    finally:
        made.close()


def standing(storage: Storage, rerun: Rerun, first: int = 0) -> Iterator[Machine]:
    """A machine whose first daemon stands at a step of a run that shows progress; at each step."""
    every = FEWER if storage is MONGODB else 1
    for step in range(first, MOST, every):
        with machine(storage, rerun) as made:
            node = made.nodes[0]
            node.during = node.housekeep
            action = made.do(node, node.turn, Fault("stand", step))
            if action.ended:
                return
            yield made
    raise AssertionError("a run has no end")


def ended(made: Machine) -> None:
    """Everybody goes on; all promises are kept."""
    made.ends_are_final_and_true()
    made.recover()


def is_ended_by_another(storage: Storage, rerun: Rerun) -> None:
    """A daemon stands still for longer than its lease; another ends its job, then it goes on."""
    for made in standing(storage, rerun):
        other = made.nodes[1]
        for _ in range(3):
            made.do(other, other.housekeep)
            made.do(other, other.turn)
            made.clock.advance(TTL + 1)
        made.ends_are_final_and_true()
        made.go_on(made.nodes[0])
        ended(made)


def is_slow(storage: Storage) -> None:
    """One thread stands, as on a slow disk, while that of the leases goes on."""
    for made in standing(storage, Rerun.IF_NOT_STARTED):
        (_, job), name = made.jobs[0], made.nodes[0].owner.process
        holder = made.holder.get(job)
        made.slow_disk(0, 1)
        made.go_on(made.nodes[0])
        ended(made)
        if holder is not None and holder.started and holder.owner.process == name:
            (end,) = made.ends.values()
            assert end[0] is State.DONE, "a finished run was lost on a slow disk"


def is_left(storage: Storage) -> None:
    """A daemon dies with a report that it could not bring; another of its host meets the claim."""
    with machine(storage) as made:
        way: Any = WAYS["a report beside it"]
        way.prepared(made)
        way(made)
        ended(made)


def is_shown(storage: Storage) -> None:
    """A waiting job is shown as running, by nobody."""
    with machine(storage) as made:
        made.picture(0)
        ended(made)


def on(*left_out: Storage) -> Any:
    some = [each for each in STORAGES if each not in left_out]
    return pytest.mark.parametrize("storage", some, ids=lambda each: each.name, indirect=True)


@on()
@pytest.mark.parametrize("rerun", [Rerun.IF_NOT_STARTED, Rerun.ALWAYS])
def test_a_daemon_stands_still_while_another_ends_its_job(storage: Storage, rerun: Rerun) -> None:
    is_ended_by_another(storage, rerun)


@on()
def test_a_slow_disk_costs_nobody_his_run(storage: Storage) -> None:
    is_slow(storage)


@on()
def test_what_a_dead_daemon_has_left_is_brought(storage: Storage) -> None:
    is_left(storage)


@on()
def test_what_is_only_shown_decides_nothing(storage: Storage) -> None:
    is_shown(storage)


# --- the faults of the first edition ------------------------------------------------------------


def shows_unfenced(self: Any, claim: Any, text: str) -> None:
    """F1: look whether the claim is ours, then publish the text as any document."""
    if not self._claims.holds(claim):
        return
    folder = self._layout.queues[claim.job.queue].status
    content = self._renderer.status(claim.job.id, State.RUNNING, text)
    self._disk.publish(f"{folder}/{claim.job.id}.json", content, mark="progress")


def takes_over_at_once(self: Any, claim: Any) -> Standing:
    """F2: who is dead is dead, whatever lies in its outbox."""
    estate = self._estate_of(claim.lease.owner)
    if estate is None or estate == self._mine.folder.parent:
        return Standing.LEASED
    return Standing.LEASED if self._adopted(estate) is None else Standing.DEAD


def spares_none(self: Any) -> set[str]:
    """F2: the reports of the dead are not among those that are cared for."""
    return set(self._mine.tokens())


def skips_what_is_brought(real: Callable[[Any], float]) -> Callable[[Any], float]:
    """F3: the keeper of leases passes by a claim whose report is being delivered."""

    def renew_due(self: Any) -> float:
        for held in self.all():
            if busy.get(held.claim.token):
                held.due = float("inf")
        return real(self)

    return renew_due


#: The tokens whose reports are being delivered, for F3.
busy: dict[str, bool] = {}


def believes_the_picture(self: Any, job_id: str, _: str) -> bool:
    """F4: what is shown in jobs/running runs."""
    return exists(f"{self._layout.running}/{job_id}.json")


def test_an_unfenced_word_of_progress_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FolderEndings, "show", shows_unfenced)
    with pytest.raises(AssertionError, match="had ended and is running"):
        is_ended_by_another(FOLDER, Rerun.IF_NOT_STARTED)


def test_a_legacy_that_nobody_looks_at_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Estates, "standing", takes_over_at_once)
    monkeypatch.setattr(Estates, "tokens", spares_none)
    monkeypatch.setattr(Estates, "adopt_siblings", lambda _: None)
    with pytest.raises(AssertionError, match="taken over, and its report lies here"):
        is_left(FOLDER)


def test_a_delivery_that_stops_the_heartbeat_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = FolderEndings.end

    def end(self: Any, claim: Any, signed: Any) -> None:
        busy[claim.token] = True
        try:
            real(self, claim, signed)
        finally:
            busy.pop(claim.token, None)

    monkeypatch.setattr(FolderEndings, "end", end)
    monkeypatch.setattr(Leases, "renew_due", skips_what_is_brought(Leases.renew_due))
    with pytest.raises(AssertionError, match="taken over from a process that is at work"):
        is_slow(FOLDER)


def test_a_picture_that_is_believed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FolderClaims, "runs_elsewhere", believes_the_picture)
    with pytest.raises(AssertionError, match="a job has no end"):
        is_shown(FOLDER)
