"""How much is measured: all of it, or a quick look."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of jobs, rounds and samples; times in seconds."""

    #: Short drain: so many jobs, and rounds of all peers.
    jobs: int = 500
    rounds: int = 5
    #: Long drain. sqooler looks at every waiting job for each job: it does only the first ones.
    long_queue: int = 10_000
    long_rounds: int = 3
    long_first: int = 300
    #: Pickup: samples, and the shortest and longest random gap between two of them.
    samples: int = 300
    gap: tuple[float, float] = (0.05, 0.25)
    #: Idle: how long it is watched (less than two announce intervals), and sqooler likewise.
    idle: float = 110.0
    idle_sqooler: float = 20.0
    announce_interval: float = 60.0
    #: Memory: batches of so many jobs; measured after each.
    batches: int = 5
    batch: int = 2000
    #: How long after the last job a daemon counts as idle, for memory and idle.
    calm: float = 2.0
    #: Counts: two runs of so many jobs; their difference holds no start-up.
    traced: tuple[int, int] = (50, 150)
    #: Way: jobs in the queue; the one in the middle is looked at.
    way_jobs: int = 40
    #: MongoDB: jobs in the queue (the server of the tests is slow when many wait), rounds, and
    #: the round-trip times that are added (seconds).
    mongo_jobs: int = 100
    mongo_rounds: int = 3
    round_trips: tuple[float, ...] = (0.0, 0.002, 0.02)
    #: Several daemons: how many, in how many rounds, at which added round-trip times.
    daemons: tuple[int, ...] = (1, 4, 8)
    daemon_rounds: int = 3
    daemon_round_trips: tuple[float, ...] = (0.0, 0.02)
    #: Pickup on MongoDB: samples, and by how much the gaps between two are shortened.
    mongo_samples: int = 100
    mongo_gaps: float = 1.0


FULL = Sizes()
QUICK = Sizes(
    jobs=100,
    rounds=2,
    long_queue=1000,
    long_rounds=1,
    long_first=50,
    samples=30,
    idle=20.0,
    idle_sqooler=5.0,
    announce_interval=10.0,
    batch=100,
    traced=(10, 30),
    mongo_jobs=40,
    mongo_rounds=1,
    daemon_rounds=1,
    mongo_samples=20,
)
