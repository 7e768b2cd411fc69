"""Confidence from few seeds: intervals for means and differences, joint bootstrap draws of all means, and Holm's correction.

A percentile bootstrap over three to five seeds covers far less than it claims. Everything here therefore rests on Student's t: for one
mean, for a difference paired over shared seeds, and, drawn jointly for all strategies at once, as a multiplier bootstrap whose multipliers
belong to seeds (so that strategies that share seeds stay paired) and whose scale has the spread of t.
"""

from typing import NamedTuple

import numpy as np
from scipy import special

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """Estimates with their limits and two-sided p-values against 0, arrays of one shape. NaN where one seed says nothing about spread."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


def mean_interval(values: np.ndarray, least: float = 0.0) -> Interval:
    """Student's t interval of each row's mean; values [strategies, seeds], NaN where a strategy has no such seed.

    The deviation over seeds counts as `least` where it is smaller.
    """
    count = np.isfinite(values).sum(axis=-1)
    mean, variance = _moments(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _interval(mean, np.sqrt(np.maximum(variance, least**2) / count), count - 1.0)


def difference_interval(ours: np.ndarray, theirs: np.ndarray, step: float = 0.0) -> tuple[Interval, np.ndarray]:
    """Interval of mean(ours) − mean(theirs), and over how many seeds it is paired; arrays [pairs, seeds], NaN for missing seeds.

    `step` is the least by which values can differ. Differences of a few seeds are often equal when they are coarse, which does not make
    them certain: their deviation counts as at least that of two rounding errors, step / √6.

    Paired over the seeds that both have, where there are at least two; the difference is then over these seeds alone. Otherwise, from
    seeds that differ, Welch's interval, and 0 stands for the number of pairs.
    """
    ours, theirs = np.broadcast_arrays(np.atleast_2d(ours), np.atleast_2d(theirs))
    shared = np.isfinite(ours - theirs).sum(axis=-1)
    paired = mean_interval(ours - theirs, least=step / np.sqrt(6))
    welch = _welch_interval(ours, theirs, least=step / np.sqrt(12))
    enough = shared >= 2
    chosen = Interval(*(np.where(enough, one, other) for one, other in zip(paired, welch, strict=True)))
    return chosen, np.where(enough, shared, 0)


def draw_means(tables: list[np.ndarray], draws: int, seed: int = 0) -> list[np.ndarray]:
    """Joint bootstrap draws of the means of every strategy, one array [draws, strategies] for each table [strategies, seeds].

    Each draw gives every seed one Gaussian multiplier, common to all strategies and tables, and one χ² scale per number of seeds. For
    normal seeds, any contrast of strategies on the same seeds is then distributed as its (paired) t interval says. A strategy with one
    seed stays at its value.
    """
    rng = np.random.default_rng(seed)
    multipliers = rng.standard_normal((draws, tables[0].shape[1]))
    quantile = rng.random(draws)
    drawn = []
    for values in tables:
        present = np.isfinite(values)
        count = present.sum(axis=1)
        mean, _ = _moments(values)
        freedom = np.maximum(count - 1, 1)
        residual = np.where(present, values - mean[:, None], 0.0) / np.sqrt(np.maximum(count, 1) * freedom)[:, None]
        scale = {df: np.sqrt(df / special.chdtri(df, quantile)) for df in np.unique(freedom)}
        stretch = np.stack([scale[df] for df in freedom], axis=1) if len(scale) > 1 else scale[freedom[0]][:, None]
        drawn.append(mean + (multipliers @ residual.T) * stretch)
    return drawn


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment of p-values; NaN entries are no tests and stay NaN."""
    adjusted = np.full(p.shape, np.nan)
    tests = np.flatnonzero(np.isfinite(p))
    order = tests[np.argsort(p[tests], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased variance along the last axis over finite values; variance NaN for one value, both NaN for none."""
    present = np.isfinite(values)
    count = present.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(present, values, 0.0).sum(axis=-1) / count
        squares = np.where(present, values - mean[..., None], 0.0) ** 2
        variance = np.where(count > 1, squares.sum(axis=-1) / (count - 1), np.nan)
    return mean, variance


def _welch_interval(ours: np.ndarray, theirs: np.ndarray, least: float) -> Interval:
    counts = [np.isfinite(values).sum(axis=-1) for values in (ours, theirs)]
    moments = [_moments(values) for values in (ours, theirs)]
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.maximum(variance, least**2) / count for (_, variance), count in zip(moments, counts, strict=True)]
        total = parts[0] + parts[1]
        freedom = total**2 / sum(part**2 / (count - 1) for part, count in zip(parts, counts, strict=True))
        freedom = np.where(total == 0, counts[0] + counts[1] - 2.0, freedom)
        return _interval(moments[0][0] - moments[1][0], np.sqrt(total), freedom)


def _interval(mean: np.ndarray, error: np.ndarray, freedom: np.ndarray) -> Interval:
    """t interval from a standard error and degrees of freedom, p-value of the hypothesis that the mean is 0."""
    width = special.stdtrit(freedom, (1 + CONFIDENCE) / 2) * error
    statistic = np.abs(mean) / error
    p = np.where(error == 0, np.where(mean == 0, 1.0, 0.0), 2 * special.stdtr(freedom, -statistic))
    unknown = ~(freedom > 0) | ~np.isfinite(error)
    return Interval(mean, *(np.where(unknown, np.nan, value) for value in (mean - width, mean + width, p)))
