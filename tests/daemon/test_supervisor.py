from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from spooler.clock import SystemClock
from spooler.daemon.schedule.drain import Serve
from spooler.daemon.supervisor import DEAD_THREAD, OK, Supervisor, Watch
from spooler.errors import RunStopped
from spooler.model.device import Rerun
from spooler.model.result import Outcome
from spooler.model.run import RunRequest
from spooler.model.state import State
from spooler.observe.events import EventName, Observation, Observer
from spooler.protocols import RunControl
from spooler.storage.memory import MemoryStorage
from spooler.testing.bench import DEVICE
from tests.daemon.parts import PATIENCE, Parts


class Stubborn:
    """A worker whose run ends only when it is interrupted."""

    rules = SimpleNamespace(name=DEVICE)

    def __init__(self) -> None:
        self.interrupted = threading.Event()
        self.policy = Serve(lambda: 1.0)

    def run(self) -> None:
        assert self.interrupted.wait(60), "nobody has interrupted it"

    def stop(self) -> None:
        return

    def interrupt(self) -> None:
        self.interrupted.set()


def supervisor_of(parts: Parts, workers: list[Any], observer: Observer | None = None) -> Supervisor:
    timers: Any = SimpleNamespace(start=lambda: None, close=lambda: None)
    return Supervisor(
        workers=workers,
        housekeepers=[desk.housekeeper for desk in parts.desks.values()],
        timers=timers,
        observer=observer or parts.observer,
        clock=SystemClock(),
        watch=Watch(grace=lambda: 3600.0, reload=lambda: None),
    )


def test_a_second_request_hurries_however_soon_it_comes(parts: Parts) -> None:
    """Here: while the first one is still being told of."""
    worker = Stubborn()

    def impatient(seen: Observation) -> None:
        if seen.name is EventName.DAEMON_STOPPING:
            supervisor.stop()

    supervisor = supervisor_of(parts, [worker], Observer(impatient))
    assert supervisor.run(supervisor.stop) == OK
    assert worker.interrupted.is_set()


def test_each_storage_has_its_own_threads(parts: Parts) -> None:
    parts.add("frb", MemoryStorage("frb"))
    worker, names = Stubborn(), set[str]()

    def look(seen: Observation) -> None:
        if seen.name is EventName.DAEMON_STOPPING:
            names.update(each.name for each in threading.enumerate())
            supervisor.stop()

    supervisor = supervisor_of(parts, [worker], Observer(look))
    assert supervisor.run(supervisor.stop) == OK
    assert {"leases-lab", "feed-lab", "leases-frb", "feed-frb", f"worker-{DEVICE}"} <= names
    left = {each.name for each in threading.enumerate()}
    assert not left & {"leases-lab", "feed-lab", "leases-frb", "feed-frb", f"worker-{DEVICE}"}


def test_a_dead_thread_ends_the_daemon(parts: Parts) -> None:
    worker = Stubborn()

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    parts.submit()
    parts.hold()
    parts.clock.advance(3600)
    parts.backend.before["renew"] = broken
    supervisor = supervisor_of(parts, [worker])
    assert supervisor.run(lambda: None) == DEAD_THREAD
    assert worker.interrupted.is_set()
    assert parts.told(EventName.DAEMON_STOPPING) == [{"reason": "a thread died: a bug"}]


def test_what_runs_when_it_is_hurried_goes_its_way_to_the_end(tmp_path: Path) -> None:
    """Interrupted, it is given back; no claim and no record is left behind."""
    parts = Parts(tmp_path)
    parts.rules = type(parts.rules)(DEVICE, rerun=Rerun.ALWAYS)

    def act(_: RunRequest, control: RunControl) -> Outcome:
        supervisor.stop()
        supervisor.stop()
        while control.stop_reason is None:
            threading.Event().wait(0.005)
        raise RunStopped(control.stop_reason)

    parts.runner.act = act
    job_id = parts.submit()
    worker = parts.worker(Serve(lambda: PATIENCE))
    supervisor = supervisor_of(parts, [worker])
    assert supervisor.run(lambda: None) == OK
    assert parts.state_of(job_id) is State.QUEUED
    assert parts.leases.tokens() == set()
    assert EventName.JOB_RELEASED in parts.events()


def test_which_thread_asks_what_of_the_storage(tmp_path: Path) -> None:
    """The one that renews does nothing else, and progress is shown by the feed's."""
    parts = Parts(tmp_path, clock=SystemClock())  # type: ignore[arg-type]
    shown, renewed = threading.Event(), threading.Event()
    parts.backend.after["show"] = lambda *_: shown.set()
    parts.backend.after["renew"] = lambda *_: renewed.set()
    other = parts.leases.hold(parts.claim_of_ours())
    other.due = 0.0

    def act(_: RunRequest, control: RunControl) -> Outcome:
        control.progress("half")
        assert shown.wait(PATIENCE)
        assert renewed.wait(PATIENCE)
        return Outcome(State.DONE)

    parts.runner.act = act
    job = parts.submit()
    worker = parts.worker(Serve(lambda: PATIENCE))
    supervisor = supervisor_of(parts, [worker])
    parts.backend.after["ack"] = lambda *_: supervisor.stop()
    assert supervisor.run(lambda: None) == OK
    assert parts.state_of(job) is State.DONE
    asked = parts.backend.threads
    assert asked["show"] == {"feed-lab"}
    assert asked["renew"] == {"leases-lab"}
    for verb in ("claim", "start", "ack"):
        assert asked[verb] == {f"worker-{DEVICE}"}, verb
    (told,) = parts.told(EventName.JOB_PROGRESS)
    assert (told["job"], told["text"]) == (job, "half")
