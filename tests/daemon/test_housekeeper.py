"""The thread that delivers, recovers and announces."""

from __future__ import annotations

import threading
from pathlib import Path

from spooler.daemon.announcer import Announcer
from spooler.daemon.housekeeper import Bell, Housekeeper
from tests.daemon.parts import Parts


def test_timers_that_have_fallen_silent_are_made_up_for(tmp_path: Path) -> None:
    """The wall clock was set back, and every worker is busy: somebody has to notice."""
    parts, bell, late = Parts(tmp_path), Bell(), []
    keeper = Housekeeper(
        delivery=parts.delivery,
        recovery=parts.recovery,
        announcer=Announcer(parts.backend, [], parts.clock, parts.executor._observer, parts.outage),
        workers=[],
        outage=parts.outage,
        bell=bell,
        stopping=threading.Event(),
        clock=parts.clock,
        interval=lambda: 10.0,
        late=lambda: late.append(parts.clock.monotonic()),
    )
    for _ in range(10):
        parts.clock.advance(10.0)
        bell.ring("recover")
        keeper._round()
    assert late == [], "as long as they tick"
    for _ in range(10):
        parts.clock.advance(10.0)
        bell.ring("deliver")
        keeper._round()
    assert 3 <= len(late) <= 4
