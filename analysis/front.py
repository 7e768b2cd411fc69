"""Pareto fronts of accuracy (up) and cost (down), the hypervolume they cover, and what they attain over seeds."""

from dataclasses import dataclass

import moocore
import numpy as np

MINIMISE_COST_MAXIMISE_ACCURACY = [False, True]


@dataclass(frozen=True)
class Reference:
    """The corner that hypervolume is measured from: a cost that no strategy should exceed, and the accuracy of guessing."""

    cost: float
    accuracy: float


def on_front(cost: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Which strategies no other one dominates, [strategies]. Equal ones are all on the front; a NaN is on none."""
    known = np.isfinite(cost) & np.isfinite(accuracy)
    mask = np.zeros(len(cost), dtype=bool)
    if known.any():
        points = np.column_stack([cost, accuracy])[known]
        mask[known] = moocore.is_nondominated(points, maximise=MINIMISE_COST_MAXIMISE_ACCURACY, keep_weakly=True)
    return mask


def front_rank(cost: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """0 on the front, 1 on the front once that is taken away, and so on, [strategies]; the last rank for NaN."""
    known = np.isfinite(cost) & np.isfinite(accuracy)
    rank = np.full(len(cost), len(cost))
    if known.any():
        points = np.column_stack([cost, accuracy])[known]
        rank[known] = moocore.pareto_rank(points, maximise=MINIMISE_COST_MAXIMISE_ACCURACY)
    return rank


def hypervolume(cost: np.ndarray, accuracy: np.ndarray, reference: Reference) -> float:
    """Share of the rectangle between no cost, perfect accuracy and the reference that is dominated, in [0, 1]."""
    better = (cost < reference.cost) & (accuracy > reference.accuracy)
    if not better.any():
        return 0.0
    points = np.column_stack([cost[better], accuracy[better]])
    corner = [reference.cost, reference.accuracy]
    area = float(moocore.hypervolume(points, ref=corner, maximise=MINIMISE_COST_MAXIMISE_ACCURACY))
    return area / (reference.cost * (1 - reference.accuracy))


def hypervolume_progress(cost: np.ndarray, accuracy: np.ndarray, reference: Reference) -> np.ndarray:
    """Hypervolume after the first, the first two, ... of the strategies, [strategies]."""
    progress = np.zeros(len(cost))
    front = np.empty((0, 2))
    value = 0.0
    for place, point in enumerate(zip(cost, accuracy, strict=True)):
        covered = (front[:, 0] <= point[0]) & (front[:, 1] >= point[1])
        if np.isfinite(point).all() and not covered.any():
            front = np.vstack([front[~((front[:, 0] >= point[0]) & (front[:, 1] <= point[1]))], point])
            value = hypervolume(front[:, 0], front[:, 1], reference)
        progress[place] = value
    return progress


def staircase(cost: np.ndarray, accuracy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the region that the points attain, cheapest first: for each cost, the best accuracy at that cost or less."""
    mask = on_front(cost, accuracy)
    order = np.argsort(cost[mask], kind="stable")
    corners = np.unique(np.column_stack([cost[mask][order], accuracy[mask][order]]), axis=0)
    return corners[:, 0], corners[:, 1]


def attainment(cost: np.ndarray, accuracy: np.ndarray, attained_in: int) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the region that at least `attained_in` of the seeds attain, cheapest first; cost and accuracy [strategies, seeds].

    Exact empirical attainment function over seeds, with a seed's set of strategies as one outcome.
    """
    seeds = cost.shape[1]
    parts = []
    for seed in range(seeds):
        mask = on_front(cost[:, seed], accuracy[:, seed])  # dominated points attain nothing that others do not
        parts.append(np.column_stack([cost[mask, seed], -accuracy[mask, seed], np.full(mask.sum(), seed + 1)]))
    points = np.vstack(parts)
    surface = moocore.eaf(points[:, :2], points[:, 2], percentiles=[100 * attained_in / seeds])
    surface = surface[np.argsort(surface[:, 0])]
    return surface[:, 0], -surface[:, 1]


def nondominance_probability(costs: np.ndarray, accuracies: np.ndarray) -> np.ndarray:
    """Share of the draws in which each strategy is on the front, [strategies]; drawn means [draws, strategies]."""
    hits = np.zeros(costs.shape[1])
    for cost, accuracy in zip(costs, accuracies, strict=True):
        hits += on_front(cost, accuracy)
    return hits / len(costs)
