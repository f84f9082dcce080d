"""Plays journeys in processes that die where told to: `python -m tests.faults.server [URI]`.

One warmed process that forks a daemon per try, because starting an interpreter for each of some
thousand points would take an hour. It reads one JSON request per line and answers with one.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import select
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from spooler.app import Daemon, RunOptions, parts
from spooler.daemon.claims import recovery
from spooler.model.storage import Standing
from spooler.observe.board import Board
from spooler.observe.events import EventName, Observation, Observer
from spooler.observe.notify import ServiceManager
from spooler.settings import Settings
from spooler.storage.sqooler.folder.watch import FolderWatch
from tests.faults import handlers, storages
from tests.faults.checks import Frozen, problems
from tests.faults.everything import STORAGES
from tests.faults.journeys import Journey
from tests.faults.points import AFTER, BEFORE, At, Point, TracedOs, install, watch_for_others, whole
from tests.faults.verbs import LOOKS, Around
from tests.faults.world import Body, World

#: Exit codes of a forked daemon.
DIED, BROKEN = 77, 99
PATIENCE = 20.0

for each in (
    "spooler.devices.runners.thread",
    "spooler.storage.sqooler.folder.backend",
    "spooler.storage.sqooler.mongodb.backend",
    "spooler.storage.sqlite.backend",
):
    importlib.import_module(each)  # else each daemon would import it anew


def serve_daemon(settings: Settings, told: Callable[[Observation], None] | None = None) -> int:
    """The real daemon, until its queues are empty; one that tells somebody serves on."""
    board = Board()
    observer = Observer(board) if told is None else Observer(board, told)
    daemon = Daemon(settings, RunOptions(once=told is None), observer, board)
    return daemon.serve(ServiceManager(), lambda: None)


def fork(world: World, body: Body) -> int:
    """The pid of a child that runs `body` and ends with its exit code."""
    pid = os.fork()
    if pid:
        return pid
    code = BROKEN
    try:
        recovery.RETRY_AFTER = 0.0
        # Closing inotify takes half a second after a rename; the process ends in a moment.
        FolderWatch.close = lambda _: None  # type: ignore[method-assign]
        code = body()
    except BaseException:  # noqa: BLE001 - shown by the parent
        (world.notes / "trouble").write_text(traceback.format_exc())
    os._exit(code)


def wait_for(world: World, pid: int) -> int:
    """The exit code of a child; kills one that hangs."""
    end = time.monotonic() + PATIENCE
    watch = os.pidfd_open(pid)
    ready = select.select([watch], [], [], max(0.0, end - time.monotonic()))[0]
    os.close(watch)
    if not ready:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise AssertionError("a daemon hangs")
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    trouble = world.notes / "trouble"
    if trouble.exists():
        raise AssertionError(trouble.read_text())
    return code


def run(world: World, name: str, journey: Journey) -> int:
    """Run a daemon that nothing happens to; its exit code."""
    settings = world.settings(name, "done", journey.rerun)
    return wait_for(world, fork(world, lambda: serve_daemon(settings)))


# --- the daemon that dies -----------------------------------------------------------------------


def traced_daemon(world: World, journey: Journey, name: str, at: At, watch: Path | None) -> int:
    """A daemon with `at` called at each point; in a forked child."""
    traced = install(str(world.folder), at)
    if watch is not None:
        watch_for_others(str(world.folder), traced, lambda text: _append(watch, text))
    handlers.CANCEL[:] = [_cancelling(world, traced)]
    real = parts.open_storage

    def opened(*args: Any) -> Around:
        return Around(real(*args), _stepping(at, traced))

    parts.open_storage = opened  # type: ignore[assignment]

    def finer(point: Point, tear: Callable[[], Any]) -> None:
        if not traced.inside:
            at(point, tear)

    with world.trace_finer(finer):
        return serve_daemon(world.settings(name, journey.act, journey.rerun))


def _stepping(at: At, traced: TracedOs) -> Callable[..., Any]:
    """Each call of a verb that changes something, as a point before and after it."""
    counts: Counter[str] = Counter()
    lock = threading.Lock()

    def passing(verb: str, ask: Callable[[], Any], _: Any) -> Any:
        if verb in LOOKS or traced.inside:
            return ask()
        with lock:
            nth = counts[verb] = counts[verb] + 1
        at(Point(verb, nth, BEFORE), whole)
        answer = ask()
        at(Point(verb, nth, AFTER), whole)
        return answer

    return passing


def _cancelling(world: World, traced: TracedOs) -> Callable[[str], None]:
    def cancel(job: str) -> None:
        with traced.outside():
            world.cancel(job)

    return cancel


def _append(place: Path, text: str) -> None:
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{text}\n".encode())
    os.close(handle)


# --- before the journey ------------------------------------------------------------------------


def prepare(world: World, journey: Journey) -> None:
    """Submit the job, and have an earlier daemon die with it where the journey says so."""
    world.submit()
    if journey.withdrawn:
        world.cancel(world.job)
    if journey.pictured and world.storage.picture is not None:
        world.storage.picture(world.site, world.job)
    if not journey.after:
        return
    pattern = re.compile(world.marks[journey.after])

    def at(point: Point, _: Callable[[], Any]) -> None:
        if point.when == AFTER and pattern.search(point.label):
            os._exit(DIED)

    code = wait_for(world, fork(world, lambda: traced_daemon(world, journey, "a", at, None)))
    assert code == DIED, f"the earlier daemon was to die after {journey.after}, and ended: {code}"
    if journey.late:
        (world.notes / "gate").touch()
        far = fork(world, lambda: second_daemon(world, replace(journey, second="far")))
        _until(world.over, "another daemon ends the job", unless=far)
        _end(world, far)
        (world.notes / "gate").unlink()


# --- the journey -------------------------------------------------------------------------------


def _storage(journey: Journey) -> storages.Storage:
    return next(each for each in STORAGES if each.name == journey.storage)


@cache
def used(storage: str) -> World:
    """A world in which a job has been done before."""
    plain = Journey("before", storage=storage)
    world = World(_storage(plain))
    world.submit()
    for name in ("a", "b"):
        assert run(world, name, plain) == 0
    return world


def world_of(journey: Journey) -> World:
    """A world for one try; a used one is what daemons mostly meet."""
    return World(_storage(journey), None if journey.fresh else used(journey.storage))


def begin(journey: Journey) -> dict[str, Any]:
    """Only what comes before the journey."""
    world = world_of(journey)
    try:
        prepare(world, journey)
        return {"state": world.view().state, "executions": len(world.executions())}
    finally:
        world.close()


def collect(journey: Journey) -> dict[str, Any]:
    """The points of an undisturbed run, and the changes of files that have no point."""
    world = world_of(journey)
    try:
        prepare(world, journey)
        book, others = world.notes / "points", world.notes / "others"

        def at(point: Point, _: Callable[[], Any]) -> None:
            _append(book, json.dumps([point.label, point.nth, point.when]))

        def body() -> int:
            return traced_daemon(world, journey, journey.dying, at, others)

        wait_for(world, fork(world, body))
        found = [json.loads(line) for line in book.read_text().splitlines()]
        passed = others.read_text().splitlines() if others.exists() else []
        return {"points": found, "others": sorted(set(passed))}
    finally:
        world.close()


def kill(journey: Journey, point: Point, by: str) -> dict[str, Any]:
    """Have the daemon die at a point, recover, and say what is wrong."""
    world = world_of(journey)
    second: int | None = None
    try:
        prepare(world, journey)
        if journey.second:
            second = fork(world, lambda: second_daemon(world, journey))
            _until((world.notes / "up").exists, "the second daemon is up", unless=second)
        reached = die(world, journey, point, by)
        frozen = Frozen.of(world)
        (world.notes / "gate").touch()
        if second is not None:
            _until(world.over, "the second daemon ends the job", unless=second)
        for name in ("b", "a") if journey.heir else ("a",):
            code = run(world, name, journey)
            assert code == 0, f"the daemon that recovers ended with {code}"
        if second is not None:
            _end(world, second)
            second = None
        wrong = problems(world, journey, frozen)
        return {"reached": reached, "problems": wrong, "leftovers": world.leftovers()}
    except AssertionError as error:
        return {"reached": True, "problems": [str(error)], "leftovers": []}
    finally:
        if second is not None:
            os.kill(second, signal.SIGKILL)
            os.waitpid(second, 0)
        world.close()


def die(world: World, journey: Journey, point: Point, by: str) -> bool:
    """Run the journey's daemon up to the point; whether it came there."""
    told, tell = os.pipe()

    def at(seen: Point, tear: Callable[[], Any]) -> None:
        if seen != point:
            return
        tear()
        if by == "exit":
            os._exit(DIED)
        os.write(tell, b"!")
        signal.pause()
        while True:  # another thread than the main one, or a signal that did not kill
            time.sleep(PATIENCE)

    pid = fork(world, lambda: traced_daemon(world, journey, journey.dying, at, None))
    os.close(tell)
    try:
        if by == "kill":
            # The pipe says "!" at the point; it ends unsaid when the daemon ends before.
            if os.read(told, 1):
                os.kill(pid, signal.SIGKILL)
            return wait_for(world, pid) == -signal.SIGKILL
        return wait_for(world, pid) == DIED
    finally:
        os.close(told)


