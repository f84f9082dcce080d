"""`spooler cancel`: withdraw a job."""

from __future__ import annotations

from spooler.cli import options, output, session


def cancel(
    job: options.Job, *, config: options.Config = None, device: options.Device = None
) -> None:
    """Withdraw a job; if it runs already, ask its run to stop."""
    with session.submitter(config) as storage:
        where, _ = session.locate(storage, job, device)
        withdrawn = storage.cancel(where, job)
        output.say(f"{job} is withdrawn" if withdrawn else f"{job} already running; stop requested")
        session.warn_of_absence(storage, where, ": the next one confirms this")
