"""What all parts of one daemon share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from spooler.daemon.pulse import Pulse
from spooler.daemon.room import Room
from spooler.observe.events import Observer
from spooler.protocols import Clock, ReportSigner

#: Waits for so many seconds, unless the daemon is stopping; says whether to go on.
Patience: TypeAlias = Callable[[float], bool]


@dataclass(frozen=True, slots=True)
class Shared:
    """Time, the way to tell, the signature, this machine's own disk, and who still gets on."""

    clock: Clock
    observer: Observer
    sign: ReportSigner
    room: Room
    pulse: Pulse
