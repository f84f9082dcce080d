"""The journeys of one job that the kill points are collected from; the same on every storage."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.faults.everything import STORAGES


@dataclass(frozen=True)
class Journey:
    """One job from its submission to its end, by the daemon that is going to die.

    `act` is what the handler does, `rerun` the device's policy. `withdrawn`: the submitter has
    cancelled the job before. `after`: an earlier daemon has died in this journey, right after
    the job was "claimed", "started", its report "kept", its end "acked" or "committed"
    (`World.marks`). `late`: that daemon's job was ended by another one meanwhile, which could not
    see its disk. `heir`: the one that goes on, and is going to die, has another state folder beside
    it. `pictured`: a power cut has left the waiting job shown as running. `second`: another
    daemon serves the same queue, and is alive while the first one dies: "near", where it sees the
    first one's disk, or "far". `fresh`: the storage and the state are new, so that every folder
    has to be made first, and the points of its opening are tried too.
    """

    name: str
    storage: str = "folder"
    act: str = "done"
    rerun: str = "if-not-started"
    withdrawn: bool = False
    after: str = ""
    late: bool = False
    heir: bool = False
    pictured: bool = False
    second: str = ""
    fresh: bool = False

    @property
    def dying(self) -> str:
        """The name of the daemon that dies."""
        return "b" if self.heir else "a"


_EVERYWHERE = (
    Journey("the first job", fresh=True),
    Journey("done, never", rerun="never"),
    Journey("done, if-not-started"),
    Journey("done, always", rerun="always"),
    Journey("error", act="raise"),
    Journey("withdrawn before", withdrawn=True),
    Journey("withdrawn while it runs", act="cancel"),
    Journey("given back", act="stop", rerun="always"),
    Journey("stopped", act="stop"),
    Journey("reclaim, claimed, never", rerun="never", after="claimed"),
    Journey("reclaim, claimed, if-not-started", after="claimed"),
    Journey("reclaim, started, if-not-started", after="started"),
    Journey("reclaim, started, always", rerun="always", after="started"),
    Journey("reclaim, withdrawn", withdrawn=True, rerun="always", after="claimed"),
    Journey("deliver again", after="kept"),
    Journey("deliver what is there", rerun="always", after="acked"),
    Journey("complete", after="committed"),
    Journey("late", after="kept", late=True),
    Journey("heir of a report", rerun="always", after="kept", heir=True),
    Journey("heir of a delivered report", rerun="always", after="acked", heir=True),
    Journey("heir of a started job", after="started", heir=True),
    Journey("shown as running", pictured=True),
    Journey("two near, if-not-started", second="near", fresh=True),
    Journey("two near, always", rerun="always", second="near"),
    Journey("two far, never", rerun="never", second="far"),
    Journey("two far, always", rerun="always", second="far"),
    Journey("two near, given back", act="stop", rerun="always", second="near"),
)

#: On each storage whose jobs outlive a process.
JOURNEYS = tuple(
    replace(each, storage=storage.name)
    for storage in STORAGES
    if storage.survives
    for each in _EVERYWHERE
    if each.after != "committed" or "committed" in storage.marks
    if not each.pictured or storage.picture is not None
)
