"""A runner whose handler lives in a child process that can be stopped whatever it does.

The child is made with spawn semantics (a fresh interpreter, no memory or descriptors shared),
lives from run to run, and is made again before the next run when it had to be ended or has died.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from spooler.devices.encoding import NotJson, encode
from spooler.devices.output import DeviceLog, Listener
from spooler.devices.runners.handler_process import HandlerProcess
from spooler.devices.runners.hosting import card_of, outcome_of, payload_of
from spooler.devices.runners.lock import device_lock
from spooler.devices.runners.wire import Frame, Head
from spooler.devices.sentences import one_line
from spooler.devices.spec import HandlerSpec
from spooler.errors import ConfigError, DeviceUnusable, RunStopped
from spooler.model.device import DeviceCard
from spooler.model.result import Outcome
from spooler.model.run import RunRequest, StopReason
from spooler.model.state import State
from spooler.protocols import RunControl

#: Seconds between two looks at the clock and at `control.stop_reason`.
SLICE = 0.05
#: An orphaned handler asks itself to stop, then ends itself: so many grace periods, and this many
#: seconds beyond, the next one waits for it.
_ENDINGS, _ENDING_SLACK = 3, 5.0
#: Frames looked at before a stop is sent, so that an answer that came first counts.
_BACKLOG = 64


class ProcessRunner:
    """`isolation = "process"`.

    `dry_run` before `open()` uses a child whose handler is loaded but not opened: no hardware
    is touched.
    """

    def __init__(self, spec: HandlerSpec, listener: Listener | None = None) -> None:
        """`listener` hears what the handler prints and logs; without one the daemon's log does."""
        self._spec = spec
        self._log = DeviceLog(spec.device)
        self._listener = listener or self._log
        self._process: HandlerProcess | None = None
        #: A process that even SIGKILL has not ended; there is no second one while it lives.
        self._undead: HandlerProcess | None = None
        self._opened = False
        #: Device and inode of the file that is locked for the child, while a device is open.
        self._locked: tuple[int, int] | None = None
        self._number = 0
        #: Requests that the present process has answered, and whether it is to answer no more.
        self._answered = 0
        self._worn = False
        self.calibrates = False

    @property
    def ready(self) -> bool:
        return self._process is not None and self._serves(self._process, opened=True)

    @property
    def pid(self) -> int | None:
        """The child's process id, or None while there is none."""
        return self._process.pid if self._process else None

    def open(self, control: RunControl | None = None) -> DeviceCard:
        self.close()
        frame = self._start(opened=True, control=control)
        return card_of(self._spec.device, frame.body)

    def load(self) -> None:
        """Import and construct the handler without opening it. Raises ConfigError."""
        self.close()
        self._start(opened=False, control=None)

    def run(self, request: RunRequest, control: RunControl) -> Outcome:
        return self._request("run", request, control, opened=True)

    def dry_run(self, request: RunRequest, control: RunControl) -> Outcome:
        return self._request("dry_run", request, control, opened=self._opened)

    def calibrate(self, timeout: float, control: RunControl) -> Outcome:
        if self._process is not None and not self.calibrates:
            raise ConfigError(
                f"device {self._spec.device}: its handler {self._spec.reference} has no method"
                " calibrate(context); add one, or take the calibration windows out of the settings."
            )
        with tempfile.TemporaryDirectory(prefix="spooler-calibration.") as scratch:
            request = RunRequest("calibration", 1, None, timeout, scratch)
            return self._request("calibrate", request, control, opened=True)

    def drain_output(self) -> None:
        """Take what the handler printed between runs, so that its threads never block on it."""
        if self._process is not None:
            self._process.catch_up()

    def close(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.post({"op": "close"})
        if process.wait_end(self._spec.grace) is None:
            process.terminate()
            process.wait_end(self._spec.grace)
        self._finish(process)

    # --- one request -------------------------------------------------------------------------

    def _request(
        self, op: str, request: RunRequest, control: RunControl, *, opened: bool
    ) -> Outcome:
        if (reason := control.stop_reason) is not None:
            raise RunStopped(reason)
        self._log.run = {"job": request.job_id, "attempt": request.attempt}
        try:
            return self._requested(op, request, control, opened=opened)
        finally:
            self._log.run = {}

    def _requested(
        self, op: str, request: RunRequest, control: RunControl, *, opened: bool
    ) -> Outcome:
        body = payload_of(request.payload)
        process = self._ready(control, opened=opened)
        self._number += 1
        deadline = time.monotonic() + request.timeout
        head = {
            "op": op,
            "number": self._number,
            "job_id": request.job_id,
            "attempt": request.attempt,
            "timeout": request.timeout,
            "scratch": request.scratch,
        }
        process.post(head, body)
        try:
            frame = self._answer(process, deadline, control)
        except RunStopped:
            raise
        except BaseException:
            # A bug on our side: nobody waits for this run any more.
            self._process = None
            self._finish(process)
            raise
        finally:
            if self._process is process:
                process.end_run()
        if frame is None:
            return self._crashed(process)
        self._answered += 1
        self._worn = frame.head.get("worn") is True or self._answered == self._spec.recycle_after
        return outcome_of(frame.head, frame.body)

    def _answer(
        self, process: HandlerProcess, deadline: float, control: RunControl
    ) -> Frame | None:
        """The reply to the current request; None when the child is gone. Raises RunStopped."""
        while True:
            left = deadline - time.monotonic()
            frame = process.wait(min(SLICE, left) if left > 0 else 0)
            if self._is_reply(frame, control):
                return frame
            if frame is None and process.broken:
                return None
            reason = control.stop_reason
            if reason is None and time.monotonic() >= deadline:
                reason = StopReason.TIMEOUT
            if reason is None:
                continue
            if (frame := self._last_look(process, control)) is not None:
                return frame
            self._stop(process, control)
            raise RunStopped(reason)

    def _last_look(self, process: HandlerProcess, control: RunControl) -> Frame | None:
        """Return the reply if it has already arrived."""
        for _ in range(_BACKLOG):
            if (frame := process.wait(0)) is None or self._is_reply(frame, control):
                return frame
        return None

    def _is_reply(self, frame: Frame | None, control: RunControl) -> bool:
        """Whether `frame` ends the current request; progress is passed on, old words dropped."""
        if frame is None or frame.head.get("number") != self._number:
            return False
        if frame.head.get("kind") == "progress":
            control.progress(str(frame.head.get("text", "")))
            return False
        return True

    def _stop(self, process: HandlerProcess, control: RunControl) -> None:
        """Ask, then SIGTERM, then SIGKILL; a handler that ends when asked keeps its process."""
        process.ask_stop(self._number)
        patience = time.monotonic() + self._spec.grace
        while (left := patience - time.monotonic()) > 0 and not process.broken:
            if self._is_reply(process.wait(min(SLICE, left)), control):
                return
        self._process = None
        process.terminate()
        process.wait_end(self._spec.grace)
        self._finish(process)

    def _crashed(self, process: HandlerProcess) -> Outcome:
        """The child died during the run, or cannot be talked to any more."""
        self._process = None
        end = process.wait_end(self._spec.grace)
        self._finish(process)
        said = f"the handler process {end}" if end else "the handler process cut its connection"
        return Outcome(State.ERROR, said, died=True)

    # --- the child's life --------------------------------------------------------------------

    def _ready(self, control: RunControl, *, opened: bool) -> HandlerProcess:
        """The child, made (again) where there is none. Raises DeviceUnusable or RunStopped."""
        process = self._process
        if process is not None and self._serves(process, opened=opened) and self._is_locked():
            return process
        self.close()
        try:
            self._start(opened=opened, control=control)
        except ConfigError as error:
            raise DeviceUnusable(str(error)) from error
        if self._process is None:
            raise DeviceUnusable(f"device {self._spec.device} could not be started.")
        return self._process

    def _is_locked(self) -> bool:
        """Whether the device's lock is still what others find: the state folder may be removed."""
        if self._locked is None:
            return True
        try:
            found = os.lstat(self._spec.lock)
        except OSError:
            return False
        return self._locked == (found.st_dev, found.st_ino)

    def _serves(self, process: HandlerProcess, *, opened: bool) -> bool:
        """Return whether a child can take a request."""
        return not self._worn and (self._opened or not opened) and not process.ended()

    def _start(self, *, opened: bool, control: RunControl | None) -> Frame:
        """Return a new child, ready for requests; its first frame."""
        self._refuse_undead()
        spec = self._spec
        try:
            options = encode(spec.options)
        except NotJson as error:
            raise ConfigError(f"device {spec.device}: an option {error}.") from None
        lock = spec.lock if opened else ""  # without hardware there is nothing to drive twice
        patience = _ENDINGS * spec.grace + _ENDING_SLACK
        try:
            with device_lock(lock, spec.device, patience, control) as held:
                facts = None if held is None else os.fstat(held)
                self._locked = None if facts is None else (facts.st_dev, facts.st_ino)
                process = HandlerProcess(spec, self._listener, held)
        except OSError as error:
            raise DeviceUnusable(
                f"device {spec.device}: the system cannot start a process ({error.strerror})."
            ) from error
        ready = False
        try:
            process.post(self._hello(opened=opened), options)
            frame = self._greeting(process, control)
            self._check(frame.head)
            ready = True
        finally:
            if ready:
                process.end_run()
            else:
                process.terminate()
                process.wait_end(spec.grace)
                self._finish(process)
        self._process, self._opened = process, opened
        self._answered, self._worn = 0, False
        self.calibrates = bool(frame.head["calibrates"])
        return frame

    def _hello(self, *, opened: bool) -> Head:
        spec = self._spec
        return {
            "open": opened,
            "reference": spec.reference,
            "path": sys.path,
            "memory_limit": spec.memory_limit,
            "max_output": spec.max_output,
            "grace": spec.grace,
            "log_level": logging.getLogger().getEffectiveLevel(),
        }

    def _greeting(self, process: HandlerProcess, control: RunControl | None) -> Frame:
        deadline = time.monotonic() + self._spec.start_timeout
        while (left := deadline - time.monotonic()) > 0:
            if (frame := process.wait(min(SLICE, left))) is not None:
                return frame
            if process.broken:
                end = process.wait_end(self._spec.grace) or "cut its connection"
                process.end_run()
                last = one_line(process.output.last_line, 200)
                words = f"; its last words: {last}" if last else ""
                raise DeviceUnusable(
                    f"device {self._spec.device}: the handler process {end} before it was"
                    f" open{words}"
                )
            if control is not None and (reason := control.stop_reason) is not None:
                raise RunStopped(reason)
        raise DeviceUnusable(
            f"device {self._spec.device} was not open within {self._spec.start_timeout:g} s."
        )

    def _check(self, head: Mapping[str, Any]) -> None:
        if head.get("kind") == "ready":
            return
        reason = str(head.get("reason", "the handler process sent a malformed reply"))
        raise ConfigError(reason) if head.get("error") == "config" else DeviceUnusable(reason)

    def _refuse_undead(self) -> None:
        if self._undead is None:
            return
        if not self._undead.reap():
            raise DeviceUnusable(
                f"device {self._spec.device}: process {self._undead.pid} of an earlier run is"
                " stuck in the system and cannot be killed; it may still hold the instrument."
            )
        self._undead = None

    def _finish(self, process: HandlerProcess) -> None:
        if not process.finish(self._spec.grace):
            self._undead = process
