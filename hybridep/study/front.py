"""Which trials are on the front while a study runs, on means alone; `analysis` does the statistics afterwards."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Point:
    """What one trial reached: mean and standard error of validation accuracy over seeds (test accuracy where nothing is held out).

    `collapsed` is the share of seeds that ended at chance.
    """

    strategy: str
    accuracy: float
    error: float
    nudged_phases: float
    collapsed: float = 0.0

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Point":
        """From a line of result.json."""
        column = "test_acc" if math.isnan(row["val_acc"]) else "val_acc"
        error = row[f"{column}_std"] / math.sqrt(len(row["config"]["seeds"]))
        return cls(row["config"]["strategy"], row[column], error, full_cost(row), row.get("collapsed", 0.0))


def full_cost(row: Mapping[str, Any]) -> float:
    """A trial's nudged phases; of one that was given up, those that training to the end would have taken: giving up saves nothing."""
    return float(row.get("nudged_phases_to_the_end", row["nudged_phases"]))


def front(points: Iterable[Point], slack: float = 0.0) -> list[Point]:
    """The points that no other beats in accuracy at the same nudged phases or fewer, cheapest first.

    A strategy that collapsed on some seed is not among them: its mean is that of two things.
    With `slack`, a point stays as long as its accuracy and so many standard errors are not beaten.

    >>> points = [Point("cheap", 0.90, 0.01, 100), Point("dear", 0.95, 0.01, 200), Point("beaten", 0.94, 0.02, 200)]
    >>> [point.strategy for point in front(points)]
    ['cheap', 'dear']
    >>> [point.strategy for point in front(points, slack=1.0)]
    ['cheap', 'dear', 'beaten']
    """
    kept: list[Point] = []
    best = -math.inf
    stable = [point for point in points if not point.collapsed]
    for point in sorted(stable, key=lambda point: (point.nudged_phases, -point.accuracy)):
        if point.accuracy + slack * point.error > best:
            kept.append(point)
            best = max(best, point.accuracy)
    return kept


def words(points: Sequence[Point], most: int = 4) -> str:
    """A front in a few words: its most accurate points, the best first."""
    shown = points[: -most - 1 : -1]
    text = ", ".join(f"{point.strategy} {point.accuracy:.1%} at {point.nudged_phases:,.0f}" for point in shown)
    return text if len(shown) == len(points) else f"{text} and {len(points) - len(shown)} cheaper"
