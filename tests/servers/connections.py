"""What the fault proxy passes on: pairs of connections, and the bytes that are under way."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

_CHUNK = 1 << 16


class LostReply:
    """A plan to lose one answer; `happened` is set when it has come to that."""

    def __init__(self, request: bytes, *, silently: bool) -> None:
        self.request = request
        self.silently = silently
        self.happened = threading.Event()


class Proxy(Protocol):
    """What a pair asks of its proxy."""

    delay: float
    drip: int

    @property
    def silent(self) -> bool:
        """Whether nothing passes."""

    def planned(self, request: bytes) -> LostReply | None:
        """The plan, if there is one, for the answer to this request."""

    def passing(self, connection: object, piece: bytes, *, reply: bool) -> bytes:
        """What becomes of bytes on their way."""

    def leave(self, pair: Pair) -> None:
        """This connection is no more."""


class Pair:
    """One client's connection, and ours to the server for it."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._plan: LostReply | None = None
        #: Something on the way was lost, so nothing that follows may pass.
        self.deaf = False
        self._lines = (_Line(server, self, lambda: 0), _Line(client, self, lambda: proxy.drip))
        self._pumps = 2
        self._lock = threading.Lock()

    def start(self) -> None:
        """Pass on what comes from now on."""
        requests, replies = self._lines
        ways = ((self._client, requests, False), (self._server, replies, True))
        for source, line, reply in ways:
            threading.Thread(
                target=self._pump, args=(source, line), kwargs={"reply": reply}, daemon=True
            ).start()

    def close(self) -> None:
        """Break both connections. The threads that read are woken by it, and let go of them."""
        self._proxy.leave(self)
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def drop(self) -> None:
        """Let go of connections that nobody reads from."""
        self._client.close()
        self._server.close()

    def blocked(self) -> bool:
        """Whether nothing passes; once that was so, nothing ever does."""
        self.deaf = self.deaf or self._proxy.silent
        return self.deaf

    def _pump(self, source: socket.socket, line: _Line, *, reply: bool) -> None:
        """Pass on what comes, each piece after the delay; what follows is read meanwhile."""
        try:
            while piece := source.recv(_CHUNK):
                if self.blocked():
                    continue
                if not reply and self._plan is None:
                    self._plan = self._proxy.planned(piece)
                elif reply and self._plan is not None:
                    self._lose(self._plan)
                    continue
                line.put(self._proxy.passing(self, piece, reply=reply), self._proxy.delay)
        except OSError:
            pass
        finally:
            line.end()
            self._ended()

    def _lose(self, plan: LostReply) -> None:
        self.deaf = True
        plan.happened.set()
        if not plan.silently:
            self.close()

    def _ended(self) -> None:
        """The last one lets go of the connections: a number of a closed one may be given anew."""
        with self._lock:
            self._pumps -= 1
            if self._pumps:
                return
        for line in self._lines:
            line.join()
        self._proxy.leave(self)
        self.drop()


class _Line:
    """Bytes under way in one direction, in order, each for its time."""

    def __init__(self, target: socket.socket, pair: Pair, drip: Callable[[], int]) -> None:
        self._target = target
        self._pair = pair
        self._drip = drip
        self._pieces: list[tuple[float, bytes]] = []
        self._more = threading.Condition()
        self._ended = False
        self._thread: threading.Thread | None = None

    def put(self, piece: bytes, delay: float) -> None:
        if self._thread is None and not delay and not self._drip():
            self._target.sendall(piece)
            return
        with self._more:
            self._pieces.append((time.monotonic() + delay, piece))
            self._more.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._carry, daemon=True)
            self._thread.start()

    def end(self) -> None:
        """The source has no more; the pair ends with what is under way."""
        with self._more:
            self._ended = True
            self._more.notify()
        if self._thread is None:
            self._part()

    def join(self) -> None:
        """Return when nothing is under way any more."""
        if self._thread is not None:
            self._thread.join()

    def _part(self) -> None:
        # That a side has hung up is not told to the other one while nothing passes.
        if not self._pair.blocked():
            self._pair.close()

    def _carry(self) -> None:
        try:
            while (next_one := self._next()) is not None:
                due, piece = next_one
                time.sleep(max(0.0, due - time.monotonic()))
                self._send(piece)
        except OSError:
            pass
        finally:
            self._part()

    def _next(self) -> tuple[float, bytes] | None:
        with self._more:
            while not self._pieces and not self._ended:
                self._more.wait()
            return self._pieces.pop(0) if self._pieces else None

    def _send(self, piece: bytes) -> None:
        """Byte by byte while it drips; what is left goes at once when that is over."""
        while piece and not self._pair.blocked():
            speed = self._drip()
            self._target.sendall(piece[:1] if speed else piece)
            piece = piece[1:] if speed else b""
            if speed:
                time.sleep(1 / speed)
