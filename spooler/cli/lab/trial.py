"""`spooler try`: one payload through a handler."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spooler.cli import exits, options, output, session
from spooler.cli.jobs.result import lines
from spooler.cli.jobs.submit import read_payload

if TYPE_CHECKING:
    from spooler.app.trial import Tried


def trial(
    what: Annotated[
        str,
        typer.Argument(metavar="DEVICE|MODULE:NAME", help="A device, or a handler by itself."),
    ],
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="The payload, JSON, or the JSON itself; - is stdin."),
    ] = "-",
    *,
    config: options.Config = None,
    times: Annotated[
        int, typer.Option("--times", "-n", metavar="N", min=1, help="Run it N times.")
    ] = 1,
    as_json: options.AsJson = False,
) -> None:
    """Run one payload through a handler, without a queue.

    As the daemon would run it. Shows progress, what the handler prints, the result and its
    files; what the daemon would refuse (too large, NaN, types that JSON has not) fails here too.
    Nothing is kept or signed.
    """
    from spooler.app.trial import Hearing, Subject, try_out
    from spooler.devices.output import Told

    payload = read_payload(file)
    if ":" in what:
        subject = Subject.of_handler(what)
    else:
        subject = Subject.of_settings(what, session.settings(config))
    hearing = Hearing(lambda text: _beside(f"... {text}"), Told(lambda text: _beside(f"| {text}")))
    runs = []
    for number, each in enumerate(try_out(subject, payload, times, hearing), start=1):
        _ended(number, each)
        if each.outcome.result is not None and not as_json:
            for line in lines(each.outcome.result):
                output.say(line)
        runs.append(each)
    if as_json:
        output.as_json({"tried": what, "runs": [_said(each) for each in runs]})
    if any(each.outcome.state != "done" for each in runs):
        raise typer.Exit(exits.Exit.NO)


def _beside(text: str) -> None:
    """On stderr: the answer stands on stdout."""
    output.note(output.plain(text))


def _ended(number: int, tried: Tried) -> None:
    outcome = tried.outcome
    reason = f": {outcome.reason}" if outcome.reason else ""
    _beside(f"run {number}: {outcome.state} in {tried.seconds:.3f} s{reason}")


def _said(tried: Tried) -> dict[str, Any]:
    outcome, result = tried.outcome, tried.outcome.result
    return {
        "state": outcome.state,
        "reason": outcome.reason,
        "seconds": round(tried.seconds, 6),
        "data": None if result is None else result.data,
        "artifacts": [] if result is None else [asdict(each) for each in result.artifacts],
    }
