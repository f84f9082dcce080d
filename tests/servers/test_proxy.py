"""The fault proxy does to a connection what its name for it says; the server here is an echo."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.proxy import FaultProxy

#: Bounds against hanging, and how long nothing has to come until we believe that nothing comes.
PATIENCE, SILENCE = 10.0, 0.3


class Echo:
    """A server that says everything again, and keeps what it has heard."""

    def __init__(self) -> None:
        self.heard = b""
        self.more = threading.Condition()
        self.hung_up = threading.Event()
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                end, _ = self._listener.accept()
                self._ends.append(end)
                self._threads.append(threading.Thread(target=self._talk, args=(end,)))
                self._threads[-1].start()

    def _talk(self, end: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := end.recv(4096):
                with self.more:
                    self.heard += piece
                    self.more.notify_all()
                end.sendall(piece)
        self.hung_up.set()

    def has_heard(self, what: bytes) -> bool:
        with self.more:
            return self.more.wait_for(lambda: what in self.heard, PATIENCE)

    def close(self) -> None:
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self._threads:
            thread.join(PATIENCE)


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", echo.port) as made:
        yield made


class Client:
    def __init__(self, proxy: FaultProxy) -> None:
        self.end = socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.end.close()

    def ask(self, what: bytes) -> bytes:
        """What comes back, as much as was sent or less where the connection ends."""
        self.end.sendall(what)
        return self.read(len(what))

    def read(self, most: int) -> bytes:
        found = b""
        with contextlib.suppress(ConnectionError):
            while len(found) < most and (piece := self.end.recv(most - len(found))):
                found += piece
        return found

    def hears_nothing(self) -> bool:
        """Neither bytes nor an end."""
        self.end.settimeout(SILENCE)
        try:
            self.end.recv(1)
        except TimeoutError:
            return True
        finally:
            self.end.settimeout(PATIENCE)
        return False

    def drain(self) -> None:
        """Take what has come already."""
        self.end.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self.end.recv(4096)
        self.end.settimeout(PATIENCE)

    def ended(self) -> bool:
        return self.read(1) == b""


def test_without_a_fault_everything_passes(echo: Echo, proxy: FaultProxy) -> None:
    with Client(proxy) as client:
        assert client.ask(b"hello") == b"hello"
        large = bytes(range(256)) * 4000
        sending = threading.Thread(target=client.end.sendall, args=(large,))
        sending.start()
        assert client.read(len(large)) == large
        sending.join(PATIENCE)
    assert echo.hung_up.wait(PATIENCE), "the server is not told that its client has gone"


def test_a_server_that_is_not_there_ends_the_connection(echo: Echo, proxy: FaultProxy) -> None:
    echo.close()
    with Client(proxy) as client:
        assert client.ended()


def test_delay_counts_in_each_direction_and_keeps_the_order(proxy: FaultProxy) -> None:
    with Client(proxy) as client:
        assert client.ask(b"quick") == b"quick"
        proxy.delay = 0.2
        began = time.monotonic()
        pieces = [bytes([number]) * 10 for number in range(20)]
        for piece in pieces:
            client.end.sendall(piece)
        assert client.read(200) == b"".join(pieces)
        took = time.monotonic() - began
        assert 0.4 <= took < 4.0, "the pieces are under way together, not one after the other"
        proxy.delay = 0.0
        assert client.ask(b"after") == b"after"


def test_what_is_under_way_arrives_after_its_sender_has_gone(echo: Echo, proxy: FaultProxy) -> None:
    proxy.delay = 0.2
    with Client(proxy) as client:
        client.end.sendall(b"farewell")
    assert echo.has_heard(b"farewell")
    assert echo.hung_up.wait(PATIENCE)


def test_a_drip_is_slow_and_whole(proxy: FaultProxy) -> None:
    with Client(proxy) as client:
        proxy.drip = 200
        began = time.monotonic()
        assert client.ask(b"x" * 60 + b"y") == b"x" * 60 + b"y"
        assert time.monotonic() - began >= 0.3
        proxy.drip = 1
        client.end.sendall(b"z" * 1000)
        assert client.read(1) == b"z"
        proxy.drip = 0
        assert client.read(999) == b"z" * 999, "what was under way is quick again"
        assert client.ask(b"again") == b"again"


def test_a_cut_breaks_and_refuses_until_its_end(echo: Echo, proxy: FaultProxy) -> None:
    with Client(proxy) as client:
        assert client.ask(b"one") == b"one"
        with proxy.cut():
            assert client.ended()
            assert echo.hung_up.wait(PATIENCE)
            for _ in range(3):
                with pytest.raises(ConnectionRefusedError):
                    Client(proxy)
        with Client(proxy) as later:
            assert later.ask(b"two") == b"two"
        with proxy.cut(), pytest.raises(ConnectionRefusedError):
            Client(proxy)


def test_half_open_says_nothing_to_anybody(echo: Echo, proxy: FaultProxy) -> None:
    with Client(proxy) as old, Client(proxy) as gone:
        assert old.ask(b"one") == b"one"
        assert gone.ask(b"two") == b"two"
        with proxy.half_open(), Client(proxy) as new:
            for client in (old, new):
                client.end.sendall(b"lost")
                assert client.hears_nothing()
            gone.end.close()
            assert not echo.hung_up.wait(SILENCE), "an end has passed"
            with Client(proxy) as later:
                pass
            old.end.sendall(b"lost too")
        assert old.ended(), "a connection with a gap lives on"
        assert b"lost" not in echo.heard
        with Client(proxy) as fresh:
            assert fresh.ask(b"three") == b"three"
        del later


def test_half_open_hides_the_death_of_the_server(echo: Echo, proxy: FaultProxy) -> None:
    with Client(proxy) as client:
        assert client.ask(b"one") == b"one"
        with proxy.half_open():
            echo.close()
            assert client.hears_nothing()
        assert client.ended()


def test_what_was_under_way_does_not_arrive_in_the_silence(proxy: FaultProxy) -> None:
    with Client(proxy) as client:
        proxy.drip = 5
        client.end.sendall(b"0123456789")
        assert client.read(1) == b"0"
        with proxy.half_open():
            client.drain()
            assert client.hears_nothing()
        assert client.ended()


def test_a_lost_reply_is_one_that_the_server_has_given(echo: Echo, proxy: FaultProxy) -> None:
    with Client(proxy) as client, Client(proxy) as other:
        plan = proxy.lose_reply(b"transfer")
        assert client.ask(b"nothing of it") == b"nothing of it"
        assert not plan.happened.is_set()
        assert client.ask(b"a transfer of money") == b""
        assert plan.happened.is_set()
        assert echo.has_heard(b"a transfer of money")
        assert other.ask(b"a transfer again") == b"a transfer again", "one plan, one answer"


def test_a_reply_may_be_lost_without_a_word(echo: Echo, proxy: FaultProxy) -> None:
    with Client(proxy) as client, Client(proxy) as other:
        plan = proxy.lose_reply(b"transfer", silently=True)
        client.end.sendall(b"a transfer")
        assert plan.happened.wait(PATIENCE)
        assert echo.has_heard(b"a transfer")
        client.end.sendall(b" and another")
        assert client.hears_nothing()
        assert b"another" not in echo.heard
        assert other.ask(b"a transfer") == b"a transfer"


def test_a_forgotten_plan_does_not_happen(proxy: FaultProxy) -> None:
    plan = proxy.lose_reply(b"transfer")
    proxy.forget_plans()
    with Client(proxy) as client:
        assert client.ask(b"transfer") == b"transfer"
    assert not plan.happened.is_set()


def test_nothing_of_it_stays(echo: Echo) -> None:
    before = set(threading.enumerate())
    with FaultProxy("127.0.0.1", echo.port) as proxy:
        proxy.delay = 0.01
        clients = [Client(proxy) for _ in range(5)]
        assert all(each.ask(b"x") == b"x" for each in clients)
        with proxy.half_open():
            clients[0].end.sendall(b"y")
    assert all(each.ended() for each in clients)
    with pytest.raises(ConnectionRefusedError):
        Client(proxy)
    for each in clients:
        each.end.close()
    mine = [each for each in set(threading.enumerate()) - before if "_talk" not in each.name]
    for thread in mine:
        thread.join(PATIENCE)
    assert not [thread for thread in mine if thread.is_alive()]


def test_as_a_process_of_its_own(echo: Echo) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.servers.proxy", str(echo.port), "0.05"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as end:
            began = time.monotonic()
            end.sendall(b"z")
            assert end.recv(1) == b"z"
            assert time.monotonic() - began >= 0.1
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
