"""`spooler verify`: whether a result is signed by the announced key."""

from __future__ import annotations

import typer

from spooler.cli import exits, options, output, session
from spooler.cli.jobs.result import must_be_done
from spooler.errors import UnknownJob


def verify(
    job: options.Job,
    *,
    config: options.Config = None,
    device: options.Device = None,
    as_json: options.AsJson = False,
) -> None:
    """Check the signature of a job's result.

    It is compared with the public key that the device has announced.
    """
    with session.submitter(config) as storage:
        where, status = session.locate(storage, job, device)
        try:
            found = storage.verify(where, job)
        except UnknownJob:
            must_be_done(job, status)
            raise
    if as_json:
        output.as_json(
            {"job": job, "device": where, "ok": found.ok, "detail": found.detail, "kid": found.kid}
        )
    else:
        output.say(output.plain(f"{'verified' if found.ok else 'NOT verified'}: {found.detail}"))
    if not found.ok:
        raise typer.Exit(exits.Exit.NO)
