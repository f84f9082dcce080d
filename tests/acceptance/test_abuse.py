"""What handlers should not do, in a real daemon: the job has a reason, the next one runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.lab import Lab, Process, until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("abuse")]

#: What the daemon's log may grow by, whatever a handler prints (bytes).
LOG = 300_000
LIMITS = """\
timeout = "2s"
grace = "300ms"
memory_limit = "700 MiB"
max_output = "1 MiB"
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    made = Lab(tmp_path_factory.mktemp("abuse"))
    source = Path(__file__).with_name("abusing.py").read_text(encoding="utf-8")
    (made.folder / "lab_abusing.py").write_text(source, encoding="utf-8")
    yield made
    made.close()


@pytest.fixture(scope="module")
def daemon(lab: Lab) -> Process:
    config = lab.configure(
        "zoo", "lab_abusing:Abusing", extra=LIMITS, book=str(lab.folder / "book")
    )
    return lab.run(config)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("segfault", "SIGSEGV"),
        ("leak", "MemoryError"),
        ("leak_in_c", "SIGSEGV"),
        ("forks", "timed out after 2 s"),
        ("forks_and_dies", "exit code 9"),
        ("ignores_sigterm", "timed out after 2 s"),
        ("holds_the_gil", "timed out after 2 s"),
        ("closes_its_pipes", "cut its connection"),
        ("prints", "timed out after 2 s"),
        ("prints_without_line_ends", "timed out after 2 s"),
        ("returns_too_much", "more than the 1048576"),
    ],
)
def test_the_job_has_a_reason_and_the_next_one_runs(
    lab: Lab, daemon: Process, what: str, reason: str
) -> None:
    before = len(daemon.text())
    bad = lab.submit({"do": what}, "zoo")
    good = lab.submit({"do": "nothing"}, "zoo")
    ended = lab.ended("zoo", bad)
    if what == "prints" and ended["status"] == "DONE":
        reason = ""  # on a quick machine two gigabytes take less than the timeout
    assert reason in ended["error_message"], ended
    assert lab.ended("zoo", good)["status"] == "DONE"
    assert daemon.process.poll() is None
    survivors = pids(lab, good)
    until(lambda: not any(alive(pid) for pid in pids(lab, bad) - survivors), "the end of the tree")
    assert len(daemon.text()) - before < LOG


def pids(lab: Lab, job: str) -> set[int]:
    """The processes that worked on a job."""
    return {int(line.split()[1]) for line in lab.book("pid") if line.startswith(job)}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
