"""Settings from where they are: TOML file < environment SPOOLER_* < systemd credentials."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from spooler.errors import ConfigError
from spooler.settings.layers import from_credentials, from_environment, lay_over
from spooler.settings.model import Settings, SigningSettings
from spooler.settings.problems import problems, visible
from spooler.signing.dotenv import DOTENV, in_dotenv

SYSTEM_FILE = Path("/etc/spooler/spooler.toml")
LOCAL_FILE = Path("spooler.toml")
_LARGEST = 2**20
#: Python's words on a table that appears twice: Cannot declare ('devices', 'echo') twice.
_TWICE = re.compile(r"Cannot declare \((.*)\) twice")
_QUOTED = re.compile(r"'([^']*)'")


def find(environ: Mapping[str, str], *, folder: Path | None = None) -> Path:
    """Return the settings file when none was named: SPOOLER_CONFIG, ./spooler.toml, /etc/spooler.

    Raises ConfigError when there is none.
    """
    if named := environ.get("SPOOLER_CONFIG"):
        return Path(named)
    local = (folder or Path.cwd()) / LOCAL_FILE
    for file in (local, SYSTEM_FILE):
        if file.exists():
            return file
    raise ConfigError(
        f"there is no settings file, neither {local} nor {SYSTEM_FILE};"
        " make one to start from with 'spooler init',"
        " or name yours with --config"
    )


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Return the settings of `path` (or of the file that `find` finds) with the layers above it.

    Raises ConfigError that names every problem, one a line.
    """
    file = find(environ) if path is None else path
    return from_tree(_read(file), file, environ)


def from_tree(tree: dict[str, Any], file: Path, environ: Mapping[str, str]) -> Settings:
    """Settings from what a file holds, as if it had been read from `file`."""
    filled_in = _refuse_filled_in(tree)
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    folder = Path(credentials) if credentials else None
    given = list(from_environment(environ, Settings))
    given += from_credentials(folder) if folder is not None else []
    try:
        lay_over(tree, given, Settings)
        filled_in += _refuse_filled_in(tree)
        if isinstance(signing := tree.setdefault("signing", {}), dict):
            signing["private_jwk"] = environ.get("PRIVATE_JWK_STR") or None
            signing["dotenv"] = _dotenv(file.absolute().parent)
            signing["credentials_folder"] = folder
        tree["file"] = file.absolute()
        settings = Settings.model_validate(tree, context={"folder": file.absolute().parent})
    except ValidationError as error:
        filled_in += problems(error, Settings)
    if filled_in:
        raise _refusal(file, list(dict.fromkeys(filled_in)), [one.by for one in given])
    return settings


def _dotenv(folder: Path) -> Path | None:
    """Return the file `.env` in the folder, where that holds the key of sqooler's users."""
    file = folder / DOTENV
    if not file.is_file():  # a pipe of that name would never be read to its end
        return None
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST)
    except OSError:
        return None
    return None if in_dotenv(content) is None else file


def _refuse_filled_in(tree: Mapping[str, Any]) -> list[str]:
    """Names that only `load` itself may fill in: the file and the private key in text."""
    signing = tree.get("signing")
    found = ["there is no key or section 'file'"] if "file" in tree else []
    if isinstance(signing, dict):
        found += [
            f"[signing] has no key '{name}'; did you mean 'key'?"
            for name in signing
            if name in SigningSettings.model_fields and not visible(SigningSettings, name)
        ]
    return found


def _refusal(file: Path, wrong: list[str], givers: list[str]) -> ConfigError:
    also = f" (together with {', '.join(givers)})" if givers else ""
    if len(wrong) == 1:
        return ConfigError(f"{file}{also}: {wrong[0]}")
    return ConfigError(f"{file}{also} has {len(wrong)} problems:\n  " + "\n  ".join(wrong))


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except FileNotFoundError:
        raise ConfigError(f"there is no settings file {file}") from None
    except OSError as error:
        raise ConfigError(f"the settings file {file} cannot be read: {error.strerror}") from None
    if len(content) > _LARGEST:
        raise ConfigError(f"{file} is larger than 1 MiB; this is not a settings file")
    return _parse(content, file)


def _parse(content: bytes, file: Path) -> dict[str, Any]:
    try:
        text = content.decode("utf-8-sig")
        tree = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}, line {line}: not UTF-8 text; save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {_where(str(error), text)}") from None
    except ValueError:
        raise ConfigError(f"{file} holds a number with thousands of digits") from None
    except RecursionError:
        raise ConfigError(f"{file} is nested too deeply; this is not a settings file") from None
    if not tree:
        raise ConfigError(f"{file} is empty; perhaps it was being written just now")
    return tree


def _where(message: str, text: str) -> str:
    """Python's words on a TOML error, with a line number also at the end of the file."""
    last = text.count("\n") + (not text.endswith("\n"))
    message = _TWICE.sub(lambda m: f"[{'.'.join(_QUOTED.findall(m[1]))}] appears twice", message)
    message = message.replace("Cannot overwrite a value", "a key appears twice")
    message = message.replace("at end of document", f"at line {last}, where the file ends")
    return message[:1].lower() + message[1:]
