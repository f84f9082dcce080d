"""The child process of a handler: made by isolated.py, never by hand.

The main thread reads requests and runs the handler, so that a run costs one round trip and no
change of threads. A third socket carries "stop" to a thread that only listens: its end of file
is also how the child learns that its parent is gone. SIGTERM counts only when the runner has said
so there: a service manager that signals the whole group must not cut a run that is to be finished.
"""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import os
import resource
import signal
import socket
import sys
import threading
from contextlib import suppress
from types import FrameType

from spooler import forks
from spooler.devices.context import HostContext
from spooler.devices.encoding import decode
from spooler.devices.runners.hosting import HandlerHost, Reply, Terminated
from spooler.devices.runners.records import FrameRecords, logger_for
from spooler.devices.runners.wire import Frame, Head, Unpacker, pack
from spooler.devices.spec import HandlerSpec
from spooler.errors import ConfigError, SpoolerError

#: Small enough for the allocator to have it at hand: 256 KiB cost 20 us a read.
_READ = 64 * 1024
#: A payload is bounded by the storage; this bounds only nonsense.
_PAYLOAD_LIMIT = 2**31
_PR_SET_PDEATHSIG = 1


class Channel:
    """Frames over a blocking socket; several threads may send."""

    def __init__(self, number: int) -> None:
        # The handler's own children must not keep the connection alive.
        os.set_inheritable(number, False)  # noqa: FBT003 - the system's own signature
        self.socket = socket.socket(fileno=number)
        self._unpacker = Unpacker(_PAYLOAD_LIMIT)
        self._lock = threading.Lock()

    def receive(self) -> Frame | None:
        """Return the next frame; None when the parent is gone."""
        while (frame := self._unpacker.take()) is None:
            try:
                data = self.socket.recv(_READ)
            except OSError:
                return None
            if not data:
                return None
            self._unpacker.feed(data)
        return frame

    def send(self, head: Head, body: bytes = b"") -> None:
        """Raises OSError when the parent is gone."""
        data = pack(head, body)
        with self._lock:
            self.socket.sendall(data)

    def forget(self) -> None:
        """In a fork: let go of our end, which the process goes on using, and of its lock."""
        self._lock = threading.Lock()
        self.socket.close()


