"""Confidence from few seeds: intervals, joint draws and corrections against textbook results and by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from analysis.statistics import difference_interval, draw_means, holm, mean_interval

ACCURACIES = arrays(
    float, st.tuples(st.integers(1, 4), st.integers(2, 6)), elements=st.integers(0, 10_000).map(lambda value: value / 10_000)
)
COVERED = (0.92, 0.98)


def simulated(kind: str, seeds: int, runs: int = 20_000) -> tuple[np.ndarray, np.ndarray, float]:
    """Accuracies of two strategies on common seeds, [runs, seeds] each, and the true difference of their means.

    A seed's luck is shared by both strategies; `binomial` adds the sampling noise of 2,000 test images, `skewed` an occasional bad run.
    """
    rng = np.random.default_rng([seeds, len(kind)])
    luck = rng.normal(0, 0.010, (runs, seeds))
    ours, theirs = (level + luck + rng.normal(0, 0.005, (runs, seeds)) for level in (0.91, 0.90))
    if kind == "binomial":
        ours, theirs = (rng.binomial(2000, values) / 2000 for values in (ours, theirs))
    if kind == "skewed":
        ours, theirs = (values + 0.003 - rng.exponential(0.003, (runs, seeds)) for values in (ours, theirs))
    return ours, theirs, 0.01


def coverage(low: np.ndarray, high: np.ndarray, truth: float) -> float:
    return float(np.mean((low <= truth) & (truth <= high)))


@given(ACCURACIES)
def test_the_interval_of_a_mean_is_students(values):
    interval = mean_interval(values)
    for row, low, high in zip(values, interval.low, interval.high, strict=True):
        if np.ptp(row) == 0:
            assert low == pytest.approx(row[0])
            assert high == pytest.approx(row[0])
        else:
            expected = stats.ttest_1samp(row, 0).confidence_interval(0.95)
            assert (low, high) == pytest.approx(expected, abs=1e-9)


@given(ACCURACIES, st.integers(0, 100))
def test_a_difference_on_shared_seeds_is_paired(values, number):
    others = np.random.default_rng(number).permuted(values, axis=1) + 0.01 * np.arange(values.shape[1])
    interval, pairs = difference_interval(values, others)
    assert (pairs == values.shape[1]).all()
    for place, (ours, theirs) in enumerate(zip(values, others, strict=True)):
        if np.ptp(ours - theirs) > 1e-9:
            expected = stats.ttest_rel(ours, theirs)
            assert (interval.low[place], interval.high[place]) == pytest.approx(expected.confidence_interval(0.95), abs=1e-9)
            assert interval.p[place] == pytest.approx(expected.pvalue, abs=1e-9)


def test_only_the_seeds_that_both_have_are_paired():
    ours = np.array([[0.90, 0.92, 0.95, np.nan]])
    theirs = np.array([[0.89, 0.90, np.nan, 0.20]])
    interval, pairs = difference_interval(ours, theirs)
    assert pairs.tolist() == [2]
    assert interval.mean[0] == pytest.approx(0.015)


def test_strategies_without_common_seeds_are_compared_by_welch():
    ours = np.array([[0.90, 0.92, 0.91, np.nan, np.nan]])
    theirs = np.array([[np.nan, np.nan, np.nan, 0.80, 0.86]])
    interval, pairs = difference_interval(ours, theirs)
    expected = stats.ttest_ind([0.90, 0.92, 0.91], [0.80, 0.86], equal_var=False)
    assert pairs.tolist() == [0]
    assert (interval.low[0], interval.high[0]) == pytest.approx(expected.confidence_interval(0.95))
    assert interval.p[0] == pytest.approx(expected.pvalue)


def test_equal_differences_of_coarse_values_are_not_certain():
    image = 1 / 360
    ours, theirs = np.array([[0.90, 0.92]]) + image, np.array([[0.90, 0.92]])
    certain, _ = difference_interval(ours, theirs)
    assert certain.low[0] > 0
    interval, _ = difference_interval(ours, theirs, step=image)
    assert interval.mean[0] == pytest.approx(image)
    assert interval.low[0] < 0 < interval.p[0]
    spread = np.array([[0.80, 0.92]])
    assert difference_interval(spread, theirs, step=image)[0].low == difference_interval(spread, theirs)[0].low


def test_one_seed_gives_a_mean_but_no_interval():
    interval = mean_interval(np.array([[0.9, np.nan]]))
    assert interval.mean[0] == 0.9
    assert np.isnan([interval.low[0], interval.high[0], interval.p[0]]).all()


@pytest.mark.parametrize("kind", ["normal", "binomial", "skewed"])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_cover_what_they_claim(kind, seeds):
    ours, theirs, truth = simulated(kind, seeds)
    paired, _ = difference_interval(ours, theirs)
    single = mean_interval(ours)
    assert COVERED[0] <= coverage(paired.low, paired.high, truth) <= COVERED[1]
    assert COVERED[0] <= coverage(single.low, single.high, 0.91) <= COVERED[1]


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_of_different_seeds_cover_what_they_claim(seeds):
    ours, _, _ = simulated("binomial", seeds)
    theirs = simulated("normal", seeds)[1]
    missing = np.full_like(ours, np.nan)
    interval, pairs = difference_interval(np.hstack([ours, missing]), np.hstack([missing, theirs]))
    assert (pairs == 0).all()
    assert COVERED[0] <= coverage(interval.low, interval.high, 0.01) <= COVERED[1]


@pytest.mark.parametrize("seeds", [3, 5])
def test_limits_from_joint_draws_cover_what_they_claim(seeds):
    ours, theirs, truth = simulated("normal", seeds, runs=1500)
    drawn = draw_means([np.vstack([ours, theirs])], draws=1500)[0]
    differences = drawn[:, : len(ours)] - drawn[:, len(ours) :]
    low, high = np.quantile(differences, [0.025, 0.975], axis=0)
    assert COVERED[0] <= coverage(low, high, truth) <= COVERED[1]


def test_a_percentile_bootstrap_over_three_seeds_would_not_cover():
    ours, theirs, truth = simulated("normal", 3, runs=4000)
    picks = np.stack(np.meshgrid(*[range(3)] * 3), axis=-1).reshape(-1, 3)  # all 27 resamples
    means = (ours - theirs)[:, picks].mean(axis=2)
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    assert coverage(low, high, truth) < 0.85


def test_draws_agree_with_drawing_seed_by_seed():
    values = np.array([[0.90, 0.92, 0.97], [0.80, 0.85, np.nan], [0.70, np.nan, np.nan]])
    drawn = draw_means([values], draws=50, seed=3)[0]
    rng = np.random.default_rng(3)
    multipliers, quantiles = rng.standard_normal((50, 3)), rng.random(50)
    for draw, (multiplier, quantile) in enumerate(zip(multipliers, quantiles, strict=True)):
        for strategy, row in enumerate(values):
            known = row[np.isfinite(row)]
            count = len(known)
            moved = 0.0
            if count > 1:
                error = sum(m * (v - known.mean()) for m, v in zip(multiplier, row, strict=True) if np.isfinite(v)) / np.sqrt(
                    count * (count - 1)
                )
                moved = error * np.sqrt((count - 1) / stats.chi2.isf(quantile, count - 1))
            assert drawn[draw, strategy] == pytest.approx(known.mean() + moved)


def test_draws_keep_strategies_on_the_same_seeds_paired():
    one = np.array([0.90, 0.93, 0.91])
    drawn = draw_means([np.vstack([one, one - 0.02])], draws=200)[0]
    assert np.ptp(drawn[:, 0]) > 0.01
    assert drawn[:, 0] - drawn[:, 1] == pytest.approx(np.full(200, 0.02))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_agrees_with_its_definition(p_values):
    p = np.array([*p_values, np.nan])
    adjusted = holm(p)
    ordered = sorted(p_values)
    for value, result in zip(p_values, adjusted, strict=False):
        steps = [(len(ordered) - place) * smaller for place, smaller in enumerate(ordered) if smaller <= value]
        # equal p-values share the correction of the first of them or more
        assert result <= min(1, max(steps)) + 1e-12
        assert result >= min(1, max((len(ordered) - ordered.index(other)) * other for other in ordered if other <= value)) - 1e-12
    assert np.isnan(adjusted[-1])
