"""A daemon whose host, process numbers and clocks are others' is not taken for dead."""

from __future__ import annotations

import subprocess

import pytest

from tests.acceptance.lab import Lab, until

#: Another host name, other process numbers, and clocks that are a day ahead.
ELSEWHERE = (
    *("unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"),
    *("--time", "--monotonic", "86400", "--boottime", "86400"),
)
DAEMON = 'poll_interval = "200ms"\nlease = "1s"\nrecovery_interval = "100ms"'


@pytest.fixture(autouse=True)
def _name_spaces() -> None:
    try:
        subprocess.run([*ELSEWHERE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("name spaces cannot be made here; root can")


@pytest.mark.parametrize("inside", ["the one at work", "the other one"])
def test_a_live_run_is_left_alone_across_name_spaces(lab: Lab, inside: str) -> None:
    """No number of a process and no clock is a proof of death: the lock of its estate is."""
    first, second = (
        lab.counting(name=name, daemon=DAEMON, extra='rerun = "always"') for name in ("one", "two")
    )
    at_work = inside == "the one at work"
    lab.run(first, prefix=ELSEWHERE if at_work else ())
    job = lab.submit({"seconds": 3.0})
    until(lambda: lab.book(f"run {job}"), "the run")
    lab.run(second, prefix=() if at_work else ELSEWHERE)
    assert lab.ended("counter", job)["status"] == "DONE"
    assert lab.book(f"run {job}") == ["1"], "the first attempt, and no other"


def test_a_death_in_another_name_space_is_seen_at_once(lab: Lab) -> None:
    long = DAEMON.replace('"1s"', '"10m"')
    first, second = (
        lab.counting(name=name, daemon=long, extra='rerun = "always"') for name in ("one", "two")
    )
    daemon = lab.run(first, prefix=ELSEWHERE)
    job = lab.submit({"seconds": 30.0})
    until(lambda: lab.book(f"run {job}"), "the run")
    other = lab.run(second)
    daemon.process.kill()
    assert other.wait_for("job.requeued")["job"] == job, "without waiting for a lease"
