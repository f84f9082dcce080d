"""Every error of spooler, grouped by what the loop does next.

A message is one sentence that says what is wrong and, where there is one, the way out. It is
written for the person who reads it in a terminal or in a log, never for a debugger.
"""

from __future__ import annotations


class SpoolerError(Exception):
    """Root of the errors that spooler raises on purpose."""


# --- stop before the first claim (exit 78) ---------------------------------------------------


class ConfigError(SpoolerError):
    """The settings, a key or a handler cannot be used; nothing was claimed."""


class KeyRefused(ConfigError):
    """A key is unreadable, readable by others, of the wrong kind, or not the announced one."""


class KeyNotWritten(KeyRefused):
    """A key file is there already, or cannot be written (exit 73)."""


class StateInUse(SpoolerError):
    """Another daemon has the state folder; it may be about to end (exit 75: try again)."""


# --- back off and try again ------------------------------------------------------------------


class BackendUnavailable(SpoolerError):
    """The storage did not do what was asked and may do it later (outage, full disk, timeout)."""


class Postponed(BackendUnavailable):
    """The storage is well; what was asked should be asked again in a moment."""


class PushUnavailable(BackendUnavailable):
    """The storage cannot tell of new jobs here; they are looked for instead."""


# --- stop the handler and write nothing ------------------------------------------------------


class LeaseLost(SpoolerError):
    """Somebody else has taken the job over, or has finished it."""


# --- fail this job ---------------------------------------------------------------------------


class PayloadInvalid(SpoolerError):
    """The payload is not what the device takes; the message is for the submitter."""


class RunStopped(SpoolerError):
    """The run was ended from outside; `reason` is one of model.run.StopReason."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the run was stopped: {reason}")
        self.reason = reason


# --- rest this device ------------------------------------------------------------------------


class DeviceUnusable(SpoolerError):
    """The handler cannot be opened, so its jobs stay queued until it can."""


# --- answers to a submitter ------------------------------------------------------------------


class UnknownJob(SpoolerError):
    """No job of that id is known to the storage."""


class UnknownDevice(SpoolerError):
    """No device of that name is announced in the storage."""


class NotCancellable(SpoolerError):
    """The job has already ended."""


class SignatureRefused(SpoolerError):
    """A signature is malformed, or no known key has made it."""


# --- crash loudly ----------------------------------------------------------------------------


class Bug(SpoolerError):
    """Something that the design rules out has happened; the process ends and is restarted."""
