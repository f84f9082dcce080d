"""The file that `spooler new-device NAME` writes: a handler to start from."""

from __future__ import annotations

import re

from spooler.errors import ConfigError

_NAME = re.compile(r"[a-z][a-z0-9]*")

_TEMPLATE = '''\
"""The device `@name@`.

Settings (this file lies beside the settings file, or is installed):

    [devices.@name@]
    handler = "@name@:@Class@"
    options = { port = "simulated" }
    timeout = "10m"

Try it, without queue and daemon:  spooler try @name@ payload.json
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from spooler.protocols import JobContext


class Parameters(BaseModel):
    """What a job asks for. A payload that does not fit fails with a sentence for its submitter."""

    model_config = ConfigDict(extra="forbid")

    shots: Annotated[int, Field(ge=1, le=100_000)] = 100
    exposure: Annotated[float, Field(gt=0, le=10, description="seconds")] = 0.001


class @Class@:
    """Drives the instrument. Made once; its methods are never called twice at once."""

    params = Parameters

    def __init__(self, port: str = "simulated") -> None:
        # Only remember the options here: nothing is connected before open().
        self.port = port

    def card(self) -> Mapping[str, Any]:
        """What is announced about the device (optional)."""
        return {
            "version": "0.1.0",
            "description": "The device @name@.",
            "simulator": True,
            # What sqooler's users see of the device; leave it out elsewhere.
            "properties": {"max_shots": 100_000, "num_wires": 1},
        }

    def open(self) -> None:
        """Connect. An exception rests the device; its jobs stay queued."""

    def run(self, params: Parameters, context: JobContext) -> Mapping[str, Any]:
        """Run one job; return a mapping: numbers, text, lists, numpy arrays, pydantic models.

        Each type has one form in the result: a complex number becomes [real, imaginary], a
        datetime64 (and any other time) ISO 8601 text, an Enum its value, a set a list. bytes,
        longdouble, timedelta64, NaT, NaN and infinities fail the job, and so do two keys that are
        one text in JSON, such as 0 and "0". What was returned is then kept on this machine, and
        the reason says where.

        Raise ValueError("...") to fail the job with a reason for its submitter. Anything else
        that is raised fails it too, and the traceback goes to the log.
        """
        counts: list[int] = []
        for shot in range(params.shots):
            # Look at this between steps: the job was cancelled, or its time is over.
            if context.stop.is_set():
                raise ValueError("stopped")
            context.progress(f"shot {shot + 1} of {params.shots}")
            counts.append(random.randint(0, 9))
        # Large data belongs into files: write them to context.scratch and publish them. They
        # are kept below `files` in the daemon's state folder; the result names them.
        table = context.scratch / "counts.csv"
        table.write_text("\\n".join(str(count) for count in counts) + "\\n")
        context.publish(table)
        return {"shots": params.shots, "mean": sum(counts) / len(counts)}

    def dry_run(self, params: Parameters, context: JobContext) -> None:
        """Check a job without touching hardware (optional; the device may not be open)."""

    def calibrate(self, context: JobContext) -> None:
        """Runs in the device's calibration windows (optional).

        Raise, or return False, when it fails; the setting on_failed_calibration says whether the
        device then takes jobs.
        """

    def close(self) -> None:
        """Leave the instrument safe, also when open() or run() has failed half way."""
'''


def handler_template(name: str) -> str:
    """Return the source text of a handler file for the device `name` (file name: `<name>.py`).

    Raises ConfigError for a name that cannot be both a device's and a module's.
    """
    if _NAME.fullmatch(name) is None:
        raise ConfigError(
            f"{name!r} cannot be a device's name: use small letters and digits, a letter first."
        )
    return _TEMPLATE.replace("@name@", name).replace("@Class@", name.capitalize())
