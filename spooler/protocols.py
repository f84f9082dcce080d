"""The seams: what can be replaced, and its contract, written once, here.

Implementations document only what differs. All are Protocols: a lab's handler imports nothing
of ours. Times are seconds (float) or aware datetimes in UTC.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from spooler.model.artifact import Artifact
from spooler.model.claim import Claim, Lease
from spooler.model.device import DeviceCard
from spooler.model.job import Job, Queue
from spooler.model.json import JsonObject
from spooler.model.result import Outcome, Report, Result, SignedReport
from spooler.model.run import RunRequest, StopReason
from spooler.model.status import Status
from spooler.model.storage import Standing, Traits, Verification, Write


class Clock(Protocol):
    """Time as a parameter: tests bring their own."""

    def now(self) -> datetime:
        """Return the wall clock, aware, UTC. It may be stepped at any moment."""

    def monotonic(self) -> float:
        """Seconds since some moment; never steps, never goes back."""


class Signer(Protocol):
    """Signs with one private key."""

    @property
    def kid(self) -> str:
        """The name of the key, as readers look it up."""

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the Ed25519 signature of `message` (RFC 8032)."""

    def jws(self, payload: bytes) -> str:
        """`payload` as a compact JWS (RFC 7515) with `alg` and `kid` in the protected header."""

    def public(self) -> dict[str, str]:
        """Return the public JWK (RFC 7517, RFC 8037), with `kid`, without any private part."""


# --- where jobs live -------------------------------------------------------------------------


class Subscription(Protocol):
    """A live request for wake-ups."""

    def close(self) -> None:
        """Stop calling back; harmless to repeat."""


#: What is known of who holds a claim: see Standing.
Judge: TypeAlias = Callable[[Claim], Standing]


class Catalogue(Protocol):
    """Where a storage shows its users which devices there are."""

    def announce(self, queue: Queue, card: DeviceCard, at: datetime) -> None:
        """Publish the device's configuration, public key and last-seen time (`at`; maybe NEVER).

        Raises KeyRefused when the queue's device is already announced under another key.
        """

    def check_key_owner(self, queue: Queue) -> None:
        """Raise KeyRefused when the device stands announced under another key; write nothing."""

    def inspect(self, queue: Queue) -> str:
        """Return a remark for the lab on what is odd about a queue; "" where nothing is.

        Raises BackendUnavailable where this user may not do what the queue needs, as far as that
        shows without a try. Writes nothing.
        """


class Backend(Protocol):
    """A storage as the daemon sees it.

    Every verb may raise BackendUnavailable, and none outlives its timeout. Verbs may be called
    from several threads at once. A crash between any two steps of a verb leaves a state that
    `reclaim` or a repeat of the verb repairs.
    """

    @property
    def address(self) -> str:
        """Return which storage this is, without secrets; equal for all daemons that use it."""

    @property
    def traits(self) -> Traits:
        """Return what this storage promises."""

    @property
    def catalogue(self) -> Catalogue | None:
        """Return where devices are announced; None where the storage has no such place."""

    def claim(self, queue: Queue, lease: Lease) -> Claim | None:
        """Atomically take the oldest eligible job; None when there is none. Never blocks.

        The token of `lease` is new for each job wanted. Where the storage keeps who holds what,
        a repeat with the same token finds the claim that the first call made.
        """

    def start(self, claim: Claim, seconds: float) -> Claim:
        """Note that the instrument is about to be touched: the last moment to lose the lease.

        What the claim rests on is durable when this returns. Where the storage has a deadline
        that `renew` cannot move, it covers `seconds` from now. Raises LeaseLost.
        """

    def renew(self, claim: Claim) -> Claim:
        """Extend the lease where the storage can; the returned claim replaces the old one.

        Says whether the job is still ours (else LeaseLost) and whether its submitter has
        withdrawn it. May overlap an `ack` of the same claim.
        """

    def show(self, claim: Claim, text: str) -> None:
        """Show the submitter how far the run is, where there is a place for it.

        Best effort: it may be lost, and can never replace a final status, however late it comes.
        """

    def ack(self, claim: Claim, signed: SignedReport) -> None:
        """Write result and status, put the job to its final place, give up the lease.

        Fenced by attempt and token, harmless to repeat, and takes any older handle of the token.
        Raises LeaseLost when another attempt has taken over (JobGone when its owner has deleted
        the job): then nothing was written. Raises ReportRefused when the storage will never take
        this report, and BackendUnavailable of scope JOB when this report has to wait alone.
        """

    def release(self, claim: Claim, reason: str, *, refund: bool, delay: float = 0.0) -> None:
        """Give the job back to its queue, eligible again after `delay` seconds.

        With `refund` the attempt does not count; without, it is kept in the job's history with
        `reason`. Raises LeaseLost when the job is no longer ours to give.
        """

    def reclaim(self, queue: Queue, lease: Lease, judge: Judge) -> Claim | None:
        """Take over one claim, written under the fence: the same attempt, the token of `lease`.

        `judge` is asked about each open claim: SPARED ones are left alone, LEASED ones are taken
        over when their lease has run out, DEAD ones now. What becomes of the job is the caller's
        decision. Calling this regularly is what makes leases run out: a storage without a
        trustworthy clock measures from the first look at an unchanged lease. Where an answer can
        be lost, a repeat with the same token finds what the first call took. Steps that a crash
        left half done by `ack` are completed on the way.
        """

    def depth(self, queue: Queue) -> int:
        """Return how many jobs wait. May be a moment old."""

    def peek(self, queue: Queue) -> Iterator[Job]:
        """The eligible jobs in the order of claims, changing nothing."""

    def preview(self, claim: Claim, signed: SignedReport) -> tuple[Write, ...]:
        """Return the documents that `ack` would write, writing nothing."""

    def subscribe(self, queue: Queue, wake: Callable[[], None]) -> Subscription | None:
        """Call `wake` when a job may have come, from some thread; None where nothing can tell.

        Raises PushUnavailable where this machine cannot do it; the worker polls then.
        """

    def ping(self) -> None:
        """Return when the storage answers."""

    def close(self) -> None:
        """Let go of connections and watches; harmless to repeat."""


