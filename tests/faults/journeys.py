"""The journeys of one job that the kill points are collected from."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Journey:
    """One job from its submission to its end, by the daemon that is going to die.

    `act` is what the handler does, `rerun` the device's policy. `withdrawn`: the submitter has
    cancelled the job before. `after`: an earlier daemon has died in this journey, right after
    the job was "claimed", "started", its report "kept", or its end "committed" (`World.marks`).
    `late`: that daemon's job was ended by
    another one meanwhile. `second`: another daemon serves the same queue, and is alive while
    the first one dies. `fresh`: the storage and the state are new, so that every folder has to be
    made first, and the points of its opening are tried too. `looks`: calls
    that only look are points too. `storage` is a folder, or MongoDB with one of the ways in which
    it ends a job.
    """

    name: str
    storage: str = "folder"
    act: str = "done"
    rerun: str = "if-not-started"
    withdrawn: bool = False
    after: str = ""
    late: bool = False
    second: bool = False
    looks: bool = False
    fresh: bool = False


POLICIES = ("never", "if-not-started", "always")

FOLDER = (
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
    Journey("complete", after="committed"),
    Journey("late", after="kept", late=True),
    Journey("two daemons, never", rerun="never", second=True),
    Journey("two daemons, if-not-started", second=True, fresh=True),
    Journey("two daemons, always", rerun="always", second=True),
    Journey("two daemons, given back", act="stop", rerun="always", second=True),
)


def _mongodb(kind: str, *names: str) -> tuple[Journey, ...]:
    return tuple(
        replace(each, name=f"MongoDB {kind}, {each.name}", storage=kind)
        for each in FOLDER
        if each.name in names
    )


#: Servers differ in nothing but the end of a job: see SERVERS in tests/storage/mongo_bench.py.
MONGODB = (
    *_mongodb(
        "new",
        *(each.name for each in FOLDER if each.name not in {"complete", "done, always"}),
    ),
    *_mongodb("old", "done, if-not-started", "error", "complete", "two daemons, if-not-started"),
)

JOURNEYS = (*FOLDER, *MONGODB)
