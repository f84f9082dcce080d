"""Whether a daemon with these settings would work, found out without starting it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from spooler.app import parts
from spooler.app.state_lock import demand_locks
from spooler.clock import SystemClock
from spooler.daemon.room import demand_room
from spooler.durable import demand_writable, unavailable
from spooler.errors import ConfigError, KeyElsewhere, SpoolerError
from spooler.model.storage import Fence
from spooler.settings import DeviceSettings, Settings


@dataclass(frozen=True, slots=True)
class CheckItem:
    """One thing that was looked at. `detail` is a sentence, with the way out when it is not ok."""

    name: str
    ok: bool
    detail: str


def check(settings: Settings) -> list[CheckItem]:
    """Look at state folder, key, storage and handlers; no hardware is opened, no job touched."""
    return list(_look(settings))


def _look(settings: Settings) -> Iterator[CheckItem]:
    parts.make_handlers_importable(settings)
    yield CheckItem("settings", ok=True, detail=f"read from {settings.file or 'the environment'}")
    yield _item("state", lambda: _state(settings.state))
    yield _item("key", lambda: _key(settings))
    for name in settings.feeds():
        title = "storage" if settings.storage is not None else f"storage {name}"
        yield _item(title, partial(_storage, settings, name))
    devices = settings.enabled_devices()
    if not devices:
        detail = "no device is enabled; add a table [devices.NAME] with a handler"
        yield CheckItem("devices", ok=False, detail=detail)
    for name, device in devices.items():
        yield _item(f"device {name}", partial(_device, name, device, settings.state))


def _item(name: str, look: Callable[[], str]) -> CheckItem:
    try:
        return CheckItem(name, ok=True, detail=look())
    except SpoolerError as error:
        return CheckItem(name, ok=False, detail=str(error))


def _state(folder: Path) -> str:
    nearest = demand_writable(folder)
    try:
        demand_room(nearest)
    except OSError as error:
        raise unavailable(error, folder) from error
    demand_locks(nearest, folder)
    return str(folder)


def _key(settings: Settings) -> str:
    try:
        signer = parts.load_signer(settings)
    except KeyElsewhere:
        name = settings.signing.credential
        return f"the systemd credential {name!r}, which the service has and this command has not"
    if signer is None:
        return "none: results are not signed; make one with: spooler keys generate FILE"
    return f"kid {signer.kid}"


def _storage(settings: Settings, name: str) -> str:
    try:
        signer, keyed = parts.load_signer(settings), True
    except ConfigError:
        signer, keyed = None, False  # the line on the key says so; here it is about the storage
    storage = settings.feeds()[name]
    queues = parts.queues(settings, name).values()
    backend = parts.open_storage(settings, storage, SystemClock(), signer)
    try:
        backend.ping()
        remarks = []
        if (catalogue := backend.catalogue) is not None:
            for queue in queues:
                if keyed:
                    catalogue.check_key_owner(queue)
                remarks.append(catalogue.inspect(queue))
        told = ", ".join(f"{backend.depth(each)} waiting for {each.name}" for each in queues)
        lone = backend.traits.fence is Fence.CHECKED
    finally:
        backend.close()
    if lone:
        remarks.append("it cannot fence off late writers atomically: run one daemon per queue")
    said = (f"{storage.type} answers", told or "no device asks it", *remarks)
    return "; ".join(each for each in said if each)


def _device(name: str, device: DeviceSettings, state: Path) -> str:
    runner = parts.open_device(name, device, state)
    try:
        runner.load()
        if any(window.kind == "calibration" for window in device.windows) and not runner.calibrates:
            raise SpoolerError(
                f"the handler {device.handler} has no calibrate(context); "
                "add one, or take the calibration windows out of the settings"
            )
    finally:
        runner.close()
    found = f"handler {device.handler} in a {device.isolation}"
    missing = _missing_program(device)
    return f"{found}; it cannot be used now, jobs stay queued: {missing}" if missing else found


def _missing_program(device: DeviceSettings) -> str:
    """What keeps the handler `command` from its program now; no error, for it may be mounted late.

    Looked at from here because it needs none of the lab's code, and no instrument.
    """
    if device.handler not in {"command", "spooler.devices.handlers.command:Command"}:
        return ""
    from spooler.devices.handlers.command import Command  # noqa: PLC0415 - no command but this one needs it

    try:
        Command(**device.options).open()
    except ValueError as error:
        return str(error)
    return ""
