"""A proxy between a client and a server that does what networks do: wait, break, go silent.

    with FaultProxy("127.0.0.1", server_port) as proxy:
        client = connect(proxy.port)
        proxy.delay = 0.01              # each way: a round trip takes 20 ms longer
        proxy.drip = 1000               # replies come with so many bytes per second
        with proxy.cut(): ...           # connections break, new ones are refused
        with proxy.half_open(): ...     # connections stand, and nothing passes any more
        lost = proxy.lose_reply(b"findAndModify")
                                        # the server acts, its answer is lost, the connection breaks
        proxy.lose_reply(b"findAndModify", silently=True)
                                        # the same, and the connection stands

`python -m tests.servers.proxy PORT DELAY` runs one as a process of its own, for measurements: it
prints its port and serves until its standard input is closed.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from types import TracebackType

from tests.servers.connections import LostReply, Pair


class FaultProxy:
    """Passes bytes between clients and one server; its faults can be changed at any time."""

    def __init__(self, host: str, port: int, *, delay: float = 0.0) -> None:
        self.target = (host, port)
        #: Seconds that everything is under way, in each direction.
        self.delay = delay
        #: Bytes per second from the server to the client; 0 is no limit.
        self.drip = 0
        self._silent = threading.Event()
        self._lock = threading.Lock()
        self._pairs: set[Pair] = set()
        self._plans: list[LostReply] = []
        self.port = 0
        self._listener = self._bound()
        self._listen()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Break everything, for good."""
        self._refuse()
        self._listener.close()

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
            with self._lock:
                # Whoever comes from now on is served; of those who are there, something may be
                # missing, so they stay deaf until they are broken.
                pairs = list(self._pairs)
                for pair in pairs:
                    pair.deaf = True
                self._silent.clear()
            for pair in pairs:
                pair.close()

    def break_connections(self) -> None:
        """Break all connections; new ones are taken."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.close()

    def lose_reply(self, request: bytes, *, silently: bool = False) -> LostReply:
        """Lose the answer to the next request in which the bytes `request` stand.

        Then the connection breaks; `silently` it stands, and nothing passes on it any more.
        """
        plan = LostReply(request, silently=silently)
        with self._lock:
            self._plans.append(plan)
        return plan

    def passing(self, connection: object, piece: bytes, *, reply: bool) -> bytes:
        """What becomes of bytes on their way; for proxies that look at them, or change them."""
        del connection, reply
        return piece

    def forget_plans(self) -> None:
        """Lose no more answers."""
        with self._lock:
            self._plans.clear()

    @property
    def connections(self) -> int:
        """How many there are; in the silence of `half_open` they only become more."""
        with self._lock:
            return len(self._pairs)

    # --- inside ------------------------------------------------------------------------------

    def _bound(self) -> socket.socket:
        """Our port, kept from others; whoever connects is refused."""
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", self.port))
        self.port = bound.getsockname()[1]
        return bound

    def _listen(self) -> None:
        self._listener.listen()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _refuse(self) -> None:
        with self._lock:
            listener = self._listener
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
            self._listener = self._bound()
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
            pair = Pair(self, client, server)
            with self._lock:
                welcome = listener is self._listener
                if welcome:
                    self._pairs.add(pair)
            # A connection that was taken just before a cut is cut, too.
            (pair.start if welcome else pair.drop)()

    def leave(self, pair: Pair) -> None:
        """This connection is no more."""
        with self._lock:
            self._pairs.discard(pair)

    @property
    def silent(self) -> bool:
        """Whether nothing passes."""
        return self._silent.is_set()

    def planned(self, request: bytes) -> LostReply | None:
        """The plan, if there is one, for the answer to this request."""
        with self._lock:
            for plan in self._plans:
                if plan.request in request:
                    self._plans.remove(plan)
                    return plan
        return None


def main() -> None:
    with FaultProxy("127.0.0.1", int(sys.argv[1]), delay=float(sys.argv[2])) as proxy:
        print(proxy.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
