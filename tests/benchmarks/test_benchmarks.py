"""The harness: every peer really does the jobs, and the report says what was found. No times."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import counts
from benchmarks.__main__ import main
from benchmarks.aims import aims
from benchmarks.drain import Run
from benchmarks.figures import quantile, ratio
from benchmarks.found import Found
from benchmarks.peers import (
    ALL,
    REFERENCE,
    REFERENCE_DURABLE,
    SPOOLER,
    SPOOLER_DURABLE,
    SQLITE,
    SQOOLER,
    THREAD,
    THREAD_DURABLE,
    Peer,
)
from benchmarks.place import MEMORY, BenchmarkError, Place, fresh
from benchmarks.running import Memory, run_to_end
from benchmarks.sizes import FULL
from benchmarks.sqlite_place import SqlitePlace
from tests.benchmarks.tiny import TINY

pytestmark = [pytest.mark.interop, pytest.mark.acceptance]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("peer", ALL, ids=lambda peer: peer.name)
def test_every_peer_does_the_jobs(peer: Peer, tmp_path: Path) -> None:
    """Counted, and verified with sqooler's own code where they are signed."""
    with fresh(peer.place, tmp_path) as place:
        place.fill(5)
        run_to_end(peer.drain(place, 5), place)
        place.demand_done(5, signed=peer.signed)
        assert place.seconds_between_results() > 0
        if isinstance(place, Place):
            assert not list(place.inside("queue").iterdir())


@pytest.fixture
def done(place: Place) -> Place:
    """A place whose three jobs are done."""
    place.fill(3)
    run_to_end(REFERENCE.drain(place, 3), place)
    place.demand_done(3, signed=True)
    return place


def test_a_job_left_is_noticed(done: Place) -> None:
    with pytest.raises(BenchmarkError, match=r"4 jobs were to be done, and there are 3 results"):
        done.demand_done(4, signed=True)


def test_what_is_wrong_on_sqlite_is_noticed(tmp_path: Path) -> None:
    with fresh(SqlitePlace, tmp_path) as place:
        place.fill(2)
        with pytest.raises(BenchmarkError, match=r"2 jobs were to be done, and 0 are"):
            place.demand_done(2, signed=True)
        run_to_end(SQLITE.drain(place, 2), place)
        place.demand_done(2, signed=True)
        with closing(sqlite3.connect(place.folder / "spooler.db")) as connection, connection:
            connection.execute(
                "UPDATE reports SET report = "
                "CAST(replace(CAST(report AS TEXT), '1.0.0', '9.9.9') AS BLOB)"
            )
        with pytest.raises(BenchmarkError, match="signature"):
            place.demand_done(2, signed=True)


def test_a_false_signature_is_noticed(done: Place) -> None:
    for result in done.inside("results").iterdir():
        content = json.loads(result.read_text())
        content["payload"]["backend_version"] = "9.9.9"
        result.write_text(json.dumps(content))
    with pytest.raises(BenchmarkError, match="signature"):
        done.demand_done(3, signed=True)
    done.demand_done(3, signed=False)


def test_a_status_that_is_not_done_is_noticed(done: Place) -> None:
    for status in done.inside("status").iterdir():
        status.write_text(status.read_text().replace("DONE", "ERROR"))
    with pytest.raises(BenchmarkError, match="do not say that it is done"):
        done.demand_done(3, signed=True)


def test_a_peer_that_fails_is_named(place: Place) -> None:
    place.fill(1)
    shutil.rmtree(place.inside("queue"))
    with pytest.raises(BenchmarkError, match=r"run_reference ended with 1: FileNotFoundError"):
        run_to_end(REFERENCE.drain(place, 1), place)


