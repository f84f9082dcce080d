"""The way of a job: counted as it is said to be, on every storage."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FunctionType

import pytest

import spooler
from benchmarks.__main__ import main
from benchmarks.aims import aims
from benchmarks.found import Found
from benchmarks.place import BenchmarkError, Workplace
from benchmarks.run_way import Onlooker
from benchmarks.sizes import FULL
from benchmarks.way import FOLDER, MEMORY, MONGODB, SQLITE, Way, median
from tests.benchmarks.tiny import TINY
from tests.servers.mongodb import VARIABLE, MongoServer

pytestmark = [pytest.mark.interop, pytest.mark.acceptance]

_HOME = Path(spooler.__file__).parent


class _Package:
    """Functions that seem to stand in files of the package, and call one another."""

    def __init__(self) -> None:
        self.names: dict[str, object] = {}

    def add(self, file: str, source: str) -> None:
        """Define one function in a file of the package, or elsewhere where it begins with /."""
        where = file if file.startswith("/") else str(_HOME / file)
        exec(compile(source, where, "exec"), self.names)  # noqa: S102 - a text of this test

    def follow(self, onlooker: Onlooker, function: str) -> None:
        """Call a function with the onlooker at work."""
        called = self.names[function]
        assert isinstance(called, FunctionType)
        assert isinstance(called.__code__, CodeType)
        before = sys.getprofile()
        sys.setprofile(onlooker)
        try:
            called()
        finally:
            sys.setprofile(before)


@pytest.fixture
def package() -> _Package:
    made = _Package()
    made.add("daemon/worker.py", "def turn():\n    look()\n    execute()\n    look()")
    made.add("daemon/worker.py", "def look():\n    pass")
    made.add("daemon/executor.py", "def execute():\n    outside()\n    ack()\n    ack()")
    made.add("/elsewhere.py", "def outside():\n    inside()")
    made.add("clock.py", "def inside():\n    pass")
    made.add("storage/x.py", "def ack():\n    len('')\n    next(pieces())")
    made.add("storage/x.py", "def pieces():\n    yield 1")
    return made


def _onlooker() -> Onlooker:
    return Onlooker("MainThread")


def test_calls_and_moves_are_counted(package: _Package) -> None:
    """Frames of other packages lie between without counting; C functions count for nothing."""
    onlooker = _onlooker()
    package.follow(onlooker, "look")  # the first event starts the look: it is not counted
    package.add("daemon/worker.py", "def run():\n    turn()\n    look()\n    turn()")
    package.follow(onlooker, "run")
    assert len(onlooker.turns) == 2
    for turn in onlooker.turns:
        way = Way(turn["calls"], turn["moves"])
        assert way.files["daemon/worker.py"] == 3
        assert way.calls["clock.py:inside"] == 1
        assert way.calls["storage/x.py:ack"] == 2
        assert way.moves == {
            "daemon/executor.py:execute": 2,
            "clock.py:inside": 2,
            "storage/x.py:ack": 4,
        }
        assert way.moves_by_file["storage/x.py"] == 4
        # `pieces` is begun, and left for good when it is thrown away.
        assert way.calls["storage/x.py:pieces"] >= 2


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("daemon/worker.py", "def turn():\n    ack()"),
        ("daemon/executor.py", "def execute():\n    look()"),
        ("daemon/executor.py", "def ack():\n    pass"),
    ],
    ids=["no job", "report left to another thread", "not a storage's"],
)
def test_a_turn_without_job_and_delivery_is_left_out(
    package: _Package, file: str, changed: str
) -> None:
    onlooker = _onlooker()
    package.add("daemon/worker.py", "def run():\n    turn()")
    package.add(file, changed)
    package.follow(onlooker, "run")
    assert onlooker.turns == []


def test_another_thread_is_left_alone(package: _Package) -> None:
    onlooker = Onlooker("worker-noop")
    package.add("daemon/worker.py", "def run():\n    turn()")
    package.follow(onlooker, "run")
    assert onlooker.turns == []


def test_the_way_in_the_middle_is_taken(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    turns = [{"calls": {"a:f": each}, "moves": {"a:f": each}} for each in (90, 80, 3, 1, 2)]
    assert median(turns, place).figures == (1, 2, 2)
    with pytest.raises(BenchmarkError, match="too few jobs"):
        median(turns[:2], place)


@pytest.mark.parametrize(
    ("files", "moves", "met"), [(25, 150, True), (26, 150, False), (25, 151, False)]
)
def test_verdicts_follow_the_figures(*, files: int, moves: int, met: bool) -> None:
    calls = Counter({f"{number}.py:f": 1 for number in range(files)})
    found = Found(way={FOLDER: Way(calls, Counter({"0.py:f": moves}))})
    verdicts = {aim.text: aim.met for aim in aims(found, FULL) if "way" in aim.text}
    assert verdicts == {
        "way of a job, folder: at most 25 files, 150 moves": met,
        "way of a job, MongoDB: at most 25 files, 150 moves": None,
    }


def test_from_one_end_to_the_other(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    bare_mongodb: MongoServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job on every storage, through the rooms that none can leave out."""
    monkeypatch.setenv(VARIABLE, bare_mongodb.uri)
    code = main(["--only", "way", "--folder", str(tmp_path)], sizes=TINY)
    printed = capsys.readouterr()
    assert code == 0, printed.err
    rows = {
        cells[0].strip("`"): cells[1:]
        for line in printed.out.splitlines()
        if line.startswith("| ") and (cells := line.strip("| ").split(" | "))
    }
    for storage in (FOLDER, SQLITE, MEMORY, MONGODB):
        files, calls, moves = map(int, rows[storage][:3])
        assert 10 < files < calls
        assert moves % 2 == 0
    for file in ("worker", "executor", "reports/delivery", "claims/leases"):
        assert "-" not in rows[f"daemon/{file}.py"]
    for file in ("devices/runners/process.py", "signing/jws.py", "storage/wrapped/metered.py"):
        assert "-" not in rows[file]
    order = rows["file"]
    for room, storage in (("sqooler/folder", FOLDER), ("sqlite", SQLITE)):
        (cells,) = [rows[each] for each in rows if each == f"storage/{room}/backend.py"]
        assert [name for name, cell in zip(order, cells, strict=True) if cell != "-"] == [storage]
    assert "| way of a job, MongoDB: at most 25 files, 150 moves |" in printed.out
    assert "Not measured" not in printed.out
    assert list(tmp_path.iterdir()) == []
