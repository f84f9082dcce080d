"""Processes that die before or after their n-th command: what the kill points of MongoDB run.

Run as `python -m tests.storage.mongo_deaths URI`; reads one JSON line per process to be, and
answers with the commands that it sent. The processes are forks of one that has imported
everything, so each costs milliseconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

from pymongo import monitoring

from spooler.clock import SystemClock
from spooler.model.claim import Lease, Owner
from spooler.model.state import State
from spooler.storage.sqooler.mongodb.backend import MongoBackend
from spooler.testing.bench import QUEUE, leased, new_lease, other_owner, signed_report
from tests.servers.mongodb import MongoServer
from tests.storage.mongo_bench import opener

#: The lease of a process that dies: only its death makes room for another.
LONG = 600.0
DEAD = 42
TOKEN = "0123456789abcdef"  # noqa: S105 - names a claim


@dataclass(frozen=True)
class Plan:
    """What a process does, and when it dies: before or after command number `at`."""

    prefix: str
    kind: str
    journey: str
    at: int = -1
    after: bool = False


class _Fate(monitoring.CommandListener):
    """Ends the process at the chosen moment."""

    plan: Plan | None = None
    count = 0

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        plan = self.plan
        if plan is None or event.command_name in {"endSessions", "getMore", "killCursors"}:
            return
        self.count += 1
        if self.count == plan.at and not plan.after:
            os._exit(DEAD)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        plan = self.plan
        if plan is not None and self.count == plan.at and plan.after:
            os._exit(DEAD)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


FATE = _Fate()


def run(uri: str, plan: Plan) -> int:
    """One journey, to its end or to the death; how many commands it took."""
    me = other_owner()
    backend = opener(MongoServer(uri), plan.prefix, SystemClock(), plan.kind)
    FATE.plan, FATE.count = plan, 0
    JOURNEYS[plan.journey](backend, me)
    backend.close()
    FATE.plan = None
    return FATE.count


def _end(backend: MongoBackend, me: Owner, state: State) -> None:
    claim = backend.claim(QUEUE, Lease(TOKEN, me, LONG))
    assert claim is not None
    claim = backend.start(claim, 600.0)
    backend.ack(claim, signed_report(claim, state, {"value": "first"}, reason="first"))


def finish(backend: MongoBackend, me: Owner) -> None:
    """Claim, start, report a result; look again, as the worker does."""
    _end(backend, me, State.DONE)
    assert backend.claim(QUEUE, new_lease(me, LONG)) is None


def fail(backend: MongoBackend, me: Owner) -> None:
    """Claim, start, report an error."""
    _end(backend, me, State.ERROR)


def give_back(backend: MongoBackend, me: Owner) -> None:
    """Claim and give back, and the attempt counts."""
    claim = backend.claim(QUEUE, Lease(TOKEN, me, LONG))
    assert claim is not None
    backend.release(claim, "first", refund=False)


def take_over(backend: MongoBackend, me: Owner) -> None:
    """Take over what somebody else held whose lease has run out, and report about it."""
    claim = backend.reclaim(QUEUE, Lease(TOKEN, me, LONG), leased)
    assert claim is not None
    backend.ack(claim, signed_report(claim, State.ERROR, reason="first"))


JOURNEYS = {each.__name__: each for each in (finish, fail, give_back, take_over)}


class Deaths:
    """The process that forks the others."""

    def __init__(self, uri: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.storage.mongo_deaths", uri],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, plan: Plan) -> dict[str, Any]:
        """`died`: whether it died of its fate; `count`: its commands, when it did not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(plan)) + "\n")
        self._process.stdin.flush()
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)


def _serve(uri: str) -> None:
    monitoring.register(FATE)
    for line in sys.stdin:
        plan = Plan(**json.loads(line))
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(writer, str(run(uri, plan)).encode())
            except BaseException as error:  # noqa: BLE001 - told by the exit code
                sys.stderr.write(f"{plan}: {type(error).__name__}: {error}\n")
                os._exit(1)
            os._exit(0)
        os.close(writer)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        count = os.read(reader, 20)
        os.close(reader)
        answer = {"died": code == DEAD, "code": code, "count": int(count or b"0")}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve(sys.argv[1])
