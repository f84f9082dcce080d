"""The way between a peer and a MongoDB server: it can be made longer, and counts what goes over it.

All peers go through it, at 0 ms as well, so what it costs is the same for all. Commands are read
from the bytes of the driver's messages (OP_MSG), whatever library has sent them: exact. Left out
are those that the driver sends by itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

from tests.servers.proxy import FaultProxy

#: What a driver sends by itself: greetings, heartbeats, logins, goodbyes.
DRIVERS_OWN = frozenset(
    {"hello", "ismaster", "isMaster", "saslStart", "saslContinue", "endSessions"}
)
#: A change stream asks for news about once a second, however many jobs there are.
NEWS = "getMore"
_HEADER, _OP_MSG = 16, 2013
_SET_NAME, _NO_SET_NAME = b"\x02setName\0", b"\x02unnamed\0"


@dataclass(slots=True)
class Exchange:
    """A command and its answer; times of their passing (seconds, perf_counter)."""

    command: str
    database: str
    request: bytes
    asked: float
    answered: float = 0.0

    def names(self, number: bytes) -> bool:
        """Whether the command tells of the job with this id, or sends it."""
        return number in self.request

    @property
    def ends_a_job(self) -> bool:
        """Whether it brings a result to its place."""
        if self.command == "bulkWrite":
            return b"results." in self.request
        return (self.command, self.database) == ("insert", "results")

    @property
    def tells_the_end(self) -> bool:
        """Whether it brings the last status."""
        return self.command == "bulkWrite" or (self.command, self.database) == ("update", "status")


class Wire(FaultProxy):
    """A proxy that takes down the commands. `delay` is for each way.

    `standalone` has the server look like one that is no replica set, and so has no change
    streams: the name of its set is left out of what it says of itself.
    """

    def __init__(
        self, host: str, port: int, *, delay: float = 0.0, standalone: bool = False
    ) -> None:
        self.exchanges: list[Exchange] = []
        #: Of those, the ones that have brought a result, in order.
        self.results: list[Exchange] = []
        self._standalone = standalone
        self._streams: dict[tuple[object, bool], Messages] = {}
        self._open: dict[tuple[object, int], Exchange] = {}
        self._news = threading.Condition()
        super().__init__(host, port, delay=delay)

    def __enter__(self) -> Self:
        return self

    def wait_for(
        self, wanted: Callable[[Exchange], bool], since: int, patience: float
    ) -> Exchange | None:
        """The first exchange that is wanted, of those after the first `since`, once answered."""
        deadline = time.monotonic() + patience
        with self._news:
            while True:
                for each in self.exchanges[since:]:
                    if each.answered and wanted(each):
                        return each
                if not self._news.wait(deadline - time.monotonic()):
                    return None

    def passing(self, connection: object, piece: bytes, *, reply: bool) -> bytes:
        now = time.perf_counter()
        stream = self._streams.setdefault((connection, reply), Messages())
        for number, answers, message in stream.feed(piece):
            if reply:
                self._answer(self._open.pop((connection, answers), None), now)
            elif (command := command_of(message)) not in DRIVERS_OWN:
                exchange = Exchange(command, database_of(message), message, now)
                self._open[connection, number] = exchange
                self._ask(exchange)
        return piece.replace(_SET_NAME, _NO_SET_NAME) if reply and self._standalone else piece

    def _ask(self, exchange: Exchange) -> None:
        with self._news:
            self.exchanges.append(exchange)
            if exchange.ends_a_job:
                self.results.append(exchange)

    def _answer(self, exchange: Exchange | None, now: float) -> None:
        if exchange is not None:
            with self._news:
                exchange.answered = now
                self._news.notify_all()


@dataclass(slots=True)
class Messages:
    """Cuts a stream of bytes into messages."""

    rest: bytes = b""

    def feed(self, piece: bytes) -> Iterable[tuple[int, int, bytes]]:
        """The messages that are whole now: number, number of what they answer, all bytes."""
        self.rest += piece
        found = []
        while len(self.rest) >= _HEADER and len(self.rest) >= (length := _number(self.rest, 0)):
            message, self.rest = self.rest[:length], self.rest[length:]
            found.append((_number(message, 4), _number(message, 8), message))
        return found


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little", signed=True)


def command_of(message: bytes) -> str:
    """The name of the command: the first key of the body. An old greeting is no OP_MSG."""
    if _number(message, 12) != _OP_MSG:
        return "hello"
    at = _HEADER + 4  # the flags
    while message[at]:  # a section of documents; the body may stand behind it
        at += 1 + _number(message, at + 1)
    name = at + 6  # the kind of the section, the length of the body, the type of the value
    return message[name : message.index(b"\0", name)].decode()


def database_of(message: bytes) -> str:
    """The database that a command is for."""
    at = message.find(b"\x02$db\0")
    return "" if at < 0 else message[at + 9 : at + 8 + _number(message, at + 5)].decode()


@dataclass(frozen=True, slots=True)
class Tally:
    """How often a command was sent, and the seconds from there to its answer, all together.

    At the server's end of the wire: what was added to the way is not in it.
    """

    times: int
    waited: float


@dataclass(frozen=True, slots=True)
class Run:
    """What went over the wire between the first result and the last."""

    jobs: int
    seconds: float
    commands: dict[str, Tally]

    @property
    def rate(self) -> float:
        """Jobs per second."""
        return self.jobs / self.seconds

    @property
    def each(self) -> float:
        """Commands per job."""
        return sum(each.times for each in self.commands.values()) / self.jobs

    @property
    def waited(self) -> float:
        """Seconds that the server took over all commands."""
        return sum(each.waited for each in self.commands.values())


def run_of(wire: Wire, jobs: int) -> Run:
    """One job fewer than there were: what goes before the first result is start-up.

    What comes behind the last is not looked at: daemons that tidy up may bring a result again.
    """
    first, last = wire.results[0], wire.results[jobs - 1]
    taken: dict[str, list[float]] = {}
    for each in wire.exchanges:
        if first.asked < each.asked <= last.asked and each.command != NEWS:
            took = each.answered - each.asked - wire.delay
            taken.setdefault(each.command, []).append(took)
    tallies = {name: Tally(len(times), sum(times)) for name, times in taken.items()}
    return Run(jobs - 1, last.asked - first.asked, tallies)