class Child:
    """The handler's process: one handler, one run at a time."""

    def __init__(self, device: str, requests: Channel, answers: Channel, control: Channel) -> None:
        self.device = device
        self.requests = requests
        self.answers = answers
        self.control = control
        self.parent = os.getppid()
        self.records = FrameRecords(answers.send)
        self.logger = logger_for(device, self.records)
        self._context: HostContext | None = None
        self._number = 0
        self._asked = 0
        self._grace = 5.0
        self._ending = False
        self._ended = threading.Event()
        forks.in_forks(self._forked)

    def main(self) -> int:
        """Serve until told to close, terminated, or left alone; the exit code."""
        first = self.requests.receive()
        if first is None:
            return 0
        host = HandlerHost(self._prepare(first), self.logger)
        try:
            if self._start(host, opened=bool(first.head["open"])):
                self._serve(host)
        except (Terminated, OSError):
            pass
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            host.close()
            _flush()
            self._ended.set()
        return 0

    def _prepare(self, first: Frame) -> HandlerSpec:
        """Make this process what the runner asks for."""
        hello = first.head
        sys.path[:] = hello["path"]
        self.logger.setLevel(hello["log_level"])
        logging.basicConfig(level=hello["log_level"], handlers=[self.records])
        self._grace = hello["grace"]
        signal.signal(signal.SIGTERM, self._terminate)
        # Ctrl-C is for the daemon. Not SIG_IGN, which the handler's own children would inherit.
        signal.signal(signal.SIGINT, lambda *_: None)
        self._follow_parent()
        if (limit := hello["memory_limit"]) is not None:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        threading.Thread(target=self._listen, name="control", daemon=True).start()
        return HandlerSpec(
            device=self.device,
            reference=hello["reference"],
            options=decode(first.body),
            max_output=hello["max_output"],
        )

    def _start(self, host: HandlerHost, *, opened: bool) -> bool:
        """Load and, if asked, open the handler; False when that failed."""
        try:
            host.load()
            card = host.open() if opened else b"{}"
        except SpoolerError as error:
            kind = "config" if isinstance(error, ConfigError) else "device"
            _flush()
            self.answers.send({"kind": "failed", "error": kind, "reason": str(error)})
            return False
        _flush()
        self.answers.send({"kind": "ready", "calibrates": host.calibrates}, card)
        return True

    def _serve(self, host: HandlerHost) -> None:
        calls = {"run": host.run, "dry_run": host.dry_run, "calibrate": host.calibrate}
        while (frame := self.requests.receive()) is not None:
            head = frame.head
            if head["op"] == "close":
                return
            number = head["number"]
            context = self._begin(head)
            reply: Reply = calls[head["op"]](frame.body, context)
            self._context = None
            context.end()
            _flush()
            reply.head["number"] = number
            self.answers.send(reply.head, reply.body)

    def _begin(self, head: Head) -> HostContext:
        number = head["number"]

        def tell(text: str) -> None:
            with suppress(OSError):
                self.answers.send({"kind": "progress", "number": number, "text": text})

        context = HostContext(
            job_id=head["job_id"],
            attempt=head["attempt"],
            timeout=head["timeout"],
            scratch=head["scratch"],
            logger=self.logger,
            tell=tell,
        )
        # Set before looking: a stop that overtakes its request is seen by one side or the other.
        self._number, self._context = number, context
        if self._asked >= number:
            context.stop.set()
        return context

    def _listen(self) -> None:
        """The control thread: hears "stop", "end", and the end of the parent."""
        while (frame := self.control.receive()) is not None:
            if "end" in frame.head:
                self._interrupt()
                continue
            self._asked = frame.head["stop"]
            context = self._context
            if context is not None and self._number == self._asked:
                context.stop.set()
        self._left_alone()

    def _left_alone(self) -> None:
        """The parent is gone: nobody wants the result, but the instrument is to be made safe."""
        # Printing into a pipe without a reader would raise, in the middle of a close() perhaps.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        for channel in (self.requests, self.answers):
            with suppress(OSError):
                channel.socket.shutdown(socket.SHUT_RDWR)
        for ask in (self._ask_handler, self._interrupt):
            if not self._ended.is_set():
                ask()
                self._ended.wait(self._grace)
        # This thread ends with the process, unless threads of the handler keep it from ending.
        threading.Event().wait(self._grace)
        self._kill()

    def _ask_handler(self) -> None:
        if (context := self._context) is not None:
            context.stop.set()

    def _interrupt(self) -> None:
        self._ending = True
        os.kill(os.getpid(), signal.SIGTERM)

    def _terminate(self, _signum: int, _frame: FrameType | None) -> None:
        if self._ending:
            # Once is enough: a second one would cut the clean-up that the first has begun.
            self._ending = False
            raise Terminated

    def _forked(self) -> None:
        """In a fork: nobody is answered or heard there, and signals do what they do elsewhere."""
        for channel in (self.requests, self.answers, self.control):
            channel.forget()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _kill(self) -> None:
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    def _follow_parent(self) -> None:
        """A second way to learn that the parent is gone, for when a fork of it lives on.

        The kernel's signal can also mean the end of the thread that started this process, and
        SIGKILL would leave no time for close(): so SIGHUP, and then a look at who the parent is.
        """
        signal.signal(signal.SIGHUP, self._look_for_parent)
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGHUP)

    def _look_for_parent(self, _signum: int, _frame: FrameType | None) -> None:
        if os.getppid() != self.parent:
            with suppress(OSError):
                self.control.socket.shutdown(socket.SHUT_RDWR)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # What is left of a stream that the handler has closed or replaced is its own affair.
        with suppress(Exception):
            stream.flush()


def main() -> int:
    """Run `python -m spooler.devices.runners.child DEVICE REQUESTS ANSWERS CONTROL`.

    The last three are numbers of descriptors.
    """
    device, *numbers = sys.argv[1:]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(  # type: ignore[union-attr]  # text streams at the start
            encoding="utf-8", errors="backslashreplace", line_buffering=True
        )
    faulthandler.enable()
    return Child(device, *(Channel(int(number)) for number in numbers)).main()


if __name__ == "__main__":
    sys.exit(main())
