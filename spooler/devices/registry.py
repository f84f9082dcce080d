"""Finding a handler by its reference, and making it from its options."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from spooler.devices.sentences import accident
from spooler.errors import ConfigError
from spooler.model.json import Json
from spooler.protocols import DeviceHandler

GROUP = "spooler.devices"
_METHODS = ("open", "run", "close")
#: The methods by which an object of sqooler's is known.
SQOOLER = ("add_job", "get_configuration")


def known_handlers() -> list[str]:
    """Return the names of the installed handlers, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def load_handler(reference: str, options: Mapping[str, Json]) -> DeviceHandler:
    """Make the handler that `reference` ("module:Name" or an entry point's name) stands for.

    Raises ConfigError with one sentence whatever goes wrong, in the handler's own code too.
    """
    factory = load_object(_target(reference))
    _check_options(reference, factory, options)
    try:
        handler = factory(**options)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"handler {reference} refuses its options: {accident(error)}.") from error
    missing = [name for name in _METHODS if not callable(getattr(handler, name, None))]
    if not hasattr(handler, "params"):
        missing.append("params")
    if missing:
        raise ConfigError(
            f"{reference} is not a device handler: it has no {' and no '.join(missing)}"
            " (`spooler new-device NAME` writes an example)."
        )
    _check_run(reference, handler.run)
    return cast("DeviceHandler", handler)


def load_object(target: str) -> Any:
    """Return the object at "module:attribute" (dots allowed in both). Raises ConfigError."""
    module_name, _, attribute = target.partition(":")
    if not attribute:
        raise ConfigError(
            f"{target!r} names a module and nothing in it; write it as {module_name}:NAME"
        )
    found: Any = _import(module_name)
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            near = get_close_matches(name, dir(found), 1)
            hint = f"; did you mean {near[0]}?" if near else _taken_name(module_name)
            raise ConfigError(f"{module_name} has no {attribute}{hint}") from None
    return found


def _target(reference: str) -> str:
    module, colon, attribute = reference.partition(":")
    if colon:
        if all(part.isidentifier() for part in attribute.split(".")) and module:
            return reference
        raise ConfigError(f"handler {reference!r} is not of the form 'module:Name'.")
    entries: set[EntryPoint] = {e for e in entry_points(group=GROUP) if e.name == reference}
    values = {entry.value for entry in entries}
    if len(values) > 1:
        raise ConfigError(
            f"several packages offer a handler {reference}: write one of"
            f" {', '.join(sorted(values))}."
        )
    if values:
        return values.pop()
    known = known_handlers()
    near = get_close_matches(reference, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"installed are {', '.join(known)}"
    raise ConfigError(
        f"handler {reference!r} not found; {hint} (your own code: handler = 'module:Name')."
    )


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        gone = error.name or module
        if module == gone or module.startswith(f"{gone}."):
            raise ConfigError(
                f"module {gone} not found: install it, or put its file beside the settings file."
            ) from error
        raise ConfigError(
            f"module {module} needs the module {gone}, which is not installed."
        ) from error
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"module {module} cannot be imported: {accident(error)}.") from error


def _taken_name(module: str) -> str:
    """Return the end of a sentence on what `module` lacks: perhaps another module was meant."""
    if module.partition(".")[0] not in sys.stdlib_module_names:
        return "."
    return f"; Python itself has a module {module}, so give your own file another name."


def _check_run(reference: str, run: Any) -> None:
    """Refuse at start what would fail every job: a `run` that cannot be called as it will be."""
    if inspect.iscoroutinefunction(run):
        raise ConfigError(
            f"handler {reference}: run is an async def, which nothing would wait for; write it as"
            " def run(self, params, context), with asyncio.run(...) inside."
        )
    try:
        inspect.signature(run).bind(None, None)
    except (TypeError, ValueError) as error:
        if isinstance(error, ValueError) and not inspect.ismethod(run):
            return  # of C code, without a signature: its call will say
        raise ConfigError(
            f"handler {reference}: run must take the two arguments of"
            f" def run(self, params, context): {error}."
        ) from None


def _check_options(reference: str, factory: Any, options: Mapping[str, Json]) -> None:
    if not callable(factory):
        hint = "."
        if all(callable(getattr(factory, name, None)) for name in SQOOLER):
            hint = (
                '; it is an object of sqooler, which is served by handler = "sqooler" with '
                f'options = {{ spooler = "{reference}" }}.'
            )
        raise ConfigError(f"{reference} is not a class: a {type(factory).__name__} was found{hint}")
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return  # a factory of C code: its call will say
    try:
        signature.bind(**options)
    except TypeError as error:
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names = [name for name, item in signature.parameters.items() if item.kind in kinds]
        takes = f"it takes {', '.join(names)}" if names else "it takes none"
        wrong = [name for name in options if name not in names]
        near = [match for name in wrong for match in get_close_matches(name, names, 1)]
        hint = f"did you mean {near[0]}?" if near else takes
        raise ConfigError(f"handler {reference}: options do not fit: {error}; {hint}") from None
