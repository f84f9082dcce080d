"""From the options of a command to settings and a storage: the only reader of the environment."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from spooler.cli import output
from spooler.errors import AmbiguousJob, BackendUnavailable, SpoolerError, UnknownJob
from spooler.model.status import Status
from spooler.protocols import Submitter

if TYPE_CHECKING:
    from spooler.settings import Settings

#: Seconds after which a device that was not seen counts as away, as for sqooler's users.
AWAY_AFTER = 300.0
#: Seconds between two looks at a job: quick at first, then easy on the storage.
_FIRST_LOOK, _LAST_LOOK = 0.05, 1.0
#: Seconds after which it is said that a storage has not answered yet.
SILENT = 2.0
#: Seconds that a storage may be away while somebody waits for a job.
_PATIENCE = 60.0


def settings(config: Path | None, environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings that this command goes by."""
    from spooler.settings import load

    return load(config, os.environ if environ is None else environ)


@contextmanager
def submitter(config: Path | None, environ: Mapping[str, str] | None = None) -> Iterator[Submitter]:
    """The storage as a submitter sees it; closed at the end."""
    from spooler.app import open_submitter

    chosen = settings(config, environ)
    storage = open_submitter(chosen, output.note)
    kinds = " and ".join(sorted({each.type for each in chosen.feeds().values()}))
    try:
        yield cast("Submitter", _Awaited(storage, kinds))
    finally:
        storage.close()


class _Awaited:
    """A storage that is said to be waited for where it does not answer soon."""

    def __init__(self, storage: Submitter, kinds: str) -> None:
        self._storage = storage
        self._words = f"the storage ({kinds}) has not answered for {SILENT:g} s; waiting"

    def __getattr__(self, verb: str) -> Callable[..., object]:
        real = getattr(self._storage, verb)

        def call(*args: object, **options: object) -> object:
            timer = threading.Timer(SILENT, output.note, (self._words,))
            timer.daemon = True
            timer.start()
            try:
                return real(*args, **options)
            finally:
                timer.cancel()

        return call


def outside_environment() -> dict[str, str]:
    """The environment without anything that could turn a demo towards the lab's own storage."""
    ours = ("SPOOLER_", "PRIVATE_JWK_STR", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_")
    return {name: text for name, text in os.environ.items() if not name.startswith(ours)}


def locate(storage: Submitter, job: str, device: str | None) -> tuple[str, Status]:
    """Return the device of `job` and its status; asks every announced device when none is named.

    Raises AmbiguousJob where several know the id: anybody may announce a device and put a job of
    somebody else's id into its queue.
    """
    if device is not None:
        return device, storage.status(device, job)
    names = [card.name for card in storage.devices()]
    found: list[tuple[str, Status]] = []
    for name in names:
        with suppress(UnknownJob):
            found.append((name, storage.status(name, job)))
    if len(found) > 1:
        several = ", ".join(name for name, _ in found)
        raise AmbiguousJob(
            f"job {job} exists on several devices ({several}); choose one with --device"
        )
    if found:
        return found[0]
    if not names:
        raise UnknownJob(f"job {job} not found: no devices are announced")
    raise UnknownJob(
        f"job {job} not found on the devices {', '.join(names)}; check the id, or name the device "
        "with --device"
    )


def warn_of_absence(storage: Submitter, device: str, then: str) -> None:
    """Say that no daemon is serving a device, and what comes of it; nothing where one is."""
    with suppress(SpoolerError):  # what the command was asked for is done, or comes all the same
        if since := _away(storage, device):
            output.note(f"no daemon is serving {device} now ({since}){then}")


def _away(storage: Submitter, device: str) -> str:
    """Return since when no daemon serves a device, in a few words; "" where one does."""
    name = device.rpartition(":")[2]
    cards = [card for card in storage.devices() if card.name in {device, name}]
    seen = [card.last_seen for card in cards if card.last_seen is not None]
    if not seen:
        return "never seen" if cards else ""
    last, now = max(seen), datetime.now(UTC)
    return f"last seen {output.age(last, now)}" if (now - last).total_seconds() > AWAY_AFTER else ""


def seconds(text: str | None, *, goes_with: str, given: bool) -> float | None:
    """Return what --timeout says; without the option that it limits it would say nothing."""
    if text is None:
        return None
    import typer

    if not given:
        raise typer.BadParameter(f"it goes with {goes_with}", param_hint="'--timeout'")
    return parsed(text, "--timeout")


def parsed(text: str, option: str) -> float:
    """Return the seconds that an option says, such as "30s"; a usage error where it says none."""
    import typer

    from spooler.settings.units import duration

    try:
        return duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"'{option}'") from None


def follow(
    storage: Submitter,
    device: str,
    job: str,
    *,
    timeout: float | None,
    tell: Callable[[Status], None],
) -> Status | None:
    """Wait until `job` ends and return its last status; None when the time is up.

    A storage that is away for a while is waited for; BackendUnavailable when it stays away.
    """
    start = heard = time.monotonic()
    pause = _FIRST_LOOK
    while True:
        try:
            status = storage.status(device, job)
        except BackendUnavailable:
            if time.monotonic() - heard > _PATIENCE:
                raise
        else:
            heard = time.monotonic()
            tell(status)
            if status.state.ended:
                return status
        left = None if timeout is None else start + timeout - time.monotonic()
        if left is not None and left <= 0:
            return None
        time.sleep(pause if left is None else min(pause, left))
        pause = min(pause * 1.5, _LAST_LOOK)
