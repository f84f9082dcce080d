"""Settings for people and editors: as TOML, as a commented example, as a JSON schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, BeforeValidator, SecretStr
from pydantic.fields import FieldInfo

from spooler.docs import restore
from spooler.settings.model import (
    DaemonSettings,
    DeviceSettings,
    LogSettings,
    Settings,
    SigningSettings,
    WindowSettings,
)
from spooler.settings.problems import visible
from spooler.settings.secrets import HIDDEN, hidden
from spooler.settings.units import as_duration, as_size, duration, size
from spooler.storage.settings import SqliteSettings, SqoolerLocalSettings, SqoolerMongodbSettings

SCHEMA_FILE = "spooler.schema.json"

_HEAD = f"""\
#:schema ./{SCHEMA_FILE}
# All settings of spooler with their defaults. This file runs as it is, with a simulated device
# that needs numpy and scipy (pip install numpy scipy):
#
#   spooler check --config example.toml
#   spooler run --config example.toml
#
# It is printed by 'spooler config example'; 'spooler init' writes one that signs its results.
"""
_HEAD_OF_INIT = f"""\
#:schema ./{SCHEMA_FILE}
# The settings of spooler here, each with its default.
#
#   spooler check
#   spooler run
#
"""
_RULES = """\
# Lines that start with '#' and no blank are settings that are off; take the '#' away to switch
# them on.
#
# Relative paths start at the folder of this file. Durations are seconds, or a text: "500ms",
# "10s", "1h30m". Sizes are bytes, or a text: "512 KiB", "4 MiB".
#
# An environment variable goes before this file: SPOOLER_DAEMON__POLL_INTERVAL=0.5 stands for
# [daemon] poll_interval = 0.5. So does a systemd credential named spooler.daemon.poll_interval.
"""
_MINIMAL = """\
#:schema ./spooler.schema.json
# The least that spooler needs: where the jobs live, and one device. See example.toml for the rest.
# This device is a simulator; it needs numpy and scipy (pip install numpy scipy).

[storage]
type = "sqooler-local"
path = "./storage"

