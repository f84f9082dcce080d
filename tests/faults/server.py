"""Plays journeys in processes that die where told to: `python -m tests.faults.server URI`.

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
import time
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from spooler.app import Daemon, RunOptions, parts
from spooler.daemon import executor
from spooler.observe.board import Board
from spooler.observe.events import Observer
from spooler.observe.notify import ServiceManager
from spooler.settings import Settings
from tests.faults import handlers, mongo_world
from tests.faults.checks import Frozen, problems
from tests.faults.journeys import Journey
from tests.faults.points import AFTER, Point, TracedOs, watch_for_others
from tests.faults.world import DEVICE, World

#: Exit codes of a forked daemon.
DIED, BROKEN = 77, 99
PATIENCE = 20.0

At = Callable[[Point, Callable[[], Any]], None]


for each in ("spooler.devices.runners.thread", "spooler.storage.sqooler.mongodb.backend"):
    importlib.import_module(each)  # else each daemon would import it anew


def serve_daemon(settings: Settings) -> int:
    """The real daemon, until its queues are empty."""
    board = Board()
    daemon = Daemon(settings, RunOptions(once=True), Observer(board), board)
    return daemon.serve(ServiceManager(), lambda: None)


def fork(world: World, body: Callable[[], int]) -> int:
    """The pid of a child that runs `body` and ends with its exit code."""
    pid = os.fork()
    if pid:
        return pid
    code = BROKEN
    try:
        executor.RETRY_AFTER = 0.0
        world.quicken()
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


def traced_daemon(world: World, journey: Journey, at: At, watch: Path | None = None) -> int:
    """The daemon of the journey, with `at` called at each point; in a forked child."""
    traced = world.trace(at, looks=journey.looks)
    if watch is not None:
        watch_for_others(str(world.folder), traced, lambda text: _append(watch, text))
    handlers.CANCEL[:] = [_cancelling(world, traced)]
    return serve_daemon(world.settings("a", journey.act, journey.rerun))


def _cancelling(world: World, traced: TracedOs) -> Callable[[str], None]:
    def cancel(job: str) -> None:
        with traced.outside():
            world.submitter().cancel(DEVICE, job)

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
        world.submitter().cancel(DEVICE, world.job)
    if not journey.after:
        return
    pattern = re.compile(world.marks[journey.after])

    def at(point: Point, _: Callable[[], Any]) -> None:
        if point.when == AFTER and pattern.search(point.label):
            os._exit(DIED)

    code = wait_for(world, fork(world, lambda: traced_daemon(world, journey, at)))
    assert code == DIED, f"the earlier daemon was to die after {journey.after}, and ended: {code}"
    world.after_death()
    if journey.late:
        wait_for(world, fork(world, lambda: serve_daemon(world.settings("b", "done", "never"))))


# --- the journey -------------------------------------------------------------------------------


def new(storage: str) -> World:
    """A world in which nothing has been done yet."""
    return World() if storage == "folder" else mongo_world.MongoWorld(storage)


@cache
def used(storage: str) -> World:
    """A world in which a job has been done before."""
    world = new(storage)
    world.submit()
    for name in ("a", "b"):
        settings = world.settings(name, "done", "never")
        wait_for(world, fork(world, lambda settings=settings: serve_daemon(settings)))  # type: ignore[misc]
    return world


def world_of(journey: Journey) -> World:
    """A world for one try; a used one is what daemons mostly meet."""
    if journey.fresh:
        return new(journey.storage)
    before = used(journey.storage)
    if isinstance(before, mongo_world.MongoWorld):
        return mongo_world.MongoWorld(journey.storage, before)
    return World(before)


def begin(journey: Journey) -> dict[str, Any]:
    """Only what comes before the journey."""
    world = world_of(journey)
    try:
        prepare(world, journey)
        return {"state": world.view()[0], "executions": len(world.executions())}
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

        wait_for(world, fork(world, lambda: traced_daemon(world, journey, at, others)))
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
        reached = die(world, journey, point, by)
        world.after_death()
        frozen = Frozen.of(world)
        (world.notes / "gate").touch()
        if second is not None:
            _until(world.ended, "the second daemon ends the job", unless=second)
        settings = world.settings("a", "done", journey.rerun)
        code = wait_for(world, fork(world, lambda: serve_daemon(settings)))
        assert code == 0, f"the daemon that recovers ended with {code}"
        if second is not None:
            os.kill(second, signal.SIGTERM)
            assert wait_for(world, second) == 0
            second = None
        wrong = problems(world, journey, frozen)
        return {"reached": reached, "problems": wrong, "leftovers": world.leftovers()}
    except AssertionError as error:
        return {"reached": True, "problems": [str(error)], "leftovers": world.leftovers()}
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

    pid = fork(world, lambda: traced_daemon(world, journey, at))
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
    """Another daemon on the same queue; it claims nothing before the first one is dead."""
    gate = world.notes / "gate"
    real = parts.open_storage

    def gated(*args: Any) -> Any:
        backend = real(*args)
        claim = backend.claim
        backend.claim = lambda *given: claim(*given) if gate.exists() else None  # type: ignore[method-assign]
        return backend

    parts.open_storage = gated
    board = Board()
    settings = world.settings("b", "done", journey.rerun)
    daemon = Daemon(settings, RunOptions(), Observer(board), board)
    return daemon.serve(ServiceManager(), lambda: None)


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
    mongo_world.URI[:] = sys.argv[1:]
    for line in sys.stdin:
        try:
            said = answer(json.loads(line))
        except Exception:  # noqa: BLE001 - shown by the test
            said = {"trouble": traceback.format_exc()}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
