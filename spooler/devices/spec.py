"""Which handler a device has, and within which bounds it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spooler.model.json import Json

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """One device's handler.

    `reference` is "module:Name" or a name of the entry point group `spooler.devices`; `options`
    are the keyword arguments of the handler's constructor. `isolation` is "process" or "thread".
    `grace`: seconds between asking a handler to stop, SIGTERM and SIGKILL. `max_output`: bytes
    of JSON that a result may have. `memory_limit`: bytes of address space of the handler's
    process (RLIMIT_AS; libraries reserve far more than they use), or None. `recycle_after`: jobs
    after which its process is made anew, or None. `start_timeout`:
    seconds for importing, constructing and opening the handler. `lock`: a file that the handler's
    process holds locked for as long as it (or what it forked) lives, so that a new daemon does not
    open an instrument that a killed one's handler still drives; "" for none. `env`: variables of
    the handler's process, beside those that every one gets.
    """

    device: str
    reference: str
    options: Mapping[str, Json] = field(default_factory=dict)
    isolation: str = "process"
    grace: float = 5.0
    max_output: int = 16 * MIB
    memory_limit: int | None = None
    recycle_after: int | None = None
    start_timeout: float = 60.0
    lock: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
