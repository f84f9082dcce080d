"""`spooler audit`: the trail of every transition, in the state folder."""

from __future__ import annotations

import typer

from spooler.cli import exits, options, output, session

app = typer.Typer(
    help="Check the audit trail of this daemon.",
    no_args_is_help=True,
)


@app.command("verify")
def verify(*, config: options.Config = None, as_json: options.AsJson = False) -> None:
    """Check that no line was edited or removed, and that our keys signed the checkpoints.

    Truncation after the last signed checkpoint cannot be detected; unsigned lines are counted.
    """
    from dataclasses import asdict

    from spooler.app.audit import verify_audit

    found = verify_audit(session.settings(config))
    if as_json:
        output.as_json(asdict(found))
    elif not found.lines:
        output.note("no audit trail found: no daemon has written one here, or it was removed")
    else:
        for problem in found.problems:
            output.say(output.plain(problem))
        verdict = f"{len(found.problems)} problems" if found.problems else "whole"
        output.say(
            f"{verdict}: {found.lines} lines in {found.files} files, "
            f"{found.checkpoints} signed checkpoints, {found.unsigned} lines since the last"
        )
        if found.first > 1:
            output.note(f"the trail begins with line {found.first}: older files are not there")
    if found.problems or not found.lines:
        raise typer.Exit(exits.Exit.NO)
