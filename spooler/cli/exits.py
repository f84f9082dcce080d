"""Exit codes: what each means, and which error gives which. sysexits(3) where it has one."""

from __future__ import annotations

from enum import IntEnum

from spooler import errors
from spooler.cli import output


class Exit(IntEnum):
    """The exit codes of every command."""

    OK = 0
    NO = 1
    USAGE = 2
    DATA = 65
    NO_SUCH = 67
    STORAGE = 69
    INTERNAL = 70
    NOT_WRITTEN = 73
    NOT_YET = 75
    NOT_PERMITTED = 77
    CONFIG = 78
    INTERRUPTED = 130


MEANING = {
    Exit.OK: "success",
    Exit.NO: "negative result: job failed, signature invalid, or check failed",
    Exit.USAGE: "usage error",
    Exit.DATA: "invalid payload",
    Exit.NO_SUCH: "no such job or device",
    Exit.STORAGE: "storage unavailable; try again later",
    Exit.INTERNAL: "internal error; please report it",
    Exit.NOT_WRITTEN: "output file exists or is not writable",
    Exit.NOT_YET: "temporary: timed out, job still running, or reports undelivered; try again",
    Exit.NOT_PERMITTED: "permission denied",
    Exit.CONFIG: "invalid settings, key or handler",
    Exit.INTERRUPTED: "interrupted from the keyboard",
}

_BY_ERROR: tuple[tuple[type[errors.SpoolerError], Exit], ...] = (
    (errors.KeyNotWritten, Exit.NOT_WRITTEN),
    (output.OutputLost, Exit.NOT_WRITTEN),
    (errors.ConfigError, Exit.CONFIG),
    (errors.StateInUse, Exit.NOT_YET),
    (errors.NotPermitted, Exit.NOT_PERMITTED),
    (errors.BackendUnavailable, Exit.STORAGE),
    (errors.PayloadInvalid, Exit.DATA),
    (errors.UnknownJob, Exit.NO_SUCH),
    (errors.UnknownDevice, Exit.NO_SUCH),
    (errors.AmbiguousJob, Exit.USAGE),
    (errors.NotCancellable, Exit.NO),
    (errors.NotEnded, Exit.NOT_YET),
    (errors.LeaseLost, Exit.NO),
    (errors.ReportRefused, Exit.NO),
    (errors.SignatureRefused, Exit.NO),
    (errors.RunStopped, Exit.NO),
    (errors.DeviceUnusable, Exit.CONFIG),
    (errors.Bug, Exit.INTERNAL),
)


def of(error: errors.SpoolerError) -> Exit:
    """Return the exit code for `error`."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), Exit.INTERNAL)


def table() -> str:
    """Return the codes and their meanings, one a line, for `spooler --help`."""
    return "\n".join(f"{code:>5}  {meaning}" for code, meaning in MEANING.items())
