"""The parts of a daemon, made from its settings."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from spooler.clock import SystemClock
from spooler.daemon.device_rules import DeviceRules
from spooler.daemon.room import STATE_MODE
from spooler.daemon.schedule.windows import Window
from spooler.devices import HandlerSpec, open_runner
from spooler.durable import Disk, unavailable
from spooler.errors import ConfigError, StateInUse
from spooler.model.records import report_to_json
from spooler.model.result import Report, SignedReport
from spooler.protocols import Backend, Clock, ReportSigner, Runner, Signer, Submitter
from spooler.settings import DeviceSettings, Settings
from spooler.signing.keys import PrivateKey, from_sqooler_text, load_file, retired
from spooler.storage import Opening, open_backend
from spooler.storage import open_submitter as open_storage_submitter


def open_submitter(settings: Settings) -> Submitter:
    """The storage as a submitter sees it."""
    return open_storage_submitter(settings.storage, SystemClock())


def load_signer(settings: Settings) -> PrivateKey | None:
    """The key that signs; None when nothing is to be signed. Raises ConfigError."""
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


def open_storage(settings: Settings, clock: Clock, signer: Signer | None) -> Backend:
    """The storage as the daemon sees it."""
    opening = Opening(clock, settings.daemon.max_payload, signer, former_keys(settings))
    return open_backend(settings.storage, opening)


def make_handlers_importable(settings: Settings) -> None:
    """Let `handler = "module:Name"` find a module that lies beside the settings file."""
    if settings.file is not None and str(settings.file.parent) not in sys.path:
        sys.path.append(str(settings.file.parent))


def open_device(name: str, device: DeviceSettings, state: Path) -> Runner:
    """The runner of a device; nothing is started before its `open()`."""
    return open_runner(
        HandlerSpec(
            device=name,
            reference=device.handler,
            options=device.options,
            isolation=device.isolation,
            grace=device.grace,
            max_output=device.max_output,
            memory_limit=device.memory_limit,
            start_timeout=device.open_timeout,
            lock=str(state / "devices" / f"{name}.lock"),
        )
    )


def device_rules(name: str, device: DeviceSettings, settings: Settings) -> DeviceRules:
    """What the daemon goes by for a device."""
    return DeviceRules(
        name=name,
        timeout=device.timeout,
        rerun=device.rerun,
        max_attempts=device.max_attempts,
        poll_interval=settings.daemon.poll_interval,
        windows=tuple(
            Window.of(each.kind, each.cron, each.duration, each.note, each.timezone)
            for each in device.windows
        ),
        description=device.description,
        simulator=device.simulator,
    )


def report_signer(signer: Signer | None) -> ReportSigner:
    """What makes a signed report of a report; without a key it stays unsigned."""

    def sign(report: Report) -> SignedReport:
        return SignedReport(report, "" if signer is None else signer.jws(report_to_json(report)))

    return sign


def lock_state(folder: Path) -> int:
    """Take the state folder for this process; ConfigError when another daemon has it."""
    try:
        Disk().make_folder(folder, mode=STATE_MODE)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"the state folder cannot be used ({unavailable(error, folder)}); set 'state'"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise StateInUse(
            f"another spooler uses the state folder {folder}; give each daemon its own 'state'"
        ) from None
    return handle
