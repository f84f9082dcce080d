"""The verbs of the MongoDB backend when the network does what networks do.

Each call is bounded by its times and ends with BackendUnavailable or with what was asked for; and
whatever was done behind a lost answer, repeats leave one claim, one result and one status.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.faults.passage import PATIENCE, Passage, bounded, command, insist
from tests.servers.mongodb import MongoServer
from tests.servers.proxy import FaultProxy
from tests.storage.mongo_bench import SERVERS
from tests.storage.sqooler.mongo_commands import COMMANDS

Fault = Callable[[FaultProxy], AbstractContextManager[Any]]
Opened = Callable[[str], Passage]


@pytest.fixture
def proxy(mongodb_server: MongoServer) -> Iterator[FaultProxy]:
    place = urlsplit(mongodb_server.uri)
    assert place.hostname is not None
    with FaultProxy(place.hostname, place.port or 27017) as made:
        yield made


@pytest.fixture
def passage(mongodb_server: MongoServer, mongo_prefix: str, proxy: FaultProxy) -> Iterator[Opened]:
    opened: list[Passage] = []

    def make(kind: str) -> Passage:
        opened.append(Passage(mongodb_server, proxy, f"{mongo_prefix}{len(opened)}_", kind))
        return opened[-1]

    yield make
    proxy.forget_plans()
    for each in opened:
        each.close()


@contextmanager
def delayed(proxy: FaultProxy, seconds: float) -> Iterator[None]:
    proxy.delay = seconds
    try:
        yield
    finally:
        proxy.delay = 0.0


@contextmanager
def dripping(proxy: FaultProxy, speed: int) -> Iterator[None]:
    proxy.drip = speed
    try:
        yield
    finally:
        proxy.drip = 0


#: Faults that are bearable, and faults after which nobody can have had an answer in time.
SLOW: dict[str, Fault] = {
    "delay": lambda proxy: delayed(proxy, 0.01),
    "drip": lambda proxy: dripping(proxy, 20_000),
}
DEADLY: dict[str, Fault] = {
    # The server acts when its client has given up, or has even asked again.
    "late": lambda proxy: delayed(proxy, PATIENCE * 0.8),
    "cut": FaultProxy.cut,
    "half-open": FaultProxy.half_open,
    "trickle": lambda proxy: dripping(proxy, 40),
}


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("fault", SLOW)
def test_a_slow_network_is_borne(passage: Opened, proxy: FaultProxy, kind: str, fault: str) -> None:
    going = passage(kind)

    def at(_: str, ask: Callable[[], Any]) -> Any:
        with SLOW[fault](proxy):
            return insist(ask)

    going.go(at)
    going.check()


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("fault", DEADLY)
def test_a_fault_at_every_verb(passage: Opened, proxy: FaultProxy, kind: str, fault: str) -> None:
    """Servers differ in nothing but the end of a job."""
    going, refused = passage(kind), set()
    verbs = {"claim", "start", "ack", "release", "reclaim", "ack again"}
    wanted = verbs if kind == "new" else {"ack", "ack again"}

    def at(verb: str, ask: Callable[[], Any]) -> Any:
        if verb not in wanted:
            return insist(ask)
        with DEADLY[fault](proxy):
            was_refused, said = bounded(ask, [])
        if not was_refused:
            return said
        refused.add(verb)
        return insist(ask)

    going.go(at)
    going.check()
    assert refused == wanted


# --- the server has acted, and its answer is lost ----------------------------------------------

WRITES = {"findAndModify", "bulkWrite", "update", "insert", "delete"}


def written(going: Passage) -> list[tuple[str, bytes]]:
    """The commands that write: the verb that sends each, and what shows it among the bytes."""
    found: list[tuple[str, bytes]] = []

    def at(verb: str, ask: Callable[[], Any]) -> Any:
        with COMMANDS.counting() as sent:
            said = ask()
        for name, body in sent:
            place = body[name]
            if name in WRITES:
                found.append((verb, command(name, place if isinstance(place, str) else "")))
        return said

    going.go(at)
    going.check()
    return found


@pytest.mark.parametrize(
    ("kind", "silently"),
    [
        pytest.param("new", False, id="new-broken"),
        pytest.param("new", True, id="new-silent"),
        pytest.param("old", True, id="old-silent"),
        pytest.param("old", False, id="old-broken", marks=pytest.mark.proof),
    ],
)
def test_a_lost_answer_to_each_command_that_writes(
    passage: Opened, proxy: FaultProxy, kind: str, silently: bool
) -> None:
    """The connection breaks, and the driver asks again; or nothing comes, and the daemon does."""
    cases = written(passage(kind))
    assert len(cases) >= 7
    assert len(set(cases)) == len(cases), "two commands of a verb look alike"
    for wanted, request in cases:
        going = passage(kind)

        def at(verb: str, ask: Callable[[], Any]) -> Any:
            if verb != wanted:  # noqa: B023 - called before the next round
                return insist(ask)
            plan = proxy.lose_reply(request, silently=silently)  # noqa: B023
            refused, said = bounded(ask, [])
            assert plan.happened.is_set(), f"{verb} has not sent {request!r}"  # noqa: B023
            assert refused or not silently, "an answer that was lost is needed by nobody"
            return insist(ask) if refused else said

        going.go(at)
        going.check()
