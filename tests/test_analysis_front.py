"""Fronts, hypervolume and attainment against what their definitions say, point by point."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analysis.front import (
    Reference,
    attainment,
    front_rank,
    hypervolume,
    hypervolume_progress,
    nondominance_probability,
    on_front,
    staircase,
)

# Few distinct values, so that ties and duplicates are common.
COORDINATE = st.integers(0, 8).map(lambda value: value / 8) | st.floats(0, 1, allow_subnormal=False)
POINTS = st.integers(1, 15).flatmap(lambda count: arrays(float, (count, 2), elements=COORDINATE))
REFERENCE = Reference(cost=0.9, accuracy=0.1)


def dominates(ours, theirs) -> bool:
    """No dearer and no less accurate, and one of the two better; points are (cost, accuracy)."""
    return ours[0] <= theirs[0] and ours[1] >= theirs[1] and (ours[0] < theirs[0] or ours[1] > theirs[1])


def area(points) -> float:
    """Dominated area inside the reference rectangle, cell by cell of the grid that the points span."""
    costs = sorted({0.0, REFERENCE.cost, *(cost for cost, _ in points if cost < REFERENCE.cost)})
    accuracies = sorted({REFERENCE.accuracy, 1.0, *(accuracy for _, accuracy in points if accuracy > REFERENCE.accuracy)})
    total = 0.0
    for left, right in pairwise(costs):
        for low, high in pairwise(accuracies):
            if any(cost <= left and accuracy >= high for cost, accuracy in points):
                total += (right - left) * (high - low)
    return total / (REFERENCE.cost * (1 - REFERENCE.accuracy))


@given(POINTS)
def test_the_front_is_what_no_point_dominates(points):
    mask = on_front(points[:, 0], points[:, 1])
    for point, member in zip(points, mask, strict=True):
        assert member == (not any(dominates(other, point) for other in points))


def test_a_strategy_without_a_number_is_on_no_front():
    assert on_front(np.array([1.0, np.nan, 3.0]), np.array([0.5, 0.9, np.nan])).tolist() == [True, False, False]
    assert on_front(np.array([np.nan]), np.array([0.5])).tolist() == [False]
    assert on_front(np.array([]), np.array([])).tolist() == []


@given(POINTS)
def test_ranks_peel_fronts_off_one_by_one(points):
    ranks = front_rank(points[:, 0], points[:, 1])
    for point, rank in zip(points, ranks, strict=True):
        above = [other_rank for other, other_rank in zip(points, ranks, strict=True) if dominates(other, point)]
        assert rank == (max(above) + 1 if above else 0)


@given(POINTS)
def test_hypervolume_is_the_dominated_share_of_the_reference_rectangle(points):
    assert hypervolume(points[:, 0], points[:, 1], REFERENCE) == pytest.approx(area(points), abs=1e-12)


@given(POINTS)
def test_hypervolume_over_trials_is_that_of_all_so_far(points):
    progress = hypervolume_progress(points[:, 0], points[:, 1], REFERENCE)
    for count, value in enumerate(progress, start=1):
        assert value == pytest.approx(area(points[:count]), abs=1e-12)


def test_a_strategy_without_a_number_leaves_the_hypervolume_as_it_was():
    progress = hypervolume_progress(np.array([0.5, np.nan, 0.2]), np.array([0.5, 0.9, 0.6]), REFERENCE)
    assert progress[1] == progress[0] < progress[2]


@given(POINTS)
def test_the_staircase_attains_what_the_points_attain(points):
    cost, accuracy = staircase(points[:, 0], points[:, 1])
    assert (np.diff(cost) > 0).all()
    assert (np.diff(accuracy) > 0).all()
    for at in points[:, 0]:
        assert accuracy[cost <= at].max() == points[points[:, 0] <= at, 1].max()


@given(
    st.integers(1, 5).flatmap(lambda seeds: st.integers(1, 6).flatmap(lambda count: arrays(float, (2, count, seeds), elements=COORDINATE)))
)
def test_attainment_is_what_so_many_seeds_reach(tables):
    costs, accuracies = tables
    seeds = costs.shape[1]
    for wanted in range(1, seeds + 1):
        corners = list(zip(*attainment(costs, accuracies, wanted), strict=True))
        for cost in np.unique(costs):
            for accuracy in np.unique(accuracies):
                reached = sum(bool(((costs[:, seed] <= cost) & (accuracies[:, seed] >= accuracy)).any()) for seed in range(seeds))
                attained = any(corner_cost <= cost and corner_accuracy >= accuracy for corner_cost, corner_accuracy in corners)
                assert attained == (reached >= wanted)


@given(st.integers(1, 8).flatmap(lambda count: arrays(float, (2, 6, count), elements=COORDINATE)))
def test_probability_of_being_on_the_front_counts_draws(drawn):
    costs, accuracies = drawn
    expected = np.zeros(costs.shape[1])
    for cost, accuracy in zip(costs, accuracies, strict=True):
        points = np.column_stack([cost, accuracy])
        expected += [not any(dominates(other, point) for other in points) for point in points]
    assert nondominance_probability(costs, accuracies) == pytest.approx(expected / len(costs))
