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
        #: Why the last calibration has failed; "" when it has not.
        self._failed = ""

    def interrupt(self) -> None:
        """End a calibration that is going on; called by another thread."""
        calibration = self._calibration
        if calibration is not None:
            calibration.stop(StopReason.SHUTDOWN)

    def closed(self, rules: DeviceRules) -> bool:
        """Return whether the device takes no jobs now; calibrates it when such a window begins.

        It is closed in windows of other kinds, and where its rules want that after a calibration
        that failed: until one succeeds.
        """
        now = self._clock.now()
        open_now = None
        for window in rules.windows:
            began = window.opened_at(now)
            if began is not None:
                open_now = (window, began)
                break
        if open_now != self._window:
            self._enter(open_now, rules)
        if open_now is not None and open_now[0].kind != "calibration":
            return True
        return bool(self._failed) and rules.rests_uncalibrated

    def _enter(self, opened: tuple[Window, datetime] | None, rules: DeviceRules) -> None:
        window = (opened or self._window or (None,))[0]
        self._window = opened
        if window is None:
            return
        kind, is_open = window.kind, opened is not None
        self._note((window.note or kind) if is_open else self._failed)
        event = EventName.WINDOW_OPENED if is_open else EventName.WINDOW_CLOSED
        self._observer.emit(event, device=rules.name, kind=kind, note=window.note or None)
        if is_open and kind == "calibration":
            self._calibrate(window, rules)

    def _calibrate(self, window: Window, rules: DeviceRules) -> None:
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
            self._failed = ""
            self._note("")
            self._observer.emit(EventName.DEVICE_CALIBRATED, device=rules.name, seconds=seconds)
            return
        self._failed = f"calibration failed: {outcome.reason}"
        if rules.rests_uncalibrated:
            self._failed += "; it takes no jobs until a calibration succeeds"
        self._note(self._failed)
        fields = {"seconds": seconds, "reason": outcome.reason}
        self._observer.emit(EventName.CALIBRATION_FAILED, device=rules.name, **fields)
