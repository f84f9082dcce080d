from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from spooler.clock import SystemClock
from spooler.daemon.supervisor import Supervisor
from spooler.observe.events import EventName, Observation, Observer
from spooler.testing.bench import DEVICE
from tests.daemon.parts import Parts


class Stubborn:
    """A worker whose run ends only when it is interrupted."""

    rules = SimpleNamespace(name=DEVICE)

    def __init__(self) -> None:
        self.interrupted = threading.Event()

    def run(self) -> None:
        assert self.interrupted.wait(60), "nobody has interrupted it"

    def stop(self) -> None:
        return

    def interrupt(self) -> None:
        self.interrupted.set()


def test_a_second_request_hurries_however_soon_it_comes(parts: Parts) -> None:
    """Here: while the first one is still being told of."""
    worker, closing = Stubborn(), threading.Event()

    def impatient(seen: Observation) -> None:
        if seen.name is EventName.DAEMON_STOPPING:
            supervisor.stop()

    housekeeper: Any = SimpleNamespace(run=closing.wait, close=closing.set)
    timers: Any = SimpleNamespace(start=lambda: None, close=lambda: None)
    supervisor = Supervisor(
        workers=[worker],  # type: ignore[list-item]
        keeper=parts.keeper,
        housekeeper=housekeeper,
        delivery=parts.delivery,
        timers=timers,
        observer=Observer(impatient),
        clock=SystemClock(),
        grace=lambda: 3600.0,
        reload=lambda: None,
    )
    assert supervisor.run(supervisor.stop) == 0
    assert worker.interrupted.is_set()
