"""A child process as its runner sees it: frames out, frames in, output drained, an end.

Policy (when to ask, when to kill) is isolated.py's.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

from spooler.devices.output import Listener, OutputLog, RecordLog
from spooler.devices.runners.environment import handed_on
from spooler.devices.runners.records import record_of
from spooler.devices.runners.sessions import End, end_of, kill_session, signal_session
from spooler.devices.runners.wire import Frame, FrameError, Head, Unpacker, pack
from spooler.devices.spec import MIB, HandlerSpec

#: Small enough for the allocator to have it at hand: 256 KiB cost 20 us a read.
_READ = 64 * 1024
#: Reads of a chatty child's output per look at its answers, and at its end.
_READS = 16
_LAST_READS = 64
_STEP = 0.005


class HandlerProcess:
    """One child process, not shared between threads.

    Nothing here blocks longer than the seconds it is given. Raises OSError when the system
    cannot start a process.
    """

    def __init__(self, spec: HandlerSpec, listener: Listener, lock: int | None = None) -> None:
        self.output = OutputLog(listener.line)
        self._records = RecordLog(listener.record)
        self.broken = False
        self._printing = True
        self._unpacker = Unpacker(max(spec.max_output, MIB))
        self._unsent = memoryview(b"")
        with ExitStack() as ours, ExitStack() as theirs:
            # One socket for each direction: who waits to read is also woken when what he has
            # written is read, and the child would wake up once more for each answer.
            self._requests, requests = _owned(ours, theirs, *socket.socketpair())
            self._answers, answers = _owned(ours, theirs, *socket.socketpair())
            self._control, control = _owned(ours, theirs, *socket.socketpair())
            numbers = [each.fileno() for each in (requests, answers, control)]
            self._printed, printing = os.pipe()
            ours.callback(os.close, self._printed)
            theirs.callback(os.close, printing)
            # The command line is what `ps` shows: it names the device.
            command = [sys.executable, "-P", "-m", "spooler.devices.runners.child", spec.device]
            self._popen = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [*command, *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                stdout=printing,
                stderr=printing,
                pass_fds=(*numbers, *([] if lock is None else [lock])),
                start_new_session=True,
                env={**handed_on(os.environ), **spec.env},
            )
            self._open = ours.pop_all()
        self.pid = self._popen.pid
        for each in (self._requests, self._answers, self._control):
            each.settimeout(0)
        os.set_blocking(self._printed, False)
        #: Who looks after a descriptor that something has happened to.
        self._handlers: dict[int, Callable[[int], object]] = {
            self._requests.fileno(): self._on_requests,
            self._answers.fileno(): self._on_answers,
            self._printed: self._on_printed,
        }
        self._poll = select.poll()
        for number in self._handlers:
            self._poll.register(number, select.POLLIN)

    def post(self, head: Head, body: bytes = b"") -> None:
        """Send a frame: at once as far as the socket takes it, the rest while waiting."""
        self._unsent = memoryview(pack(head, body))
        self._send()
        if self._unsent:
            self._poll.modify(self._requests, select.POLLIN | select.POLLOUT)

    def ask_stop(self, number: int) -> None:
        """Ask the handler of run `number` to end early."""
        try:
            self._control.send(pack({"stop": number}))
        except OSError:
            self.broken = True

    def wait(self, seconds: float) -> Frame | None:
        """Return the next frame, at most after `seconds`; output is drained meanwhile.

        None also when the process has ended or talks nonsense: then `broken` is set.
        """
        if (frame := self._take()) is not None or self.broken:
            return frame
        for number, events in self._poll.poll(seconds * 1000):
            self._handlers[number](events)
        if (frame := self._take()) is not None or self.broken:
            return frame
        # A fork of the child may keep the socket open: then only the system knows of its end.
        if end_of(self.pid) is not None:
            while self._on_answers():
                pass
            self.broken = True
        return self._take()

    def wait_end(self, seconds: float) -> End | None:
        """Return how the process ended, or None after `seconds`; output is drained meanwhile."""
        deadline = time.monotonic() + seconds
        while (end := end_of(self.pid)) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(left, _STEP))
            self._on_printed()
        return end

    def ended(self) -> bool:
        """Return whether the process has ended, as the system says."""
        return end_of(self.pid) is not None

    def drain(self) -> None:
        """Take what has been printed, without waiting."""
        for _ in range(_LAST_READS):
            if not self._on_printed():
                return

    def catch_up(self) -> None:
        """Between runs: take what has been printed and logged, without waiting."""
        self.drain()
        for _ in range(_READS):
            if self.broken or not self._on_answers():
                break
        while self._take() is not None:
            pass  # a word about a run that is over

    def end_run(self) -> None:
        """What is printed from now on belongs to the next run."""
        self.drain()
        self.output.finish()
        self._records.finish()

    def terminate(self) -> None:
        """SIGTERM for the process and everything that it started."""
        # The child takes it for meant only when it is told so.
        with suppress(OSError):
            self._control.send(pack({"end": True}))
        signal_session(self.pid, signal.SIGTERM)

    def finish(self, seconds: float) -> bool:
        """Kill what is left of the session, reap, let go; False when SIGKILL had no effect.

        A process in an uninterruptible system call (a dead file server, a broken driver) ends
        when that returns; it still holds the instrument.
        """
        kill_session(self.pid)
        gone = self.wait_end(seconds) is not None
        self.end_run()
        self._open.close()
        if gone:
            self._popen.wait()
        return gone

    def reap(self) -> bool:
        """After a `finish` that returned False: whether the process is gone by now."""
        return self._popen.poll() is not None

    def _take(self) -> Frame | None:
        try:
            while (frame := self._unpacker.take()) is not None:
                if frame.head.get("kind") != "log":
                    return frame
                self._records.feed(record_of(frame.head), time.monotonic())
        except FrameError:
            self.broken = True
        return None

    def _on_requests(self, events: int) -> None:
        """Write what the socket takes. To be read there is nothing but its end."""
        if events & select.POLLOUT:
            self._send()
            if not self._unsent:
                self._poll.modify(self._requests, select.POLLIN)
        if events & ~select.POLLOUT:
            for _ in range(_READS):  # what was answered before counts: a socket holds less
                if not self._on_answers():
                    break
            self.broken = True

    def _on_answers(self, _events: int = 0) -> bool:
        """Read what the socket has; whether there may be more."""
        try:
            data = self._answers.recv(_READ)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        self._unpacker.feed(data)
        self.broken = self.broken or not data
        return bool(data)

    def _send(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._requests.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._unsent = memoryview(b"")
            self.broken = True

    def _on_printed(self, _events: int = 0) -> bool:
        """Read some of what was printed; whether there may be more."""
        for _ in range(_READS if self._printing else 0):
            try:
                data = os.read(self._printed, _READ)
            except BlockingIOError:
                return False
            if not data:
                self._poll.unregister(self._printed)
                self._printing = False
                return False
            self.output.feed(data, time.monotonic())
        return self._printing


def _owned(
    ours: ExitStack, theirs: ExitStack, one: socket.socket, other: socket.socket
) -> tuple[socket.socket, socket.socket]:
    return ours.enter_context(one), theirs.enter_context(other)
