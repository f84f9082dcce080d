"""The journeys of one job that the kill points are collected from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Journey:
    """One job from its submission to its end, by the daemon that is going to die.

    `act` is what the handler does, `rerun` the device's policy. `withdrawn`: the submitter has
    cancelled the job before. `after`: an earlier daemon has died in this journey, right after
    the first file operation that matches this pattern. `late`: that daemon's job was ended by
    another one meanwhile. `second`: another daemon serves the same queue, and is alive while
    the first one dies. `fresh`: the storage and the state are new, so that every folder has to be
    made first, and the points of its opening are tried too. `looks`: calls
    that only look are points too.
    """

    name: str
    act: str = "done"
    rerun: str = "if-not-started"
    withdrawn: bool = False
    after: str = ""
    late: bool = False
    second: bool = False
    looks: bool = False
    fresh: bool = False


#: File operations that mark how far a claim has come, as patterns of point labels.
CLAIMED = r"^rename .*queued.* -> .*claims.*\.c$"
STARTED = r"^rename .*claims.*\.c -> .*claims.*\.s$"
KEPT = r"^rename .*outbox/\..* -> .*outbox/"
COMMITTED = r"^rename .*claims.* -> .*claims.*\.[de]$"

POLICIES = ("never", "if-not-started", "always")

JOURNEYS = (
    Journey("the first job", fresh=True),
    Journey("done, never", rerun="never"),
    Journey("done, if-not-started"),
    Journey("done, always", rerun="always"),
    Journey("error", act="raise"),
    Journey("withdrawn before", withdrawn=True),
    Journey("withdrawn while it runs", act="cancel"),
    Journey("given back", act="stop", rerun="always"),
    Journey("stopped", act="stop"),
    Journey("reclaim, claimed, never", rerun="never", after=CLAIMED),
    Journey("reclaim, claimed, if-not-started", after=CLAIMED),
    Journey("reclaim, started, if-not-started", after=STARTED),
    Journey("reclaim, started, always", rerun="always", after=STARTED),
    Journey("reclaim, withdrawn", withdrawn=True, rerun="always", after=CLAIMED),
    Journey("deliver again", after=KEPT),
    Journey("complete", after=COMMITTED),
    Journey("late", after=KEPT, late=True),
    Journey("two daemons, never", rerun="never", second=True),
    Journey("two daemons, if-not-started", second=True, fresh=True),
    Journey("two daemons, always", rerun="always", second=True),
    Journey("two daemons, given back", act="stop", rerun="always", second=True),
)
