"""The handler's side of a run, the same in a child process and in a thread.

`HandlerHost` calls the handler and turns whatever comes of it into a Reply of plain JSON;
`outcome_of` and `card_of` make model values of it on the daemon's side.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from spooler import forks
from spooler.devices.context import HostContext
from spooler.devices.encoding import NotJson, as_it_is, decode, encode
from spooler.devices.registry import load_handler
from spooler.devices.sentences import accident, one_line, problems, said, without_paths
from spooler.devices.spec import HandlerSpec
from spooler.errors import ConfigError, DeviceUnusable, PayloadInvalid
from spooler.model.artifact import Artifact
from spooler.model.device import DeviceCard
from spooler.model.json import Json
from spooler.model.result import Outcome, Result
from spooler.model.state import State

_CARD_TYPES: dict[str, tuple[type, str]] = {
    "version": (str, "text"),
    "description": (str, "text"),
    "simulator": (bool, "true or false"),
    "properties": (Mapping, "a mapping"),
}


class Terminated(BaseException):
    """SIGTERM has come: leave everything, close the handler, end."""


class Reply(NamedTuple):
    """What came of a call: `head["kind"]` is done, error or invalid; `body` is the data.

    `head["worn"]` where the process had better be made anew before it is called again.
    """

    head: dict[str, Any]
    body: bytes


class HandlerHost:
    """Owns the handler in the place where it runs. Used by one thread."""

    def __init__(self, spec: HandlerSpec, logger: logging.Logger) -> None:
        self._spec = spec
        self._logger = logger
        self._handler: Any = None
        self._adapter: TypeAdapter[Any] = TypeAdapter(None)
        self._opened = False

    @property
    def calibrates(self) -> bool:
        """Return whether the handler has a `calibrate` method."""
        return callable(getattr(self._handler, "calibrate", None))

    def load(self) -> None:
        """Make the handler without opening it. Raises ConfigError."""
        with forks.here():
            self._handler = load_handler(self._spec.reference, self._spec.options)
        self._adapter = _adapter(self._spec.reference, self._handler.params)

    def open(self) -> bytes:
        """Open the handler; its card as JSON. Raises DeviceUnusable or ConfigError."""
        self._opened = True
        try:
            with forks.here():
                self._handler.open()
                card = self._handler.card() if hasattr(self._handler, "card") else {}
        except Terminated:
            raise
        except ValueError as error:
            self._logger.error("it cannot be opened: %s", said(error))  # noqa: TRY400 - no accident
            raise self._unusable(without_paths(said(error))) from error
        except BaseException as error:
            self._accident(error)
            raise self._unusable(accident(error)) from error
        return self._checked_card(card)

    def _unusable(self, why: str) -> DeviceUnusable:
        return DeviceUnusable(f"device {self._spec.device} cannot be opened: {why}")

    def run(self, payload: bytes, context: HostContext) -> Reply:
        """Run the handler on a payload (JSON)."""
        return self._call(lambda params: self._handler.run(params, context), payload, context)

    def dry_run(self, payload: bytes, context: HostContext) -> Reply:
        """Return the handler's `dry_run`, or validation only. Returning nothing is fine here."""
        check = getattr(self._handler, "dry_run", None)

        def work(params: Any) -> Any:
            answer = check(params, context) if check else None
            return {} if answer is None else answer

        return self._call(work, payload, context)

    def calibrate(self, _payload: bytes, context: HostContext) -> Reply:
        """Return the handler's `calibrate`. Returning nothing is fine here; False is a failure."""

        def work(_: Any) -> Any:
            answer = self._handler.calibrate(context)
            if answer is False:
                raise ValueError("calibrate() returned False")
            return answer if isinstance(answer, Mapping | BaseModel | Result) else {}

        return self._call(work, None, context)

    def close(self) -> None:
        """Close the handler if its opening was begun; what it raises goes to the log."""
        if not self._opened:
            return
        self._opened = False
        try:
            with forks.here():
                self._handler.close()
        except Exception as error:  # noqa: BLE001 - handler boundary
            self._accident(error)

    def _call(
        self, work: Callable[[Any], Any], payload: bytes | None, context: HostContext
    ) -> Reply:
        """The one place where the handler's outcomes and accidents become replies."""
        try:
            params = None if payload is None else self._adapter.validate_json(payload)
        except ValidationError as error:
            return Reply({"kind": "invalid", "reason": problems(error)}, b"")
        except Terminated:
            raise
        except BaseException as error:  # noqa: BLE001 - handler boundary
            return self._failed(error)
        try:
            with forks.here():
                answer = work(params)
            return self._done(answer, context)
        except Terminated:
            raise
        except NotJson as error:
            return _error(f"the result's data {error}")
        except ValueError as error:
            return _error(said(error))
        except BaseException as error:  # noqa: BLE001 - handler boundary
            return self._failed(error)

    def _done(self, answer: object, context: HostContext) -> Reply:
        artifacts = dict(context.artifacts)
        if isinstance(answer, Result):
            artifacts = {item.path: item for item in answer.artifacts} | artifacts
            answer = answer.data
        if not isinstance(answer, Mapping | BaseModel):
            return _error(
                f"the handler returned {_a(answer)}; it must return a mapping, a pydantic model"
                " or a Result"
            )
        try:
            body = encode(answer)
        except NotJson:
            context.keep_refused(as_it_is(answer))
            raise
        if not body.startswith(b"{"):
            return _error("the handler returned a model that is not a JSON object")
        if len(body) > self._spec.max_output:
            context.keep_refused(body)
            return _error(
                f"the result has {len(body)} bytes, more than the {self._spec.max_output} that"
                " this device may return"
            )
        final = context.final(artifacts.values())
        files = [(item.path, item.size, item.sha256) for item in final]
        return Reply({"kind": "done", "artifacts": files}, body)

    def _failed(self, error: BaseException) -> Reply:
        self._accident(error)
        if isinstance(error, SystemExit):
            return _error(f"the handler called sys.exit({error.code!r})")
        reply = _error(accident(error))
        if _memory_is_short(error):
            reply.head["worn"] = True
        return reply

    def _accident(self, error: BaseException) -> None:
        self._logger.error("the handler raised %s", type(error).__name__, exc_info=error)

    def _checked_card(self, card: object) -> bytes:
        where = f"card() of handler {self._spec.reference}"
        if not isinstance(card, Mapping):
            raise ConfigError(f"{where} returns {_a(card)}, it must return a mapping.")
        for key, value in card.items():
            if key not in _CARD_TYPES:
                raise ConfigError(
                    f"{where} has the key {key!r}; known are {', '.join(_CARD_TYPES)}."
                )
            kind, words = _CARD_TYPES[key]
            if not isinstance(value, kind):
                raise ConfigError(f"{where}: {key} is {_a(value)}, it must be {words}.")
        try:
            return encode(card)
        except NotJson as error:
            raise ConfigError(f"{where}: {error}.") from None


