"""Every error of spooler, grouped by what the loop does next.

A message is one sentence that says what is wrong and, where there is one, the way out. It is
written for the person who reads it in a terminal or in a log, never for a debugger.
"""

from __future__ import annotations

from enum import StrEnum


class SpoolerError(Exception):
    """Root of the errors that spooler raises on purpose."""


# --- stop before the first claim (exit 78) ---------------------------------------------------


class ConfigError(SpoolerError):
    """The settings, a key or a handler cannot be used; nothing was claimed."""


class KeyElsewhere(ConfigError):
    """The key is a credential that only the service has, and this is not the service."""


class KeyRefused(ConfigError):
    """A key is unreadable, readable by others, of the wrong kind, or not the announced one."""


class KeyNotWritten(KeyRefused):
    """A key file already exists, or cannot be written (exit 73)."""


class StateInUse(SpoolerError):
    """Another daemon has the state folder; it may be about to end (exit 75: try again)."""


# --- back off and try again ------------------------------------------------------------------


class Scope(StrEnum):
    """How far a trouble of a storage reaches."""

    STORAGE = "storage"
    QUEUE = "queue"
    #: This job only: what was asked about it waits alone, and is no outage.
    JOB = "job"


class BackendUnavailable(SpoolerError):
    """The storage did not do what was asked and may do it later (outage, full disk, timeout).

    `scope` says how far that reaches; `retry_after` (seconds) when it is worth asking again,
    where the storage has said so.
    """

    def __init__(
        self, why: str, *, scope: Scope = Scope.STORAGE, retry_after: float | None = None
    ) -> None:
        super().__init__(why)
        self.scope = scope
        self.retry_after = retry_after


class NotPermitted(BackendUnavailable):
    """This user may not use a file or folder: somebody has to permit it (exit 77)."""


class PushUnavailable(BackendUnavailable):
    """The storage cannot tell of new jobs here; they are looked for instead."""


# --- this report will never be taken ---------------------------------------------------------


class ReportRefused(SpoolerError):
    """The storage will never take this report; it is kept here, and answered by a smaller one."""


# --- stop the handler and write nothing ------------------------------------------------------


class LeaseLost(SpoolerError):
    """Somebody else has taken the job over, or has finished it."""


class JobGone(LeaseLost):
    """The job's owner has deleted it."""


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


class AmbiguousJob(SpoolerError):
    """Several devices know a job of that id: whose is meant has to be said."""


class UnknownDevice(SpoolerError):
    """No device of that name is announced in the storage."""


class NotCancellable(SpoolerError):
    """The job has already ended."""


class NotEnded(SpoolerError):
    """The job waits or runs, and what is asked for needs its end."""


class SignatureRefused(SpoolerError):
    """A signature is malformed, or no known key has made it."""


# --- crash loudly ----------------------------------------------------------------------------


class Bug(SpoolerError):
    """Something that the design rules out has happened; the process ends and is restarted."""