def test_from_one_end_to_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All measurements, tiny; the report is printed and written, the work folder is empty."""
    work, file = tmp_path / "work", tmp_path / "benchmarks.md"
    work.mkdir()
    names = ("short", "long", "pickup", "idle", "memory")
    only = [word for name in names for word in ("--only", name)]
    peers = (SPOOLER, SQOOLER, REFERENCE)
    code = main([*only, "--write", str(file), "--folder", str(work)], sizes=TINY, peers=peers)
    printed = capsys.readouterr()
    assert code == 0, printed.err
    text = file.read_text(encoding="utf-8")
    assert printed.out.strip() == text.strip()
    assert "round 1 of 1: sqooler" in printed.err
    assert "A quick run" in text
    assert "Not measured" not in text
    for peer in peers:
        assert text.count(f"| {peer.label}") == (3 if peer is SQOOLER else 2)
    assert "| sqooler: claimed |" in text
    assert "from 3 to 6 jobs" in text
    assert text.count("| met |") + text.count("| **NOT met** |") >= 8
    assert list(work.iterdir()) == []


def test_what_fails_is_said_and_the_rest_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(counts, "available", lambda: False)
    words = ["--only", "counts", "--only", "short", "--folder", str(tmp_path)]
    assert main(words, sizes=TINY, peers=(REFERENCE,)) == 1
    printed = capsys.readouterr().out
    assert "**Not measured: counts: strace is not installed**" in printed
    assert "## Drain of 4 queued jobs" in printed


@pytest.mark.skipif(not counts.available(), reason="strace is not installed")
@pytest.mark.parametrize(
    ("ours", "theirs"), [(THREAD, REFERENCE), (THREAD_DURABLE, REFERENCE_DURABLE)]
)
def test_the_reference_does_what_spooler_does(tmp_path: Path, ours: Peer, theirs: Peer) -> None:
    """Else the ratio says nothing: bring benchmarks/run_reference.py up to date."""
    found = counts.measure(TINY, tmp_path, lambda _: None, (ours, theirs))
    assert found[ours.name][counts.RENAMES] >= 1
    assert found[ours.name][counts.FSYNCS] >= 2  # the daemon's own record, in any case
    assert counts.differences(found[ours.name], found[theirs.name]) == []


def test_without_fsync_the_state_lies_in_memory(place: Place) -> None:
    """What the daemon syncs in any case must not be paid for there."""
    for peer in (SPOOLER_DURABLE, REFERENCE_DURABLE):
        peer.drain(place, 1)
        assert place.state.parent == place.folder
    for peer in (SPOOLER, REFERENCE):
        place.fill(1)
        run_to_end(peer.drain(place, 1), place)
        assert MEMORY in place.state.parents
        assert (place.state / "records").is_dir()
    assert not (place.folder / "state").exists()
    place.close()
    assert not place.state.parent.exists()


def test_counting_lines_of_strace() -> None:
    lines = [
        'openat(AT_FDCWD</x>, "/s/a", O_WRONLY|O_CREAT, 0666) = 3</s/a>',
        'openat(AT_FDCWD</x>, "/s/a", O_RDONLY|O_CLOEXEC) = 3</s/a>',
        'openat(AT_FDCWD</x>, "/s/b", O_RDONLY|O_DIRECTORY) = 3</s/b>',
        'write(3</s/a>, ""..., 42) = 42',
        'write(3</elsewhere/a>, ""..., 1000) = 1000',
        "fsync(3</s/a>) = 0",
        'rename("/s/a", "/s/b") = 0',
        'newfstatat(3</s/a>, "", {...}, AT_EMPTY_PATH) = 0',
        'access("/s/c", F_OK) = -1 ENOENT (No such file or directory)',
        "+++ exited with 0 +++",
    ]
    assert counts.count(lines, ["/s/"]) == {
        counts.OPENS: 1,
        counts.READS: 1,
        counts.WRITES: 1,
        counts.BYTES: 42,
        counts.FSYNCS: 1,
        counts.RENAMES: 1,
        counts.LOOKS: 1,
    }


def test_ratios_are_taken_within_a_round() -> None:
    """Medians of each peer would say 1: here one is always the double of the other."""
    rounds = [{"a": Run(2 * rate, 0), "b": Run(rate, 0)} for rate in (1.0, 50.0, 3.0)]
    spread = ratio(rounds, "a", "b", lambda run: run.rate)
    assert (spread.low, spread.median, spread.high) == (2, 2, 2)


def test_quantiles() -> None:
    values = [float(each) for each in range(1, 101)]
    assert [quantile(values, part) for part in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert quantile([7.0], 0.5) == 7


@pytest.mark.parametrize(("rate", "met"), [(399.0, False), (400.0, True)])
def test_verdicts_follow_the_figures(*, rate: float, met: bool) -> None:
    found = Found(long=[{"spooler": Run(rate, 0), "sqooler": Run(10, 0), "reference": Run(500, 0)}])
    verdicts = {aim.text: aim.met for aim in aims(found, FULL)}
    waiting = "drain of 10,000, fsync off: 40 x sqooler while 10,000 wait"
    assert verdicts[waiting] is met
    assert verdicts["drain of 10,000, fsync off: 60% of a reference that signs as well"] is True
    assert verdicts["drain of 500, fsync off: 10 x sqooler"] is None


def test_growth_is_what_comes_after_the_first_batch() -> None:
    grown = Found(memory={1: Memory(0, 0), 2000: Memory(2**20, 0), 10_000: Memory(2**21, 0)})
    level = replace(
        grown, memory={1: Memory(0, 0), 2000: Memory(2**20, 0), 10_000: Memory(2**20, 0)}
    )
    verdicts = [
        aim.met for each in (grown, level) for aim in aims(each, FULL) if "memory" in aim.text
    ]
    assert verdicts == [False, True]
