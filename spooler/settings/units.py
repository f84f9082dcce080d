"""Durations and sizes as people write them; storages take them too, so they live there."""

from spooler.storage.units import (
    DURATION_HINT,
    SIZE_HINT,
    Duration,
    Size,
    as_duration,
    as_size,
    duration,
    size,
)

__all__ = [
    "DURATION_HINT",
    "SIZE_HINT",
    "Duration",
    "Size",
    "as_duration",
    "as_size",
    "duration",
    "size",
]