def _adapter(reference: str, params: Any) -> TypeAdapter[Any]:
    """What checks payloads. Raises ConfigError for `params` that nothing can be checked by."""
    wrong = f"`params` of handler {reference} must be a pydantic model, as in params = Parameters"
    # Types for pydantic, but none that a payload, an object, can satisfy: a slip every time.
    if params is None or isinstance(params, str):
        raise ConfigError(f"{wrong}; it is {_a(params)}.")
    if isinstance(params, type) and _of_version_1(params):
        raise ConfigError(
            f"{wrong}; it is a model of pydantic version 1 (pydantic.v1), and version 2 is needed."
        )
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(params)
    except PydanticSchemaGenerationError:
        what = f"the class {params.__qualname__}" if isinstance(params, type) else _a(params)
        raise ConfigError(f"{wrong}; it is {what}.") from None
    except Exception as error:
        raise ConfigError(f"{wrong}; {said(error)}.") from error
    if not adapter.pydantic_complete:
        raise ConfigError(f"{wrong}; it names a type that is not defined.")
    return adapter


def _of_version_1(model: type) -> bool:
    """Return whether a class is a model of pydantic 1, as pydantic 2 carries it along."""
    return any(each.__module__.startswith("pydantic.v1") for each in model.__mro__)


def outcome_of(head: Mapping[str, Any], body: bytes) -> Outcome:
    """Return the outcome that a reply stands for. Raises PayloadInvalid."""
    if head["kind"] == "invalid":
        raise PayloadInvalid(str(head["reason"]))
    if head["kind"] == "error":
        return Outcome(State.ERROR, str(head["reason"]))
    try:
        data = decode(body)
    except NotJson as error:
        return Outcome(State.ERROR, f"the result's data {error}")
    try:
        artifacts = tuple(Artifact(path, size, sha256) for path, size, sha256 in head["artifacts"])
    except ValueError as error:
        return Outcome(State.ERROR, str(error))
    return Outcome(State.DONE, "", Result(data, artifacts))


def card_of(device: str, body: bytes) -> DeviceCard:
    """Return the card of a device from what its handler's host said."""
    card: dict[str, Json] = decode(body)
    return DeviceCard(name=device, **card)  # type: ignore[arg-type]  # checked in the host


def payload_of(value: Json) -> bytes:
    """Return a payload as JSON. Raises PayloadInvalid."""
    try:
        return encode(value)
    except NotJson as error:
        raise PayloadInvalid(f"the payload: {error}") from None


def _memory_is_short(error: BaseException | None) -> bool:
    """Return whether memory ran out, perhaps behind another error that was made of it."""
    seen = set[int]()
    while error is not None and id(error) not in seen:
        if isinstance(error, MemoryError):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _error(reason: str) -> Reply:
    return Reply({"kind": "error", "reason": one_line(reason)}, b"")


def _a(value: object) -> str:
    return "None" if value is None else f"a {type(value).__qualname__}"
