"""The smallest size at which the harness runs."""

from __future__ import annotations

from benchmarks.sizes import Sizes

TINY = Sizes(
    jobs=4,
    rounds=1,
    long_queue=6,
    long_rounds=1,
    long_first=2,
    samples=3,
    gap=(0.0, 0.01),
    idle=0.2,
    idle_sqooler=0.2,
    batches=2,
    batch=3,
    calm=0.1,
    traced=(2, 4),
    way_jobs=12,
    mongo_jobs=5,
    mongo_rounds=1,
    round_trips=(0.002,),
    daemons=(1, 2),
    daemon_rounds=1,
    daemon_round_trips=(0.0,),
    mongo_samples=2,
    mongo_gaps=0.0,
)
