"""A runner whose handler lives in a thread of the daemon: quick to start, cannot be killed."""

from __future__ import annotations

import logging
import queue
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from spooler.devices.context import HostContext
from spooler.devices.runners.hosting import HandlerHost, Reply, card_of, outcome_of, payload_of
from spooler.devices.spec import HandlerSpec
from spooler.errors import ConfigError, DeviceUnusable, RunStopped
from spooler.model.device import DeviceCard
from spooler.model.result import Outcome
from spooler.model.run import RunRequest, StopReason
from spooler.observe.log import bound
from spooler.protocols import RunControl

SLICE = 0.05


@dataclass(frozen=True, slots=True)
class _Word:
    """What the device's thread says about call `number`: progress, a value or an error."""

    number: int
    progress: str = ""
    value: Any = None
    error: BaseException | None = None
    last: bool = False


class _DeviceThread:
    """One named daemon thread that makes calls, one after the other."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[int, Callable[[], Any]] | None] = queue.SimpleQueue()
        self._words: queue.SimpleQueue[_Word] = queue.SimpleQueue()
        self._number = 0
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], Any]) -> int:
        self._number += 1
        self._calls.put((self._number, work))
        return self._number

    def tell(self, text: str) -> None:
        """Progress of the current call, from the handler's side."""
        self._words.put(_Word(self._number, progress=text))

    def wait(self, seconds: float) -> _Word | None:
        """Return the next word about the current call."""
        try:
            word = self._words.get(timeout=seconds) if seconds > 0 else self._words.get_nowait()
        except queue.Empty:
            return None
        return word if word.number == self._number else None

    def alive(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> None:
        self._calls.put(None)

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            number, work = call
            try:
                word = _Word(number, value=work(), last=True)
            except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
                word = _Word(number, error=error, last=True)
            # A reference kept here would keep the last payload and result alive.
            del call, work
            self._words.put(word)
            del word


class ThreadRunner:
    """`isolation = "thread"`.

    A handler that goes on `grace` seconds after it was asked to end cannot be stopped: the
    device is unusable until it ends by itself, and `open()` says so until then.
    """

    def __init__(self, spec: HandlerSpec) -> None:
        if spec.memory_limit is not None:
            raise ConfigError(f'device {spec.device}: memory_limit needs isolation = "process".')
        if spec.env:
            raise ConfigError(f'device {spec.device}: env needs isolation = "process".')
        if spec.recycle_after is not None:
            raise ConfigError(f'device {spec.device}: recycle_after needs isolation = "process".')
        self._spec = spec
        self._thread: _DeviceThread | None = None
        self._host: HandlerHost | None = None
        self._wedged: _DeviceThread | None = None
        self._opened = False
        self.calibrates = False

    @property
    def ready(self) -> bool:
        return self._host is not None and self._opened

    def open(self, control: RunControl | None = None) -> DeviceCard:
        self.close()
        return card_of(self._spec.device, self._start(opened=True, control=control))

    def load(self) -> None:
        """Import and construct the handler without opening it. Raises ConfigError."""
        self.close()
        self._start(opened=False, control=None)

    def run(self, request: RunRequest, control: RunControl) -> Outcome:
        body = payload_of(request.payload)
        return self._request(lambda host, ctx: host.run(body, ctx), request, control, opened=True)

    def dry_run(self, request: RunRequest, control: RunControl) -> Outcome:
        body = payload_of(request.payload)
        return self._request(
            lambda host, ctx: host.dry_run(body, ctx), request, control, opened=self._opened
        )

    def calibrate(self, timeout: float, control: RunControl) -> Outcome:
        if self._host is not None and not self.calibrates:
            raise ConfigError(
                f"device {self._spec.device}: its handler {self._spec.reference} has no method"
                " calibrate(context); add one, or take the calibration windows out of the settings."
            )
        with tempfile.TemporaryDirectory(prefix="spooler-calibration.") as scratch:
            request = RunRequest("calibration", 1, None, timeout, scratch)
            return self._request(
                lambda host, ctx: host.calibrate(b"", ctx), request, control, opened=True
            )

    def drain_output(self) -> None:
        return  # a thread prints where the daemon prints

    def close(self) -> None:
        thread, host = self._thread, self._host
        self._thread = self._host = None
        self._opened = False
        if thread is None or host is None:
            return
        thread.call(host.close)
        thread.end()
        if self._last_word(thread, time.monotonic() + self._spec.grace) is None:
            self._wedged = thread
        else:
            thread.join(self._spec.grace)

    def _request(
        self,
        work: Callable[[HandlerHost, HostContext], Reply],
        request: RunRequest,
        control: RunControl,
        *,
        opened: bool,
    ) -> Outcome:
        if (reason := control.stop_reason) is not None:
            raise RunStopped(reason)
        host, thread = self._ready(control, opened=opened)
        context = HostContext(
            job_id=request.job_id,
            attempt=request.attempt,
            timeout=request.timeout,
            scratch=request.scratch,
            logger=logging.getLogger(f"spooler.devices.{self._spec.device}"),
            tell=thread.tell,
        )
        deadline = time.monotonic() + request.timeout

        def run() -> Reply:
            about = {"job": request.job_id, "attempt": request.attempt}
            with bound(device=self._spec.device, **about):
                return work(host, context)

        thread.call(run)
        reply = self._answer(thread, context, deadline, control)
        return outcome_of(reply.head, reply.body)

    def _answer(
        self, thread: _DeviceThread, context: HostContext, deadline: float, control: RunControl
    ) -> Reply:
        try:
            while True:
                left = deadline - time.monotonic()
                word = thread.wait(min(SLICE, left))
                reason = control.stop_reason
                if reason is None and time.monotonic() >= deadline:
                    reason = StopReason.TIMEOUT
                if word is None and reason is not None:
                    word = thread.wait(0)
                if word is not None:
                    if word.last:
                        return _reply(word)
                    control.progress(word.progress)
                if reason is not None:
                    self._stop(thread, context)
                    raise RunStopped(reason)
        finally:
            context.end()

    def _stop(self, thread: _DeviceThread, context: HostContext) -> None:
        context.stop.set()
        if self._last_word(thread, time.monotonic() + self._spec.grace) is not None:
            return
        # The job ends for the reason that it was stopped for; the next one finds the device
        # unusable.
        self._wedge(thread, self._host)

    def _last_word(
        self, thread: _DeviceThread, deadline: float, control: RunControl | None = None
    ) -> _Word | None:
        """The word that ends the present call; None where it comes too late, or we are stopped."""
        while (left := deadline - time.monotonic()) > 0:
            if control is not None and control.stop_reason is not None:
                return None
            word = thread.wait(min(SLICE, left))
            if word is not None and word.last:
                return word
        return None

    # --- the thread's life -------------------------------------------------------------------

    def _ready(self, control: RunControl, *, opened: bool) -> tuple[HandlerHost, _DeviceThread]:
        if self._host is None or self._thread is None or (opened and not self._opened):
            self.close()
            try:
                self._start(opened=opened, control=control)
            except ConfigError as error:
                raise DeviceUnusable(str(error)) from error
        if self._host is None or self._thread is None:
            raise DeviceUnusable(f"device {self._spec.device} could not be started.")
        return self._host, self._thread

    def _start(self, *, opened: bool, control: RunControl | None) -> bytes:
        self._refuse_wedged()
        spec = self._spec
        host = HandlerHost(spec, logging.getLogger(f"spooler.devices.{spec.device}"))
        thread = _DeviceThread(f"device-{spec.device}")

        def begin() -> bytes:
            host.load()
            return host.open() if opened else b"{}"

        thread.call(begin)
        deadline, reason = time.monotonic() + spec.start_timeout, None
        word = self._last_word(thread, deadline, control)
        if word is None and control is not None and (reason := control.stop_reason) is not None:
            # An instrument that is half open is better closed than left so.
            word = self._last_word(thread, min(deadline, time.monotonic() + spec.grace))
        if word is None:
            self._wedge(thread, host)
            if reason is not None:
                raise RunStopped(reason)
            raise DeviceUnusable(
                f"device {spec.device} was not open within {spec.start_timeout:g} s."
            )
        if word.error is not None:
            thread.call(host.close)
            thread.end()
            if self._last_word(thread, time.monotonic() + spec.grace) is None:
                self._wedged = thread
            raise word.error
        self._host, self._thread, self._opened = host, thread, opened
        self.calibrates = host.calibrates
        if reason is not None:
            self.close()
            raise RunStopped(reason)
        return bytes(word.value)

    def _wedge(self, thread: _DeviceThread, host: HandlerHost | None) -> None:
        """Leave the thread to itself; it closes the handler when it comes to its end."""
        self._host, self._thread, self._opened = None, None, False
        if host is not None:
            thread.call(host.close)
        thread.end()
        self._wedged = thread

    def _refuse_wedged(self) -> None:
        if self._wedged is None:
            return
        if self._wedged.alive():
            raise DeviceUnusable(
                f"device {self._spec.device}: the handler did not end when asked and cannot be"
                ' stopped in a thread; use isolation = "process", or restart spooler.'
            )
        self._wedged = None


def _reply(word: _Word) -> Reply:
    if word.error is not None:
        raise word.error
    return cast("Reply", word.value)
