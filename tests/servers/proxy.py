"""A proxy between a client and a server that does what networks do: wait, break, go silent.

    with FaultProxy("127.0.0.1", server_port) as proxy:
        client = connect(proxy.port)
        proxy.delay = 0.01              # each way: a round trip takes 20 ms longer
        proxy.drip = 1000               # replies come with so many bytes per second
        with proxy.cut(): ...           # connections break, new ones are refused
        with proxy.half_open(): ...     # connections stand, and nothing passes any more
        lost = proxy.lose_reply(b"findAndModify")
                                        # the server acts, its answer is lost, the connection breaks

`python -m tests.servers.proxy PORT DELAY` runs one as a process of its own, for measurements: it
prints its port and serves until its standard input is closed.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

_CHUNK = 1 << 16


class LostReply:
    """A plan to lose one answer; `happened` is set when it has come to that."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.happened = threading.Event()


class FaultProxy:
    """Passes bytes between clients and one server; its faults can be changed at any time."""

    def __init__(self, host: str, port: int, *, delay: float = 0.0) -> None:
        self.target = (host, port)
        #: Seconds that everything is under way, in each direction.
        self.delay = delay
        #: Bytes per second from the server to the client; 0 is no limit.
        self.drip = 0
        #: Sees, and may change, each piece as it comes: connection, piece, whether it is a reply.
        self.passing: Callable[[object, bytes, bool], bytes] = lambda _, piece, __: piece
        self._silent = threading.Event()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._pairs: set[_Pair] = set()
        self._plans: list[LostReply] = []
        self._listener: socket.socket | None = None
        self.port = 0
        self._listen()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Break everything, for good."""
        self._closed.set()
        self._refuse()

    # --- faults ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Break all connections and refuse new ones until the end of the block."""
        self._refuse()
        try:
            yield
        finally:
            self._listen()

    @contextlib.contextmanager
    def half_open(self) -> Iterator[None]:
        """Keep connections, take new ones, and pass nothing on until the end of the block.

        What was sent meanwhile is gone, and so are the connections that it was sent on.
        """
        self._silent.set()
        try:
            yield
        finally:
            self.break_connections()
            self._silent.clear()

    def break_connections(self) -> None:
        """Break all connections; new ones are taken."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.close()

    def lose_reply(self, request: bytes) -> LostReply:
        """Lose the answer to the next request in which the bytes `request` stand."""
        plan = LostReply(request)
        with self._lock:
            self._plans.append(plan)
        return plan

    def passed(self, piece: bytes, *, reply: bool) -> bytes:
        """What becomes of bytes on their way; for proxies that change them, as many for as many."""
        del reply
        return piece

    # --- inside ------------------------------------------------------------------------------

    def _listen(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _refuse(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
        self.break_connections()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target, timeout=5)
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.settimeout(None)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _Pair(self, client, server).start()

    def enter(self, pair: _Pair) -> None:
        with self._lock:
            self._pairs.add(pair)

    def leave(self, pair: _Pair) -> None:
        with self._lock:
            self._pairs.discard(pair)

    @property
    def silent(self) -> bool:
        return self._silent.is_set()

    def planned(self, request: bytes) -> LostReply | None:
        """The plan, if there is one, for the answer to this request."""
        with self._lock:
            for plan in self._plans:
                if plan.request in request:
                    self._plans.remove(plan)
                    return plan
        return None


class _Pair:
    """One client's connection, and ours to the server for it."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._plan: LostReply | None = None

    def start(self) -> None:
        self._proxy.enter(self)
        ways = ((self._client, self._server, False), (self._server, self._client, True))
        for source, target, reply in ways:
            threading.Thread(target=self._pump, args=(source, target, reply), daemon=True).start()

    def close(self) -> None:
        self._proxy.leave(self)
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _pump(self, source: socket.socket, target: socket.socket, reply: bool) -> None:
        """Pass on what comes, each piece after the delay; what follows is read meanwhile."""
        line = _Line(target, self)
        try:
            while piece := source.recv(_CHUNK):
                if self._proxy.silent:
                    continue
                piece = self._proxy.passed(piece, reply=reply)
                if not reply and self._plan is None:
                    self._plan = self._proxy.planned(piece)
                elif reply and self._plan is not None:
                    self._plan.happened.set()
                    break
                piece = self._proxy.passing(self, piece, reply)
                line.put(piece, self._proxy.delay, self._proxy.drip if reply else 0)
        except OSError:
            pass
        finally:
            line.end()


class _Line:
    """Bytes under way in one direction, in order, each for its time."""

    def __init__(self, target: socket.socket, pair: _Pair) -> None:
        self._target = target
        self._pair = pair
        self._pieces: list[tuple[float, bytes, int]] = []
        self._more = threading.Condition()
        self._ended = False
        self._thread: threading.Thread | None = None

    def put(self, piece: bytes, delay: float, drip: int) -> None:
        if self._thread is None and not delay and not drip:
            self._target.sendall(piece)
            return
        with self._more:
            self._pieces.append((time.monotonic() + delay, piece, drip))
            self._more.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._carry, daemon=True)
            self._thread.start()

    def end(self) -> None:
        with self._more:
            self._ended = True
            self._more.notify()
        if self._thread is None:
            self._pair.close()

    def _carry(self) -> None:
        try:
            while (next_one := self._next()) is not None:
                due, piece, drip = next_one
                time.sleep(max(0.0, due - time.monotonic()))
                self._send(piece, drip)
        except OSError:
            pass
        finally:
            self._pair.close()

    def _next(self) -> tuple[float, bytes, int] | None:
        with self._more:
            while not self._pieces and not self._ended:
                self._more.wait()
            return self._pieces.pop(0) if self._pieces else None

    def _send(self, piece: bytes, drip: int) -> None:
        if not drip:
            self._target.sendall(piece)
            return
        for byte in piece:
            self._target.sendall(bytes((byte,)))
            time.sleep(1 / drip)


def main() -> None:
    with FaultProxy("127.0.0.1", int(sys.argv[1]), delay=float(sys.argv[2])) as proxy:
        print(proxy.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
