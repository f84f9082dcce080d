"""`spooler config`: settings in force, their schema, one to start from."""

from __future__ import annotations

from typing import Annotated

import typer

from spooler.cli import options, output, session

app = typer.Typer(
    help="Show the settings in force, an example, or their schema.",
    no_args_is_help=True,
)


@app.command("show")
def show(*, config: options.Config = None, as_json: options.AsJson = False) -> None:
    """Print the settings in force, defaults included, secrets hidden."""
    from spooler.settings import shown

    settings = session.settings(config)
    if as_json:
        output.as_json(shown.as_document(settings))
    else:
        output.say(shown.as_toml(settings).rstrip("\n"))


@app.command("schema")
def schema() -> None:
    """Print the JSON schema of the settings file."""
    from spooler.settings import shown

    output.say(shown.schema().rstrip("\n"))


@app.command("example")
def example(
    *,
    minimal: Annotated[
        bool, typer.Option("--minimal", help="Only what is needed.", show_default=False)
    ] = False,
) -> None:
    """Print a settings file to start from, every option explained."""
    from spooler.settings import shown

    output.say((shown.minimal() if minimal else shown.example()).rstrip("\n"))
