"""Options and arguments that several commands share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

Config: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Settings file. Default: $SPOOLER_CONFIG, ./spooler.toml, /etc/spooler/spooler.toml.",
    ),
]
Job: TypeAlias = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
Device: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--device", "-d", metavar="NAME", help="The job's device. Default: search all devices."
    ),
]
AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print JSON, for programs.", show_default=False)
]
Wait: TypeAlias = Annotated[
    bool, typer.Option("--wait", help="Wait for the end of the job.", show_default=False)
]
Timeout: TypeAlias = Annotated[
    str | None,
    typer.Option("--timeout", metavar="TIME", help='Wait no longer than this: "30s", "1h30m".'),
]
