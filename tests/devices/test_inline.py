"""What a thread cannot do, and how that is said."""

from __future__ import annotations

import os
import threading

import pytest

from spooler.devices import HandlerSpec, open_runner
from spooler.errors import ConfigError, DeviceUnusable, RunStopped
from spooler.model.run import StopReason
from spooler.model.state import State

from .conftest import Control, MakeBench


def test_the_thread_is_named_after_the_device(bench: MakeBench) -> None:
    result = bench(isolation="thread").do("answer").result
    assert result is not None
    assert result.data["thread"] == "device-bench"


def test_a_handler_that_does_not_end_wedges_the_device_until_it_does(bench: MakeBench) -> None:
    before = set(threading.enumerate())
    it = bench("wedged:Wedged", isolation="thread")
    from wedged import RELEASE

    RELEASE.clear()
    # The job that is stuck ends for the reason it was stopped for: it has touched the hardware.
    with pytest.raises(RunStopped, match="cancelled"):
        it.run({}, Control(StopReason.CANCELLED, stop_at="stuck"))
    with pytest.raises(DeviceUnusable, match='use isolation = "process"'):
        it.run({})
    with pytest.raises(DeviceUnusable, match="did not end when asked"):
        it.runner.open()
    threads = [t for t in threading.enumerate() if t not in before]
    assert len(threads) == 1
    RELEASE.set()
    threads[0].join(10)
    it.runner.open()
    assert it.run({}).state is State.DONE


def test_limits_of_a_process_need_one() -> None:
    with pytest.raises(ConfigError, match='memory_limit needs isolation = "process"'):
        open_runner(HandlerSpec("a", "echo", isolation="thread", memory_limit=1))
    with pytest.raises(ConfigError, match='env needs isolation = "process"'):
        open_runner(HandlerSpec("a", "echo", isolation="thread", env={"A": "b"}))
    with pytest.raises(ConfigError, match='recycle_after needs isolation = "process"'):
        open_runner(HandlerSpec("a", "echo", isolation="thread", recycle_after=1))


def test_a_fork_of_a_thread_ends_where_the_handler_ends(bench: MakeBench) -> None:
    """Else a copy of the daemon would go on."""
    it = bench(isolation="thread")
    answer = it.run({"do": "fork", "with": {"leave": "exit"}}).result
    assert answer is not None
    assert answer.data == {"code": 5, "pid": os.getpid()}


def test_an_unknown_isolation_is_refused() -> None:
    with pytest.raises(ConfigError, match="isolation is 'fork', it must be 'process' or 'thread'"):
        open_runner(HandlerSpec("a", "echo", isolation="fork"))
