"""`spooler resubmit`: an ended job once more."""

from __future__ import annotations

from spooler.cli import options, session
from spooler.cli.jobs.submit import queue
from spooler.errors import NotEnded


def resubmit(
    job: options.Job,
    *,
    config: options.Config = None,
    device: options.Device = None,
    wait: options.Wait = False,
    timeout: options.Timeout = None,
) -> None:
    """Queue the request of an ended job again.

    Prints the id of the new job. With --wait the exit code says how the new job ended.
    """
    limit = session.seconds(timeout, goes_with="--wait", given=wait)
    with session.submitter(config) as storage:
        where, status = session.locate(storage, job, device)
        if not status.state.ended:
            raise NotEnded(
                f"job {job} is {status.state}, and would run twice; wait for its end, or withdraw "
                f"it first: spooler cancel {job} --device {where}"
            )
        queue(storage, where, storage.request(where, job), wait=wait, limit=limit)
