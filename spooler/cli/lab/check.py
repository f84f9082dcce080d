"""`spooler check`: whether the daemon would work."""

from __future__ import annotations

import typer

from spooler.cli import exits, options, output, session


def check(*, config: options.Config = None, as_json: options.AsJson = False) -> None:
    """Check settings, handlers, keys and storage, and start nothing.

    Exit code 0 when all is well; usable as ExecStartPre= of a service.
    """
    from spooler import app

    items = app.check(session.settings(config))
    if as_json:
        found = [{"name": item.name, "ok": item.ok, "detail": item.detail} for item in items]
        output.as_json({"ok": all(item.ok for item in items), "checks": found})
    else:
        lines = [("ok" if item.ok else "NO", item.name, item.detail) for item in items]
        output.rows(("", "check", "detail"), lines)
    if not all(item.ok for item in items):
        raise typer.Exit(exits.Exit.NO)
