"""Medians, quantiles, and ratios that are taken within a round before anything else."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Run = TypeVar("Run")


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, smallest and largest of one figure over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Raises ValueError when there are no values."""
        if not values:
            raise ValueError("no round has this figure")
        return cls(statistics.median(values), min(values), max(values))


def ratio(
    rounds: Sequence[Mapping[str, Run]], of: str, to: str, figure: Callable[[Run], float]
) -> Spread:
    """The figure of one peer in parts of another's, round by round."""
    return Spread.of([figure(each[of]) / figure(each[to]) for each in rounds])


def over_rounds(
    rounds: Sequence[Mapping[str, Run]], of: str, figure: Callable[[Run], float]
) -> Spread:
    """The figure of one peer over all rounds."""
    return Spread.of([figure(each[of]) for each in rounds])


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that `part` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]
