"""`spooler migrate`: copy or move a storage to another place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spooler.cli import exits, options, output, session
from spooler.errors import BackendUnavailable, ConfigError

if TYPE_CHECKING:
    from spooler.migrate import Progress, Summary
    from spooler.settings import Settings
    from spooler.storage.settings import StorageSettings

_PLACE = "A settings file (or FILE:STORAGE), a folder, or a mongodb:// URI."
_MOST_SHOWN = 20


def migrate(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=f"From where. {_PLACE}")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help=f"To where. {_PLACE}")],
    *,
    move: Annotated[
        bool, typer.Option("--move", help="Remove from the source what the target has.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Go on while jobs are running; those stay at the source."),
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Copy or move a storage between a folder and MongoDB.

    Devices, jobs and results go along. Each document is compared after its copy, and the order
    of the waiting jobs is kept. It may be interrupted: run it again, and it goes on.

    Passwords are better in a settings file or in the environment than in a URI on the command
    line, which others can see.
    """
    from spooler.migrate import migrate as run_migration

    ends = _storage(source, must_exist=True), _storage(target, must_exist=False)
    with output.ticking(f"migrating {_shown(source)} to {_shown(target)}") as tell:

        def told(progress: Progress) -> None:
            if progress.done == progress.total or not progress.done % _EVERY:
                tell(f"{progress.path}: {progress.done} of {progress.total}")

        try:
            done = run_migration(*ends, move=move, force=force, tell=told)
        except BackendUnavailable as error:
            raise BackendUnavailable(
                f"{error}; nothing is lost: run the same command again, and it goes on"
            ) from error
    if as_json:
        output.as_json(_document(done))
    else:
        _tell(done, move=move)
    if done.busy or done.refused:
        raise typer.Exit(exits.Exit.NO)


_EVERY = 100


def _storage(text: str, *, must_exist: bool) -> StorageSettings:
    """Return the storage that is meant; ConfigError when it is none."""
    from spooler.storage.settings import SqoolerLocalSettings, SqoolerMongodbSettings

    if text.startswith(("mongodb://", "mongodb+srv://")):
        return SqoolerMongodbSettings.model_validate({"type": "sqooler-mongodb", "uri": text})
    if "://" in text:
        raise ConfigError(
            f"{_shown(text)} is not a storage; name a folder, a settings file or a mongodb:// URI"
        )
    before, colon, name = text.rpartition(":")
    if colon and before.endswith(".toml"):
        return _of_file(Path(before).expanduser(), name, os.environ)
    path = Path(text).expanduser()
    if path.suffix == ".toml" or path.is_file():
        return _of_file(path, "", os.environ)
    if must_exist and not path.is_dir():
        raise ConfigError(f"folder {path} not found; name a folder, a settings file or a URI")
    return SqoolerLocalSettings(type="sqooler-local", path=path.absolute())


def _of_file(file: Path, name: str, environ: Mapping[str, str]) -> StorageSettings:
    """Return the [storage] of a settings file.

    The environment speaks of one storage, and there are two: it is heard for a server, whose
    password it holds, and not for a folder.
    """
    bare = {name: text for name, text in environ.items() if not name.startswith(_STORAGE)}
    try:
        found = _chosen(session.settings(file, bare), name)
    except ConfigError:
        return _chosen(session.settings(file, environ), name)
    if found.type == "sqooler-local":
        return found
    return _chosen(session.settings(file, environ), name)


def _chosen(settings: Settings, name: str) -> StorageSettings:
    """The storage of a settings file that is meant: the only one, or the one that is named."""
    feeds = settings.feeds()
    if not name and len(feeds) == 1:
        return next(iter(feeds.values()))
    if name not in feeds:
        raise ConfigError(
            f"{settings.file} has the storages {', '.join(feeds)}; name one of them, as in "
            f"{settings.file}:{next(iter(feeds))}"
        )
    return feeds[name]


_STORAGE = "SPOOLER_STORAGE_"


def _shown(text: str) -> str:
    """Return a place without the login that may be in it."""
    scheme, separator, rest = text.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if separator else text


def _tell(done: Summary, *, move: bool) -> None:
    if done.busy:
        output.note(
            f"nothing was done: {done.claimed} jobs of the source are running; stop the daemon "
            "there and wait, or leave them behind with --force"
        )
        return
    removed = f", {done.removed} removed from the source" if move else ""
    output.say(f"{done.copied} copied and compared, {done.present} already there{removed}")
    output.say(f"sha256 of all: {done.digest}")
    if not (done.copied or done.present or done.claimed or done.refused):
        output.note("nothing was found at the source; is it the right place?")
    for note in done.notes:
        output.note(output.plain(note))
    if done.claimed:
        output.note(f"{done.claimed} running jobs stay at the source; run this again later")
    for sentence in done.refused[:_MOST_SHOWN]:
        output.note(output.plain(f"stays: {sentence}"))
    if len(done.refused) > _MOST_SHOWN:
        output.note(f"and {len(done.refused) - _MOST_SHOWN} more; see them all with --json")


def _document(done: Summary) -> dict[str, object]:
    return {
        "copied": done.copied,
        "present": done.present,
        "removed": done.removed,
        "running": done.claimed,
        "busy": done.busy,
        "refused": done.refused,
        "notes": done.notes,
        "sha256": done.digest,
    }
