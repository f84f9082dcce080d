"""The device `sqooler`: an existing `sqooler.spoolers` object, run unchanged."""

from __future__ import annotations

import importlib.util
from typing import Any

from spooler.devices.registry import SQOOLER, load_object
from spooler.errors import ConfigError
from spooler.model.json import Json
from spooler.protocols import JobContext

#: Fields of sqooler's configuration that belong to the card itself, and those that the daemon
#: and the storage fill in.
_CARD = ("version", "description", "simulator")
_NOT_OURS = ("display_name", "pending_jobs", "status_msg", "last_queue_check", "kid")


class SqoolerObject:
    """Runs the Spooler (or LabscriptSpooler) object found at `spooler`, "module:attribute".

    The object checks its payloads itself; its error texts become the reasons.
    """

    params = dict[str, Any]

    def __init__(self, spooler: str) -> None:
        if importlib.util.find_spec("sqooler") is None:
            raise ConfigError("the handler sqooler needs the package sqooler: pip install sqooler.")
        found = load_object(spooler)
        missing = [name for name in SQOOLER if not callable(getattr(found, name, None))]
        if missing or isinstance(found, type):
            raise ConfigError(f"{spooler} is not a sqooler Spooler object.")
        self._spooler = found

    def card(self) -> dict[str, Json]:
        """Its configuration, under sqooler's own names."""
        fields = self._spooler.get_configuration().model_dump(mode="json")
        card = {name: fields.pop(name) for name in _CARD}
        if not fields.get("sign"):  # an object that asks for signatures gets them, or is refused
            fields.pop("sign", None)
        return {**card, "properties": {k: v for k, v in fields.items() if k not in _NOT_OURS}}

    def open(self) -> None:
        """The object has connected to what it needs when it was made."""

    def run(self, params: dict[str, Any], context: JobContext) -> dict[str, Any]:
        result, status = self._spooler.add_job(params, context.job_id)
        if status.status != "DONE":
            # "None" is sqooler's word for no error; it stays in front of the one that came.
            text = status.error_message.removeprefix("None").lstrip("; ")
            raise ValueError(text or f"the sqooler object ended with status {status.status}")
        fields = result.model_dump(mode="json")
        return {**(fields.get("header") or {}), "results": fields["results"]}

    def close(self) -> None:
        """There is nothing to close in such an object."""