def second_daemon(world: World, journey: Journey) -> int:
    """Another daemon on the same queue; it looks on, and takes nothing before the gate is open.

    So what the first one has left is looked at while everybody stands still.
    """
    gate, real = world.notes / "gate", parts.open_storage

    def gated(*args: Any) -> Any:
        backend = real(*args)
        claim, reclaim = backend.claim, backend.reclaim

        def looking_on(queue: Any, lease: Any, judge: Any) -> Any:
            return reclaim(queue, lease, judge if gate.exists() else lambda _: Standing.SPARED)

        backend.claim = lambda *given: claim(*given) if gate.exists() else None  # type: ignore[method-assign]
        backend.reclaim = looking_on  # type: ignore[method-assign]
        return backend

    def told(seen: Observation) -> None:
        if seen.name is EventName.DAEMON_STARTED:
            (world.notes / "up").touch()

    parts.open_storage = gated
    name = "far" if journey.second == "far" else "b"
    return serve_daemon(world.settings(name, "done", journey.rerun), told)


def _end(world: World, pid: int) -> None:
    """Ask a daemon to end, as a service manager does."""
    os.kill(pid, signal.SIGTERM)
    assert wait_for(world, pid) == 0, "a daemon did not end well"


def _until(found: Callable[[], bool], what: str, unless: int) -> None:
    end = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < end, f"waited for: {what}"
        assert os.waitpid(unless, os.WNOHANG) == (0, 0), "the second daemon has ended"
        time.sleep(0.005)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    journey = Journey(**request["journey"])
    if request["do"] == "begin":
        return begin(journey)
    if request["do"] == "collect":
        return collect(journey)
    return kill(journey, Point(*request["point"]), request["by"])


def main() -> None:
    storages.SERVER[:] = sys.argv[1:]
    for line in sys.stdin:
        try:
            said = answer(json.loads(line))
        except Exception:  # noqa: BLE001 - shown by the test
            said = {"trouble": traceback.format_exc()}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
