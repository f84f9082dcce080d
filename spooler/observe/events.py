"""What happens, told to whoever listens: a closed list of stable event names.

The names are an interface: dashboards and log searches are built on them, so they are added to
and never renamed.

Fields that mean the same everywhere: `device`, `job`, `attempt`, `reason` (a sentence for
people), `error` (likewise, of an exception), `seconds` (how long it took), `waiting` (reports in
the outbox), `note`, `kind` (of a window).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from spooler.clock import SystemClock
from spooler.observe.logger import get_logger
from spooler.protocols import Clock

logger = get_logger(__name__)


class EventName(StrEnum):
    """The events; the comment says which fields come with them beyond `device` and `job`."""

    JOB_CLAIMED = "job.claimed"  # attempt
    JOB_STARTED = "job.started"  # attempt
    JOB_PROGRESS = "job.progress"  # attempt, text
    JOB_FINISHED = "job.finished"  # attempt, seconds
    JOB_FAILED = "job.failed"  # attempt, seconds, reason
    JOB_CANCELLED = "job.cancelled"  # attempt, reason
    JOB_RELEASED = "job.released"  # attempt, reason: given back unrun
    JOB_REQUEUED = "job.requeued"  # attempt, reason: its run was cut off, will run again
    JOB_LOST = "job.lost"  # attempt, reason: somebody else has taken the lease over

    REPORT_DELIVERED = "report.delivered"  # storage, waiting, digest (SHA-256 of what is signed)
    REPORT_DELAYED = "report.delayed"  # storage, waiting, reason: this report waits alone
    REPORT_PARKED = "report.parked"  # storage, waiting, digest, reason: not delivered, kept

    STATE_REMOVED = "state.removed"  # reason: what was in our state folder is gone, it is made anew
    DISK_FULL = "disk.full"  # error: this machine's disk takes no reports; no claims meanwhile
    DISK_RECOVERED = "disk.recovered"  # seconds: it takes them again

    STORAGE_UNAVAILABLE = "storage.unavailable"  # storage, error
    STORAGE_RECOVERED = "storage.recovered"  # storage, seconds it was away
    QUEUE_UNAVAILABLE = "queue.unavailable"  # storage, queue, error: the storage itself is well
    QUEUE_RECOVERED = "queue.recovered"  # storage, queue, seconds

    DEVICE_OPENED = "device.opened"
    DEVICE_CLOSED = "device.closed"
    DEVICE_RESTED = "device.rested"  # error: its handler cannot be opened; its jobs stay queued
    DEVICE_ANNOUNCED = "device.announced"  # storage
    WINDOW_OPENED = "window.opened"  # kind, note
    WINDOW_CLOSED = "window.closed"  # kind, note
    DEVICE_CALIBRATED = "device.calibrated"  # seconds
    CALIBRATION_FAILED = "calibration.failed"  # seconds, reason

    PUSH_LOST = "push.lost"  # storage, reason where it is known
    ANNOUNCEMENT_FAILED = "announcement.failed"  # storage, error
    STORAGE_CALLS = "storage.calls"  # storage, calls: at the end, how often each verb was asked

    DAEMON_STARTED = "daemon.started"  # version, devices, storages
    DAEMON_RELOADED = "daemon.reloaded"  # reason: what changed
    DAEMON_RESTART_NEEDED = "daemon.restart_needed"  # reason: what was not taken over
    DAEMON_RELOAD_REFUSED = "daemon.reload_refused"  # error
    DAEMON_STOPPING = "daemon.stopping"  # reason
    DAEMON_STOPPED = "daemon.stopped"  # code, waiting: reports in the outbox, queued: jobs left

    LOG = "log"  # message, logger: a line that was logged in words


@dataclass(frozen=True, slots=True)
class Observation:
    """One event: its name, when (UTC), and its fields."""

    name: EventName
    at: datetime
    fields: Mapping[str, Any] = field(default_factory=dict)


Subscriber = Callable[[Observation], None]


class Observer:
    """Tells every subscriber, in the thread of the one who emits; nothing ever comes back.

    Safe to use from any thread.
    """

    def __init__(self, *subscribers: Subscriber, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._subscribers = subscribers
        self._lock = threading.Lock()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Have `subscriber` told from now on; the returned function ends that."""
        with self._lock:
            self._subscribers = (*self._subscribers, subscriber)

        def end() -> None:
            with self._lock:
                self._subscribers = tuple(
                    other for other in self._subscribers if other is not subscriber
                )

        return end

    def emit(self, event: EventName, /, **fields: Any) -> None:
        """Tell that `event` has happened; fields that are None are left out."""
        known = {key: value for key, value in fields.items() if value is not None}
        observation = Observation(event, self._clock.now(), MappingProxyType(known))
        for subscriber in self._subscribers:
            try:
                subscriber(observation)
            except Exception:  # an onlooker's fault must not stop the work
                logger.exception("a subscriber failed on the event %s; the work goes on", event)
