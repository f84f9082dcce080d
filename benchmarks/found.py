"""What has been measured so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.conditions import Phase
from benchmarks.drain import Rounds
from benchmarks.idle import Idle
from benchmarks.mongo_drain import Drains
from benchmarks.mongo_drain import Rounds as MongoRounds
from benchmarks.mongo_pickup import Latencies as MongoLatencies
from benchmarks.pickup import Latencies
from benchmarks.running import Memory
from benchmarks.way import Way


@dataclass(slots=True)
class Found:
    """Figures by measurement; None is not measured, and `failed` says why, if there is a why."""

    short: Rounds | None = None
    long: Rounds | None = None
    pickup: dict[str, Latencies] | None = None
    idle: dict[str, Idle] | None = None
    memory: dict[int, Memory] | None = None
    counts: dict[str, dict[str, float]] | None = None
    way: dict[str, Way] | None = None
    mongo: list[Drains] | None = None
    mongo_daemons: dict[float, MongoRounds] | None = None
    mongo_pickup: dict[str, MongoLatencies] | None = None
    phases: dict[str, Phase] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
