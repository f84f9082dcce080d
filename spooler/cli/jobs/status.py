"""`spooler status`: where a job stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from spooler.cli import exits, options, output, session
from spooler.cli.jobs import submit

if TYPE_CHECKING:
    from spooler.model.status import Status


def status(
    job: options.Job,
    *,
    config: options.Config = None,
    device: options.Device = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Show it until the job ends.", show_default=False),
    ] = False,
    timeout: options.Timeout = None,
    as_json: options.AsJson = False,
) -> None:
    """Show where a job stands and why.

    With --watch the exit code says how the job ended.
    """
    limit = session.seconds(timeout, goes_with="--watch", given=watch)
    with session.submitter(config) as storage:
        where, found = session.locate(storage, job, device)
        if not found.state.ended:
            session.warn_of_absence(storage, where, "; the job waits until one does")
        if watch and not found.state.ended:
            found = submit.wait_for(storage, where, job, limit)
    show(where, job, found, as_json=as_json)
    if watch and found.state != "done":
        raise typer.Exit(exits.Exit.NO)


def show(device: str, job: str, found: Status, *, as_json: bool) -> None:
    """Print one status."""
    if as_json:
        output.as_json(
            {
                "job": job,
                "device": device,
                "state": found.state.value,
                "reason": found.reason,
                "started_at": found.started_at.isoformat() if found.started_at else None,
                "finished_at": found.finished_at.isoformat() if found.finished_at else None,
            }
        )
        return
    lines = [("job", job), ("device", device), ("state", found.state.value)]
    lines += [("reason", found.reason)] if found.reason else []
    for name, moment in (("started", found.started_at), ("finished", found.finished_at)):
        if moment is not None:
            lines.append((name, moment.isoformat(sep=" ", timespec="seconds")))
    for name, text in lines:
        output.say(f"{name:<9}{output.plain(text)}")