class Submitter(Protocol):
    """A storage as the submitter sees it. Every verb may raise BackendUnavailable."""

    def submit(self, device: str, payload: JsonObject) -> str:
        """Queue a job and return its id. Raises UnknownDevice."""

    def status(self, device: str, job_id: str) -> Status:
        """Raises UnknownJob."""

    def result(self, device: str, job_id: str) -> Result:
        """Return the result of a job that is done. Raises UnknownJob when there is none (yet)."""

    def verify(self, device: str, job_id: str) -> Verification:
        """Check the signature of the result. Raises UnknownJob when there is no result."""

    def cancel(self, device: str, job_id: str) -> bool:
        """Withdraw a job: True when it was still queued, False when its run is asked to stop.

        Raises UnknownJob or NotCancellable.
        """

    def request(self, device: str, job_id: str) -> JsonObject:
        """The payload that a job was submitted with. Raises UnknownJob, also when it is lost."""

    def devices(self, *, count: bool = False) -> list[DeviceCard]:
        """Return every announced device.

        `pending` is what was announced; with `count` what waits now, where that can be counted.
        """

    def close(self) -> None:
        """Let go of connections; harmless to repeat."""


# --- what runs jobs --------------------------------------------------------------------------


class JobContext(Protocol):
    """What a handler may use while it runs."""

    job_id: str
    attempt: int
    #: Set when the run should end early; a cooperative handler looks at it between steps.
    stop: threading.Event
    #: A folder of this job alone; removed after the job.
    scratch: Path
    logger: logging.Logger

    def remaining(self) -> float:
        """Seconds until the run is stopped."""

    def progress(self, text: str) -> None:
        """Tell the submitter, in a few words, how far the run is."""

    def publish(self, path: Path) -> Artifact:
        """Note a file of the scratch folder as an artifact of the result.

        Its size and hash in the result are those that it has when the run is over.
        """


class DeviceHandler(Protocol):
    """The code that drives one instrument.

    Made once, in the process that runs it; never called twice at once.

    `params` is the pydantic model (or any type pydantic can validate) that a payload must
    satisfy. Optional methods, looked up by name: `card() -> Mapping` describes the device,
    `dry_run(params, context)` checks a job without touching hardware, `calibrate(context)` runs
    in the device's calibration windows.
    """

    params: Any

    def open(self) -> None:
        """Connect to the instrument. An exception rests the device, its jobs stay queued.

        A ValueError says why in its text; any other exception leaves a traceback in the log.
        """

    def run(self, params: Any, context: JobContext) -> Any:
        """Run one job; return a Result or a mapping of JSON values (its data).

        A ValueError fails the job with its text as the reason; any other exception too, and its
        traceback goes to the log.
        """

    def close(self) -> None:
        """Leave the instrument safe."""


class RunControl(Protocol):
    """The daemon's side of a run."""

    @property
    def stop_reason(self) -> StopReason | None:
        """Not None as soon as the run should end."""

    def progress(self, text: str) -> None:
        """The handler's progress, as it comes."""


class Runner(Protocol):
    """Runs a handler somewhere it can be stopped. One per device, used by one thread."""

    def open(self, control: RunControl | None = None) -> DeviceCard:
        """Start the handler and ask for its card.

        Raises DeviceUnusable or ConfigError, and RunStopped when `control` has ended it.
        """

    @property
    def ready(self) -> bool:
        """Return whether the handler is open: what is run now would not have to wait for it."""

    def load(self) -> None:
        """Import and construct the handler, and open nothing. Raises ConfigError."""

    @property
    def calibrates(self) -> bool:
        """Return whether the handler, once loaded, has a `calibrate`."""

    def run(self, request: RunRequest, control: RunControl) -> Outcome:
        """Run one job to its end.

        Returns whatever the handler does, `sys.exit` and a crash included: an outcome that says
        `died` where the process is gone that the handler lived in. Raises RunStopped
        when it was ended from outside, PayloadInvalid when the payload does not fit `params`,
        DeviceUnusable when the handler cannot be brought up again.
        """

    def dry_run(self, request: RunRequest, control: RunControl) -> Outcome:
        """The same without hardware: the handler's `dry_run`, or validation only."""

    def calibrate(self, timeout: float, control: RunControl) -> Outcome:
        """Return the handler's `calibrate`. DONE, or ERROR with the reason."""

    def drain_output(self) -> None:
        """Take what the handler printed between runs; called now and then while it is idle."""

    def close(self) -> None:
        """Close the handler, by force where it does not end; harmless to repeat."""


class ReportSigner(Protocol):
    """Makes a signed report of a report."""

    def __call__(self, report: Report) -> SignedReport:
        """Raises nothing but bugs: every report that a run can yield can be signed."""
