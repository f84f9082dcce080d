"""Keeps a device to its windows: closed in some, calibrated at the begin of others."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from spooler.daemon.control import Control
from spooler.daemon.device_rules import DeviceRules
from spooler.daemon.schedule.windows import Window
from spooler.errors import ConfigError, RunStopped
from spooler.model.result import Outcome
from spooler.model.run import StopReason
from spooler.model.state import State
from spooler.observe.events import EventName, Observer
from spooler.protocols import Clock, Runner


class OpeningHours:
    """The windows of one device; asked by its worker's thread before each look at the queue."""

    def __init__(
        self, runner: Runner, clock: Clock, observer: Observer, note: Callable[[str], None]
    ) -> None:
        """`note` is told what outsiders should read about the device; "" for nothing."""
        self._runner = runner
        self._clock = clock
        self._observer = observer
        self._note = note
        self._window: tuple[Window, datetime] | None = None
        self._calibration: Control | None = None

    def interrupt(self) -> None:
        """End a calibration that is going on; called by another thread."""
        calibration = self._calibration
        if calibration is not None:
            calibration.stop(StopReason.SHUTDOWN)

    def closed(self, rules: DeviceRules) -> bool:
        """Whether a window is open, in which the device is closed; calibrates at its begin."""
        now = self._clock.now()
        open_now = None
        for window in rules.windows:
            began = window.opened_at(now)
            if began is not None:
                open_now = (window, began)
                break
        if open_now != self._window:
            self._enter(open_now, rules.name)
        if open_now is None:
            return False
        return open_now[0].kind != "calibration"

    def _enter(self, opened: tuple[Window, datetime] | None, device: str) -> None:
        window = (opened or self._window or (None,))[0]
        self._window = opened
        if window is None:
            return
        kind, is_open = window.kind, opened is not None
        self._note((window.note or kind) if is_open else "")
        event = EventName.WINDOW_OPENED if is_open else EventName.WINDOW_CLOSED
        self._observer.emit(event, device=device, kind=kind, note=window.note or None)
        if is_open and kind == "calibration":
            self._calibrate(window, device)

    def _calibrate(self, window: Window, device: str) -> None:
        since = self._clock.monotonic()
        self._calibration = Control()
        try:
            outcome = self._runner.calibrate(window.duration, self._calibration)
        except RunStopped as stopped:
            outcome = Outcome(State.ERROR, f"stopped: {stopped.reason}")
        except (ConfigError, OSError) as error:
            # A reload has brought the window, or /tmp is full: the other devices go on.
            outcome = Outcome(State.ERROR, str(error))
        finally:
            self._calibration = None
        seconds = round(self._clock.monotonic() - since, 3)
        if outcome.state is State.DONE:
            self._note("")
            self._observer.emit(EventName.DEVICE_CALIBRATED, device=device, seconds=seconds)
            return
        self._note(f"calibration failed: {outcome.reason}")
        fields = {"seconds": seconds, "reason": outcome.reason}
        self._observer.emit(EventName.CALIBRATION_FAILED, device=device, **fields)
