"""The latest state as one frozen value: the only thing that pages, health and commands read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeAlias

from spooler.observe.events import EventName, Observation


class Activity(StrEnum):
    """What a device is doing."""

    IDLE = "idle"
    RUNNING = "running"
    WINDOW = "window"
    UNUSABLE = "unusable"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One device: what it does and since when (UTC), its job, and counts since the start."""

    name: str
    activity: Activity = Activity.CLOSED
    since: datetime | None = None
    job: str = ""
    attempt: int = 0
    progress: str = ""
    note: str = ""
    done: int = 0
    failed: int = 0
    cancelled: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that an outsider may see at one moment."""

    started_at: datetime | None = None
    stopping: bool = False
    devices: Mapping[str, DeviceView] = field(default_factory=dict)
    #: What is away, and since when: storages, and queues as "storage:queue".
    away: Mapping[str, datetime] = field(default_factory=dict)
    #: This machine's own disk takes no reports, so no job is begun.
    disk_full: bool = False
    #: Signed reports on disk that the storage does not have yet.
    waiting: int = 0
    last_error: str = ""
    last_error_at: datetime | None = None

    @property
    def healthy(self) -> bool:
        """Whether nobody has to come: storage and own disk are well, every device can work."""
        return (
            not self.away
            and not self.disk_full
            and all(device.activity is not Activity.UNUSABLE for device in self.devices.values())
        )

    def line(self) -> str:
        """Return the state in one short line, as `systemctl status` shows it."""
        devices = self.devices.values()
        running = sum(device.activity is Activity.RUNNING for device in devices)
        unusable = [one.name for one in devices if one.activity is Activity.UNUSABLE]
        done = sum(device.done for device in devices)
        failed = sum(device.failed for device in devices)
        words = [
            "stopping" if self.stopping else f"{running} of {len(devices)} devices running",
            f"{done} done",
            f"{failed} failed",
        ]
        words += [f"{self.waiting} reports waiting"] if self.waiting else []
        words += [f"resting: {' '.join(unusable)}"] if unusable else []
        words += [f"unavailable: {' '.join(sorted(self.away))}"] if self.away else []
        words += ["own disk full"] if self.disk_full else []
        return ", ".join(words)


class Board:
    """The subscriber that keeps the latest state.

    Events come four to a job and a snapshot is asked for now and then, so events only note what
    has changed, and the frozen values are made by `snapshot`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._daemon: dict[str, Any] = {}
        self._devices: dict[str, dict[str, Any]] = {}
        self._away: dict[str, datetime] = {}
        #: Undelivered reports by storage.
        self._waiting: dict[str, int] = {}

    def snapshot(self) -> Snapshot:
        """Return the latest state; a value that never changes."""
        with self._lock:
            devices = {name: DeviceView(**noted) for name, noted in self._devices.items()}
            away = MappingProxyType(dict(self._away))
            waiting = sum(self._waiting.values())
            return Snapshot(
                **self._daemon, away=away, waiting=waiting, devices=MappingProxyType(devices)
            )

    def __call__(self, seen: Observation) -> None:
        with self._lock:
            if change := _DAEMON.get(seen.name):
                self._daemon.update(change(seen))
            name = seen.fields.get("device")
            if isinstance(name, str) and (move := _DEVICE.get(seen.name)):
                noted = self._devices.setdefault(name, {"name": name})
                noted.update(move(noted, seen))
            if seen.name in _OUTAGES:
                self._outage(seen)
            # What any event may carry: how many reports wait, an error.
            if isinstance(waiting := seen.fields.get("waiting"), int):
                self._waiting[str(seen.fields.get("storage", ""))] = waiting
            if error := seen.fields.get("error"):
                self._daemon.update(last_error=str(error), last_error_at=seen.at)

    def _outage(self, seen: Observation) -> None:
        names = (seen.fields.get("storage"), seen.fields.get("queue"))
        what = ":".join(str(each) for each in names if each)
        if _OUTAGES[seen.name]:
            self._away.setdefault(what, seen.at)
        else:
            self._away.pop(what, None)


#: Whether something has gone away, or has come back.
_OUTAGES = {
    EventName.STORAGE_UNAVAILABLE: True,
    EventName.STORAGE_RECOVERED: False,
    EventName.QUEUE_UNAVAILABLE: True,
    EventName.QUEUE_RECOVERED: False,
}
_DAEMON: Mapping[EventName, Callable[[Observation], dict[str, Any]]] = {
    EventName.DAEMON_STARTED: lambda seen: {"started_at": seen.at, "stopping": False},
    EventName.DAEMON_STOPPING: lambda _: {"stopping": True},
    EventName.DISK_FULL: lambda _: {"disk_full": True},
    EventName.DISK_RECOVERED: lambda _: {"disk_full": False},
}


_BLANK = {"job": "", "attempt": 0, "progress": "", "note": ""}
#: What has been noted of a device: fields of DeviceView.
_Noted: TypeAlias = dict[str, Any]


def _now(activity: Activity, seen: Observation, **more: Any) -> dict[str, Any]:
    return {**_BLANK, "activity": activity, "since": seen.at, **more}


def _began(_: _Noted, seen: Observation) -> dict[str, Any]:
    job, attempt = str(seen.fields.get("job", "")), seen.fields.get("attempt", 0)
    return _now(Activity.RUNNING, seen, job=job, attempt=attempt)


def _ended(count: str = "") -> Callable[[_Noted, Observation], dict[str, Any]]:
    """The end of a job, counted under `count`; only the job that is shown makes room."""

    def move(device: _Noted, seen: Observation) -> dict[str, Any]:
        counted = {count: device.get(count, 0) + 1} if count else {}
        if device.get("job", "") != seen.fields.get("job", ""):
            return counted
        return {**_now(Activity.IDLE, seen), **counted}

    return move


def _window(_: _Noted, seen: Observation) -> dict[str, Any]:
    note = str(seen.fields.get("note", "") or seen.fields.get("kind", ""))
    return _now(Activity.WINDOW, seen, note=note)


_DEVICE: Mapping[EventName, Callable[[_Noted, Observation], dict[str, Any]]] = {
    EventName.JOB_CLAIMED: _began,
    EventName.JOB_STARTED: _began,
    EventName.JOB_PROGRESS: lambda _, seen: {"progress": str(seen.fields.get("text", ""))},
    EventName.JOB_FINISHED: _ended("done"),
    EventName.JOB_FAILED: _ended("failed"),
    EventName.JOB_CANCELLED: _ended("cancelled"),
    EventName.JOB_RELEASED: _ended(),
    EventName.JOB_REQUEUED: _ended(),
    EventName.JOB_LOST: _ended(),
    EventName.DEVICE_OPENED: lambda _, seen: _now(Activity.IDLE, seen),
    EventName.DEVICE_CLOSED: lambda _, seen: _now(Activity.CLOSED, seen),
    EventName.DEVICE_RESTED: lambda _, seen: _now(
        Activity.UNUSABLE, seen, note=str(seen.fields.get("error", ""))
    ),
    EventName.WINDOW_OPENED: _window,
    EventName.WINDOW_CLOSED: lambda _, seen: _now(Activity.IDLE, seen),
}
