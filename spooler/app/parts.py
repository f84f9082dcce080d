"""The parts of a daemon, made from its settings."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from spooler.clock import SystemClock
from spooler.daemon.claims.records import Opened
from spooler.daemon.device_rules import DeviceRules
from spooler.daemon.schedule.windows import Window
from spooler.devices import HandlerSpec, open_runner
from spooler.errors import ConfigError, SignatureRefused
from spooler.model.claim import Owner
from spooler.model.job import Queue, key_of
from spooler.model.records import report_to_json
from spooler.model.result import Report, SignedReport
from spooler.protocols import Backend, Clock, ReportSigner, Runner, Signer, Submitter
from spooler.settings import DeviceSettings, Settings
from spooler.signing.jws import KeySet, payload
from spooler.signing.keys import PrivateKey, from_sqooler_text, load_file, retired
from spooler.storage import Opening, carries, open_backend
from spooler.storage import open_submitter as open_storage_submitter
from spooler.storage.settings import StorageSettings

if TYPE_CHECKING:
    from spooler.devices.output import Listener


def open_submitter(settings: Settings, tell: Callable[[str], None] = lambda _: None) -> Submitter:
    """Return the storages as a submitter sees them; `tell` hears of those that are away."""
    from spooler.app.submitting import ManyStorages  # noqa: PLC0415 - most have one

    opened = {
        name: open_storage_submitter(each, SystemClock()) for name, each in settings.feeds().items()
    }
    return next(iter(opened.values())) if len(opened) == 1 else ManyStorages(opened, tell)


# --- keys -----------------------------------------------------------------------------------


def load_signer(settings: Settings) -> PrivateKey | None:
    """Return the key that signs; None when nothing is to be signed. Raises ConfigError."""
    source = settings.signing.source()
    if source is None:
        return None
    if isinstance(source, Path):
        return load_file(source)
    return from_sqooler_text(source.get_secret_value())


def former_keys(settings: Settings) -> list[dict[str, str]]:
    """Public keys that were ours before a rotation."""
    source = settings.signing.source()
    return [key.public() for key in retired(source)] if isinstance(source, Path) else []


def report_signer(signer: Signer | None) -> ReportSigner:
    """Return what makes a signed report of a report; without a key it stays unsigned."""

    def sign(report: Report) -> SignedReport:
        return SignedReport(report, "" if signer is None else signer.jws(report_to_json(report)))

    return sign


def report_opener(settings: Settings, signer: Signer | None) -> Opened:
    """What reads a report that lies on a disk: with a key it must be signed, and by one of ours.

    Without a key nothing can be told apart, and what is there is taken.
    """
    if signer is None:
        return lambda jws, plain: payload(jws) if jws else plain.encode()
    keys = KeySet([signer.public(), *former_keys(settings)])

    def opened(jws: str, _plain: str) -> bytes:
        try:
            return keys.verify_jws(jws)
        except SignatureRefused as error:
            raise ValueError(f"the report is not signed by a key of this daemon: {error}") from None

    return opened


# --- storages -------------------------------------------------------------------------------


def open_storage(
    settings: Settings, storage: StorageSettings, clock: Clock, signer: Signer | None
) -> Backend:
    """One storage as the daemon sees it."""
    former = [] if signer is None else former_keys(settings)
    opening = Opening(clock, settings.daemon.max_payload, signer, former)
    return open_backend(storage, opening)


def queues(settings: Settings, storage: str) -> dict[str, Queue]:
    """Return the queues of one storage that are served, by device. Raises ConfigError."""
    found = {}
    for device in settings.enabled_devices():
        for each in settings.queues_of(device):
            if each.storage != storage:
                continue
            name = each.name(device)
            if reason := carries(settings.feeds()[storage], name):
                raise ConfigError(
                    f"device {device}: the storage {storage!r} cannot have a queue {name!r}: "
                    f'{reason}; name another one: queues = ["{storage}:NAME"]'
                )
            found[device] = Queue(name, device)
    return found


def this_process(state: Path) -> Owner:
    """Return a new owner for this process; what it leaves behind lies below its state folder."""
    process = uuid.uuid4().hex
    host = socket.gethostname().encode("utf-8", "replace").decode()  # it is written everywhere
    return Owner(host, os.getpid(), process, f"{_real(state)}/records/{process}")


def roots(state: Path) -> tuple[Path, ...]:
    """Return where the state folders of daemons lie that may be cared for when they are dead."""
    return (Path(_real(state)).parent,)


def _real(state: Path) -> str:
    return os.path.realpath(state)


# --- devices --------------------------------------------------------------------------------


def make_handlers_importable(settings: Settings) -> None:
    """Let `handler = "module:Name"` find a module that lies beside the settings file."""
    if settings.file is not None:
        make_importable(settings.file.parent)


def make_importable(folder: Path) -> None:
    """Let the modules in a folder be found, after all others."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def source_file(handler: str) -> tuple[Path, bytes] | None:
    """Return the file of `module:Name` and the SHA-256 of its content; None where none is found.

    It is looked for and not imported: a handler's code is none of the daemon's.
    """
    module, colon, _ = handler.partition(":")
    ends = (".py", "/__init__.py") if colon else ()
    for folder in sys.path:
        for end in ends:
            file = Path(folder, module.replace(".", "/") + end)
            with suppress(OSError):
                return file, hashlib.sha256(file.read_bytes()).digest()
    return None


def open_device(
    name: str, device: DeviceSettings, state: Path, listener: Listener | None = None
) -> Runner:
    """Return the runner of a device; nothing is started before its `open()`."""
    return open_runner(
        HandlerSpec(
            device=name,
            reference=device.handler,
            options=device.options,
            isolation=device.isolation,
            grace=device.grace,
            max_output=device.max_output,
            memory_limit=device.memory_limit,
            recycle_after=device.recycle_after,
            start_timeout=device.open_timeout,
            lock=str(state / "devices" / f"{key_of(name)}.lock"),
            env=_environment(device),
        ),
        listener,
    )


def _environment(device: DeviceSettings) -> dict[str, str]:
    """Return what the settings put into the environment of a handler's process."""
    passed = {name: os.environ[name] for name in device.inherit_env if name in os.environ}
    return {**passed, **{name: text.get_secret_value() for name, text in device.env.items()}}


def device_rules(
    name: str, device: DeviceSettings, settings: Settings, *, signs: bool = True
) -> DeviceRules:
    """What the daemon goes by for a device. `signs`: it has a key, which no reload brings."""
    return DeviceRules(
        name=name,
        timeout=device.timeout,
        rerun=device.rerun,
        max_attempts=device.max_attempts,
        poll_interval=settings.daemon.poll_interval,
        rests_uncalibrated=device.on_failed_calibration == "rest",
        windows=tuple(
            Window.of(each.kind, each.cron, each.duration, each.note, each.timezone)
            for each in device.windows
        ),
        description=device.description,
        simulator=device.simulator,
        signs=signs,
    )