[devices.singlequdit]
handler = "singlequdit"
"""
_CHOSEN: Mapping[tuple[str, str], Any] = {
    ("SqoolerLocalSettings", "type"): "sqooler-local",
    ("SqoolerLocalSettings", "path"): "./storage",
    ("SqoolerMongodbSettings", "type"): "sqooler-mongodb",
    ("SqliteSettings", "type"): "sqlite",
    ("Settings", "state"): "./spooler-state",
    ("DeviceSettings", "handler"): "singlequdit",
    ("WindowSettings", "kind"): "maintenance",
    ("WindowSettings", "cron"): "0 3 * * sun",
    ("WindowSettings", "duration"): 1800.0,
    ("WindowSettings", "note"): "weekly realignment",
}


def schema() -> str:
    """Return the JSON schema of the settings, for editors."""
    restore(*_classes(Settings))
    tree = Settings.model_json_schema()
    tree = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | tree
    tree["title"] = "Settings of spooler"
    return json.dumps(tree, indent=2) + "\n"


def _classes(model: type[BaseModel]) -> set[type]:
    """Return a model and all that its fields are made of."""
    found, left = set[type](), list[Any]([model])
    while left:
        each = left.pop()
        if not isinstance(each, type):
            left += get_args(each)
        elif each not in found:
            found.add(each)
            fields = each.model_fields.values() if issubclass(each, BaseModel) else ()
            left += [field.annotation for field in fields]
    return found


def minimal() -> str:
    """Return the shortest settings file that runs."""
    return _MINIMAL


def example() -> str:
    """Every option with its default, its unit and what it is for; a file that runs."""
    return _every_option(_HEAD)


def initial(device: str) -> str:
    """What `spooler init` writes: every option, the key in use, a device of a built-in handler."""
    text = _every_option(_HEAD_OF_INIT).replace("\n#key = ", "\nkey = ")
    return text.replace('"singlequdit"', f'"{device}"').replace(".singlequdit", f".{device}")


def _every_option(head: str) -> str:
    parts = [
        head + _RULES,
        *_section(Settings, only=("state",)),
        *_section(DaemonSettings, "[daemon]"),
        *_section(SqoolerLocalSettings, "[storage]"),
        "",
        "# In place of that folder, the jobs can live on a server that many daemons share.",
        *_section(SqoolerMongodbSettings, "[storage]", off=True)[1:],
        "",
        "# Or in one file, without sqooler and without a server.",
        *_section(SqliteSettings, "[storage]", off=True)[1:],
        "",
        "# In place of [storage], several storages, each with a name; see `queues` of a device.",
        "#[storages.lab]",
        '#type = "sqooler-local"',
        '#path = "./storage"',
        *_section(SigningSettings, "[signing]"),
        *_section(LogSettings, "[log]"),
        "",
        "# One section for each device; its name is made of letters, digits, - and _.",
        *_section(DeviceSettings, "[devices.singlequdit]", without=("windows",))[1:],
        *_section(WindowSettings, "[[devices.singlequdit.windows]]", off=True),
    ]
    return "\n".join(parts) + "\n"


def _section(
    model: type[BaseModel],
    title: str = "",
    *,
    only: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
    off: bool = False,
) -> list[str]:
    lines = [""] if title else []
    if title:
        restore(model)
        lines += [f"# {model.__doc__}", f"{'#' * off}{title}"]
    for name, field in model.model_fields.items():
        if visible(model, name) and name not in without and (not only or name in only):
            lines += _option(model, name, field, off=off)
    return lines


def _option(model: type[BaseModel], name: str, field: FieldInfo, *, off: bool) -> list[str]:
    value = _CHOSEN.get((model.__name__, name), None)
    if value is None and not field.is_required():
        value = field.get_default(call_default_factory=True)
    if value is None or (value in ((), {}) and field.examples):
        off, value = True, (field.examples or [""])[0]
    functions = [one.func for one in field.metadata if isinstance(one, BeforeValidator)]
    if duration in functions:
        value = as_duration(value)
    elif size in functions:
        value = as_size(value)
    return [f"# {field.description}", f"{'#' * off}{name} = {_toml(value)}"]


def as_toml(settings: Settings) -> str:
    """Return the settings as they are in force, defaults included, secrets hidden."""
    lines = [f"# {settings.file}"] if settings.file else []
    if settings.signing.private_jwk is not None:
        lines.append(f"# signing key: PRIVATE_JWK_STR {HIDDEN}")
    elif settings.signing.key is None and settings.signing.dotenv is not None:
        lines.append(f"# signing key: PRIVATE_JWK_STR in {settings.signing.dotenv}")
    lines.append(f"state = {_toml(settings.state)}")
    lines += _table("[daemon]", settings.daemon)
    if settings.storage is not None:
        lines += _table("[storage]", settings.storage)
    for name, storage in settings.storages.items():
        lines += _table(f"[storages.{name}]", storage)
    for name in ("signing", "log"):
        lines += _table(f"[{name}]", getattr(settings, name))
    for name, device in settings.devices.items():
        lines += _table(f"[devices.{name}]", device)
        for window in device.windows:
            lines += _table(f"[[devices.{name}.windows]]", window)
    return "\n".join(lines) + "\n"


def as_document(settings: Settings) -> dict[str, Any]:
    """The same as JSON values."""
    tree: dict[str, Any] = hidden(settings.model_dump(mode="json", exclude={"signing"}))
    tree["signing"] = settings.signing.model_dump(
        mode="json", include={"key", "credential", "required"}
    )
    return tree


def _table(title: str, model: BaseModel) -> Iterator[str]:
    yield ""
    yield title
    for name, value in model:
        if value is None or name == "windows" or not visible(type(model), name):
            continue
        yield f"{name} = {_toml(hidden(_simple(value), name))}"


def _toml(value: Any) -> str:
    """`value` as an inline TOML value."""
    value = _simple(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # Apart from DEL, a JSON string is a TOML basic string.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return _braces(f"{_key(key)} = {_toml(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(one) for one in value)}]"
    if isinstance(value, int | float):
        return repr(value)
    return str(value) if hasattr(value, "isoformat") else _toml(str(value))


def _simple(value: Any) -> Any:
    """`value` as one of the types that TOML has, where that is possible."""
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, BaseModel):
        return value.model_dump()
    return str(value) if isinstance(value, Path | Enum) else value


def _key(key: str) -> str:
    plain = key.isascii() and key.replace("_", "a").replace("-", "a").isalnum()
    return key if plain else _toml(key)


def _braces(pairs: Iterable[str]) -> str:
    inner = ", ".join(pairs)
    return f"{{ {inner} }}" if inner else "{}"
