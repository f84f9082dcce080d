"""`spooler outbox`: reports on this machine's disk that the storage does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from spooler.cli import exits, options, output, session

if TYPE_CHECKING:
    from spooler.app.outbox import OutboxItem

app = typer.Typer(
    help="Show reports that are not delivered yet, or cannot be.",
    no_args_is_help=True,
)

_Names: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="[JOB]...", help="Ids of jobs, or file names. Default: all."),
]


@app.command("list")
def list_(*, config: options.Config = None, as_json: options.AsJson = False) -> None:
    """List undelivered and parked reports (read-only, safe while the daemon runs)."""
    from spooler.app.outbox import outbox_items

    items = outbox_items(session.settings(config))
    if as_json:
        output.as_json([_document(item) for item in items])
    elif items:
        head = ("job", "device", "attempt", "state", "kept at (UTC)", "", "reason")
        output.rows(head, [_line(item) for item in items])
    else:
        output.note("no undelivered reports")


@app.command("show")
def show(
    job: Annotated[str, typer.Argument(metavar="JOB", help="The job's id, or a file name.")],
    *,
    config: options.Config = None,
) -> None:
    """Print the reports on a job as JSON, with data; changes nothing."""
    from spooler.app.outbox import outbox_items_of

    output.as_json([_whole(item) for item in outbox_items_of(session.settings(config), [job])])


@app.command("retry")
def retry(jobs: _Names = None, *, config: options.Config = None) -> None:
    """Deliver reports again, parked ones too. Stop the daemon first.

    A report whose job somebody else has ended is parked again: it overwrites nothing.
    """
    from spooler.app.outbox import retry_outbox

    tried = retry_outbox(session.settings(config), jobs or ())
    if not tried:
        output.note("nothing to deliver")
    for each in tried:
        output.say(f"{output.plain(each.name)}: {output.plain(each.detail)}")
    if any(not each.delivered for each in tried):
        raise typer.Exit(exits.Exit.NO)


def _document(item: OutboxItem) -> dict[str, object]:
    found: dict[str, object] = {
        "name": item.name,
        "parked": item.parked,
        "kept_at": item.at.isoformat(),
        "reason": item.reason,
    }
    if item.signed is not None:
        report = item.signed.report
        found |= {
            "job": report.job_id,
            "device": report.device,
            "attempt": report.attempt,
            "state": str(report.status.state),
        }
    return found


def _whole(item: OutboxItem) -> dict[str, object]:
    from spooler.model.records import report_to_json

    found = _document(item)
    if item.signed is not None:
        import json

        found["report"] = json.loads(report_to_json(item.signed.report))
        found["jws"] = item.signed.jws
    return found


def _line(item: OutboxItem) -> tuple[str, ...]:
    word = "parked" if item.parked else "waiting"
    at = item.at.strftime("%Y-%m-%d %H:%M:%S")
    if item.signed is None:
        return item.name, "?", "?", "?", at, word, item.reason
    report = item.signed.report
    state = str(report.status.state)
    return report.job_id, report.device, str(report.attempt), state, at, word, item.reason
