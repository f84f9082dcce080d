"""Whatever has been said stands, wherever the process was killed; nothing else is half done."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from spooler.model.claim import Claim
from spooler.model.device import DeviceCard
from spooler.model.state import State
from spooler.storage.sqlite.backend import SqliteBackend
from spooler.testing.bench import DEVICE, QUEUE, dead, new_lease, signed_report
from spooler.testing.clock import ManualClock
from tests.storage.sqlite_bench import rows, sqlite_backend, sqlite_submitter

#: Statements of the journey `steps`, those that open the file included: a test counts them.
STATEMENTS = 59


class Deaths(NamedTuple):
    """By step: the jobs that there were, and the exit code of who worked on them."""

    folder: Path
    ids: dict[int, list[str]]
    codes: dict[int, int]


def worker(path: Path, *way: object) -> list[str]:
    return [sys.executable, "-m", "tests.storage.sqlite_deaths", str(path), *map(str, way)]


def announced(path: Path, jobs: int) -> list[str]:
    """A file with some jobs."""
    clock = ManualClock()
    backend, submitter = sqlite_backend(path, clock), sqlite_submitter(path, clock)
    backend.catalogue.announce(QUEUE, DeviceCard(DEVICE), clock.now())
    ids = [submitter.submit(DEVICE, {"number": number}) for number in range(jobs)]
    backend.close(), submitter.close()
    return ids


def survive(path: Path, ids: list[str], said: list[list[str]]) -> None:
    """Look at the file as the next daemon does, hold it against what was said, end all jobs."""
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert rows(path, "PRAGMA foreign_key_check") == []
    clock = ManualClock()
    backend, submitter = sqlite_backend(path, clock), sqlite_submitter(path, clock)
    acked = {job_id: int(attempt) for verb, job_id, attempt in said if verb == "ack"}
    for job_id, attempt in acked.items():
        assert submitter.result(DEVICE, job_id).data["attempt"] == attempt
        assert submitter.verify(DEVICE, job_id).ok
    left = []
    while (claim := backend.reclaim(QUEUE, new_lease(), dead)) is not None:
        held_as_said(claim, said)
        left.append(end(backend, claim))
    assert len(left) <= 1, "a process that has one job at a time leaves one at most"
    while (claim := backend.claim(QUEUE, new_lease())) is not None:
        released = [
            int(n) for verb, job_id, n in said if (verb, job_id) == ("release", claim.job.id)
        ]
        assert [past.number for past in claim.history][: len(released)] == released
        left.append(end(backend, claim))
    assert not set(left) & acked.keys(), "a job with a result was handed out"
    assert len(set(left)) == len(left)
    states = {job_id: submitter.status(DEVICE, job_id).state for job_id in ids}
    assert set(states.values()) == {State.DONE}
    assert all(submitter.result(DEVICE, job_id).data for job_id in ids), "an end without its result"
    backend.close(), submitter.close()


def held_as_said(claim: Claim, said: list[list[str]]) -> None:
    """A start that has returned is known to whoever takes over."""
    if ["start", claim.job.id, str(claim.attempt)] in said:
        assert claim.started
    assert [past.started for past in claim.history] == [True] * (claim.attempt - 1)


def end(backend: SqliteBackend, claim: Claim) -> str:
    backend.ack(claim, signed_report(claim))
    return claim.job.id


@pytest.fixture(scope="module")
def deaths(tmp_path_factory: pytest.TempPathFactory) -> Deaths:
    """One process for each statement, and one more: how each has ended, and what it left."""
    folder = tmp_path_factory.mktemp("deaths")
    ids = {}
    for step in range(1, STATEMENTS + 2):
        (folder / str(step)).mkdir()
        ids[step] = announced(folder / str(step) / "jobs.db", 2)
    said = subprocess.run(
        worker(folder, "each", STATEMENTS + 1),
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    ).stdout
    codes = dict(tuple(map(int, line.split())) for line in said.splitlines())
    return Deaths(folder, ids, codes)


@pytest.mark.xdist_group("sqlite-deaths")
@pytest.mark.parametrize("step", range(1, STATEMENTS + 1))
def test_killed_before_a_statement(deaths: Deaths, step: int) -> None:
    assert deaths.codes[step] == -9
    place = deaths.folder / str(step)
    said = (place / "said").read_text(encoding="utf-8").splitlines()
    survive(place / "jobs.db", deaths.ids[step], [line.split() for line in said])


@pytest.mark.xdist_group("sqlite-deaths")
def test_the_journey_has_as_many_statements_as_are_tried(deaths: Deaths) -> None:
    """One further, and the process comes to its end: no step is left out."""
    assert deaths.codes[STATEMENTS + 1] == 0


@pytest.mark.parametrize("seed", range(8))
def test_killed_at_any_moment(tmp_path: Path, seed: int) -> None:
    """Between and within verbs, also while SQLite itself writes."""
    path, drawn = tmp_path / "jobs.db", random.Random(seed)
    ids = announced(path, 60)
    process = subprocess.Popen(worker(path, "forever", seed), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(drawn.randrange(1, 60))]
    time.sleep(drawn.uniform(0, 0.003))
    process.kill()
    lines += process.communicate(timeout=60)[0].splitlines(keepends=True)
    assert process.returncode == -9
    survive(path, ids, [line.split() for line in lines if line.endswith("\n")])
