"""`spooler init`: a folder that is ready to run, and signs from its first result on."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from spooler.cli import exits, output

_SETTINGS, _KEY, _STORAGE = Path("spooler.toml"), Path("keys/backend.jwk"), Path("storage")


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder to fill; created if missing.")
    ] = Path(),
) -> None:
    """Make settings, a key and a storage folder to start from.

    Settings that are there are never overwritten; a key that is there is used.
    """
    from spooler.durable import unavailable

    try:
        made = _make(folder)
    except FileExistsError:
        output.note(
            f"spooler: {folder / _SETTINGS} already exists and was not changed; "
            "use it, or name a new folder"
        )
        raise typer.Exit(exits.Exit.NOT_WRITTEN) from None
    except OSError as error:
        output.note(f"spooler: {unavailable(error, folder)}")
        raise typer.Exit(exits.Exit.NOT_WRITTEN) from None
    for line in made:
        output.say(line)
    here = "" if folder == Path() else f"cd {folder} && "
    output.note(f"next: {here}spooler check && spooler run")


def _make(folder: Path) -> list[str]:
    """Return what has been made. The settings come last: where they are, everything is."""
    from spooler.durable import Disk
    from spooler.settings import shown
    from spooler.signing import keys

    if (folder / _SETTINGS).exists():
        raise FileExistsError
    disk, mark = Disk(), str(os.getpid())
    disk.make_folder(folder / _STORAGE, mode=0o777)
    file = folder / _KEY
    known = file.exists()
    if not known:
        disk.make_folder(file.parent, mode=0o700)
        keys.write_file(keys.generate(None), file)
    key = keys.load_file(file)
    disk.publish(folder / shown.SCHEMA_FILE, shown.schema().encode(), mark=mark)
    device = "singlequdit" if find_spec("numpy") and find_spec("scipy") else "echo"
    disk.publish_new(folder / _SETTINGS, shown.initial(device).encode(), mark=mark)
    return [
        f"{file}: {'the key that was there' if known else 'a new key'}, kid {key.kid}",
        f"{folder / _STORAGE}: where jobs are submitted to",
        f"{folder / shown.SCHEMA_FILE}: the schema of the settings, for editors",
        f"{folder / _SETTINGS}: the settings, with a device {device!r} to try",
    ]
