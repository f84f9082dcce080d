"""Signs of life come for as long as the work gets on."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from spooler.daemon.pulse import DELIVERY, LOOK, Pulse
from spooler.model.state import State
from spooler.testing.clock import ManualClock
from tests.daemon.parts import Looks, Parts


def in_thread(name: str, say) -> None:  # type: ignore[no-untyped-def]
    thread = threading.Thread(target=say, name=name)
    thread.start()
    thread.join()


def test_a_thread_that_is_not_heard_of_in_time_is_stuck() -> None:
    clock = ManualClock()
    pulse = Pulse(clock)
    assert not pulse.asks_for_a_restart()
    in_thread("worker-a", pulse.beat)
    in_thread("worker-b", lambda: pulse.beat(3600.0 + LOOK))
    clock.advance(LOOK - 1)
    assert pulse.stuck() == []
    clock.advance(2)
    assert pulse.stuck() == ["worker-a"]
    assert pulse.asks_for_a_restart(), "the other one only waits for its next tick"
    in_thread("worker-a", pulse.beat)
    assert not pulse.asks_for_a_restart()


def test_no_run_is_cut_because_another_device_is_stuck() -> None:
    clock = ManualClock()
    pulse = Pulse(clock)
    in_thread("worker-a", pulse.beat)
    in_thread("worker-b", pulse.run)
    clock.advance(10 * DELIVERY)
    assert pulse.stuck() == ["worker-a"]
    assert not pulse.asks_for_a_restart()
    in_thread("worker-b", pulse.end)
    assert pulse.asks_for_a_restart()


@pytest.mark.parametrize("verb", ["claim", "start"])
def test_a_worker_that_hangs_at_its_storage_is_noticed(tmp_path: Path, verb: str) -> None:
    parts = Parts(tmp_path)
    parts.submit()
    seen: list[bool] = []

    def hang(*_: object) -> None:
        for _ in range(2):
            parts.clock.advance(LOOK)
            seen.append(parts.shared.pulse.asks_for_a_restart())

    parts.backend.before[verb] = hang
    parts.worker(Looks(parts.clock, 1, lambda: None)).run()
    assert seen[:2] == [False, True]


def test_a_long_run_is_not_taken_for_stuck(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    job = parts.submit()
    act = parts.runner.act

    def long(*arguments):  # type: ignore[no-untyped-def]
        parts.clock.advance(100_000.0)
        assert not parts.shared.pulse.asks_for_a_restart()
        return act(*arguments)

    parts.runner.act = long
    hung: list[bool] = []

    def deliver(*_: object) -> None:
        parts.clock.advance(DELIVERY + 1)
        hung.append(parts.shared.pulse.asks_for_a_restart())

    parts.backend.before["ack"] = deliver
    parts.worker(Looks(parts.clock, 1, lambda: None)).run()
    assert parts.state_of(job) is State.DONE
    assert hung == [True], "by then the report is safe"
    parts.clock.advance(100_000.0)
    assert parts.shared.pulse.stuck() == [], "a worker that has ended is not waited for"
