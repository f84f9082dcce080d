"""`spooler keys`: the private key that signs results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from spooler.cli import options, output, session
from spooler.errors import ConfigError

if TYPE_CHECKING:
    from spooler.signing.keys import PrivateKey

app = typer.Typer(
    help="Make, show and rotate the key that signs results. A private key is never printed.",
    no_args_is_help=True,
)

_File: TypeAlias = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="The key file. Default: [signing] key of the settings."),
]
_Kid: TypeAlias = Annotated[
    str | None,
    typer.Option("--kid", metavar="NAME", help="The key's name. Default: its RFC 7638 thumbprint."),
]


@app.command("generate")
def generate(file: _File = None, *, kid: _Kid = None, config: options.Config = None) -> None:
    """Write a new Ed25519 key, readable by its owner only. A key is never overwritten."""
    from spooler.signing import keys

    path = _key_file(file, config)
    key = keys.generate(kid)
    keys.write_file(key, path)
    output.say(f"{path}: a new key, kid {key.kid}")
    output.say(f'sign with it: in the settings, below [signing], key = "{path}"')


@app.command("show")
def show(file: _File = None, *, config: options.Config = None) -> None:
    """Print the public key as a JWK, for whoever verifies results."""
    output.as_json(_load(file, config).public())


@app.command("rotate")
def rotate(file: _File = None, *, kid: _Kid = None, config: options.Config = None) -> None:
    """Put a new key in place; the old one is kept beside it."""
    from spooler.signing import keys

    path = _key_file(file, config)
    done = keys.rotate(path, kid)
    output.say(f"{path}: a new key, kid {done.new.kid}")
    output.say(f"{done.kept}: the old key, kid {done.old.kid}")
    output.say(
        "restart the daemon to sign with the new key; keep the old key file in place until that "
        "restart"
    )
    output.note(
        "where the key is a systemd credential, that is one more line of the service:\n"
        f"LoadCredential={done.kept.name}:{done.kept.absolute()}"
    )


def _key_file(file: Path | None, config: Path | None) -> Path:
    if file is not None:
        return file
    settings = session.settings(config)
    if settings.signing.key is None:
        raise ConfigError(
            f"{settings.file} names no key file; give one, as in 'spooler keys generate"
            " keys/backend.jwk', or set key in [signing]"
        )
    return settings.signing.key


def _load(file: Path | None, config: Path | None) -> PrivateKey:
    from spooler.signing import keys

    if file is not None:
        return keys.load_file(file)
    source = session.settings(config).signing.source()
    if source is None:
        raise ConfigError(
            "the settings name no key, results are not signed; make one with 'spooler keys"
            " generate keys/backend.jwk' and set key in [signing]"
        )
    if isinstance(source, Path):
        return keys.load_file(source)
    return keys.from_sqooler_text(source.get_secret_value())
