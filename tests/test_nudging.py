"""Tables of nudgings: what every estimator's table must be, and that relaxing and summing its rows gives the sum over single samples."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybridep.draws import DRAWS
from hybridep.estimators import ESTIMATORS
from hybridep.mixture import Mixture
from hybridep.networks import MLP, ConvNet
from hybridep.nudging import Minibatch, Nudging
from hybridep.phases import estimate
from hybridep.relaxation import FixedSteps
from hybridep.streams import stream

FLOAT64 = torch.empty(0, dtype=torch.float64)
PARTS = st.fixed_dictionaries(
    {
        "part": st.floats(0.05, 1.0),
        "of": st.sampled_from(["alternating", "split_sign", "standard", "random_sign"]),
        "by": st.sampled_from(["uniform", "importance"]),
        "even": st.floats(0.05, 1.0),
    }
)


@st.composite
def estimators(draw):
    name = draw(st.sampled_from(list(ESTIMATORS)))
    return ESTIMATORS.make(name, **(draw(PARTS) if name == "part" else {}))


@st.composite
def minibatches(draw):
    n = draw(st.integers(1, 40))
    losses = np.array(draw(st.lists(st.sampled_from([0.0, 1e-9, 0.1, 3.0, 1e6]), min_size=n, max_size=n)))
    return Minibatch(n, draw(st.floats(0.01, 2.0)), draw(st.floats(0, 1, exclude_max=True)), lambda: losses, lambda: np.arange(n))


def table_of(estimator, minibatch, number=0):
    return estimator.nudging(minibatch, stream(5, "samples", number))


@given(estimators(), minibatches(), st.integers(0, 1000))
def test_weights_of_each_sample_sum_to_nothing_and_no_row_is_relaxed_for_nothing(estimator, minibatch, number):
    for _ in range(2):
        table = table_of(estimator, minibatch, number)
        assert np.abs(table.sums()).max() <= 1e-12 * np.abs(table.weight).max(initial=1.0)
        assert np.all(table.weight != 0) and np.all(table.beta != 0)
        assert len(table.rows) == len(table.beta) == len(table.weight)
        assert table.rows.min(initial=0) >= 0 and table.rows.max(initial=0) < minibatch.n


@given(estimators().filter(lambda estimator: estimator.averages_over > 0), minibatches())
def test_where_all_samples_are_nudged_the_slope_of_each_is_one_over_n(estimator, minibatch):
    np.testing.assert_allclose(table_of(estimator, minibatch).slopes(), 1 / minibatch.n, rtol=1e-9)


@given(PARTS, st.integers(2, 20), st.integers(0, 100))
def test_the_slope_of_each_sample_is_one_over_n_on_average_over_random_parts(fields, n, seed):
    """Within five standard errors of what the chances of the samples allow."""
    losses = np.random.default_rng(seed).uniform(0, 3, n)
    estimator = ESTIMATORS.make("part", **fields)
    minibatch = Minibatch(n, 0.3, 0.2, lambda: losses)
    slopes = np.array([n * table_of(estimator, minibatch, number).slopes() for number in range(600)])
    # A sample with chance p counts 1/p with probability p: a variance of 1/p - 1.
    chance = np.clip((slopes > 0).mean(axis=0), 1 / 600, 1)
    assert np.all(np.abs(slopes.mean(axis=0) - 1) <= 5 * np.sqrt((1 / chance - 1) / 600) + 0.05)


@given(PARTS.filter(lambda fields: fields["by"] == "importance"), minibatches())
def test_by_importance_no_weight_exceeds_its_bound(fields, minibatch):
    table = table_of(ESTIMATORS.make("part", **fields), minibatch)
    count = max(1, round(fields["part"] * minibatch.n))
    bound = 1 / (fields["even"] * count / minibatch.n)
    assert np.all(np.abs(table.weight * table.beta) * minibatch.n <= max(bound, 1) * (1 + 1e-9))
    assert len(table.rows) == count


@given(st.integers(1, 40), st.floats(0.05, 1.0))
def test_a_part_has_as_many_rows_as_it_says(n, part):
    table = table_of(ESTIMATORS.make("part", part=part, of="standard"), Minibatch(n, 0.5))
    assert len(table.rows) == len(set(table.rows.tolist())) == max(1, round(part * n))


def test_alternating_flips_with_each_use_and_split_sign_changes_its_halves():
    minibatch = Minibatch(5, 0.5)
    alternating, split = ESTIMATORS.make("alternating"), ESTIMATORS.make("split_sign")
    assert [set(np.sign(table_of(alternating, minibatch).beta)) for _ in range(4)] == [{1}, {-1}, {1}, {-1}]
    first, second = table_of(split, minibatch).beta, table_of(split, minibatch).beta
    assert np.sign(first).tolist() == [1, -1, 1, -1, 1]
    assert np.array_equal(first, -second)


# Against single samples


def network_of(kind, cost):
    generator = stream(3, "initialisation")
    if kind == "mlp":
        return MLP((20, 12, 9, 8, 4), "tanh", cost, 0.5, generator, FLOAT64), (1, 4, 5)
    shapes = [(2, 9, 8), (3, 4, 4), (4, 2, 2), (6,), (4,)]
    return ConvNet(shapes, 3, 1, 1, "max", "sigmoid", cost, 0.7, generator, FLOAT64), (2, 9, 8)


def batch_of(image, n):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, *image, generator=generator, dtype=torch.float64)
    return x, torch.nn.functional.one_hot(torch.arange(n) % 4, 4).double()


def gradient_of(network, nudging, x, target):
    relaxation = FixedSteps(12, 7)
    drive = network.input_drive(x)
    free = relaxation.free(network.bind(drive, network.zeros(drive), at_rest=True))
    return estimate(network, relaxation, nudging, x, drive, free, target)[0]


def mixed(n, grain, draw="bernoulli", cheap="split_sign", accurate="centered"):
    mixture = Mixture(ESTIMATORS.make(cheap), ESTIMATORS.make(accurate), DRAWS.make(draw), grain, seed=1)
    return mixture.nudging(0.6, Minibatch(n, 0.4))[0]


TABLES = {
    "mixed signs": lambda n: table_of(ESTIMATORS.make("split_sign"), Minibatch(n, 0.4)),
    "uniform part": lambda n: table_of(ESTIMATORS.make("part", part=0.4, of="split_sign"), Minibatch(n, 0.4)),
    "by importance": lambda n: table_of(
        ESTIMATORS.make("part", part=0.4, by="importance"), Minibatch(n, 0.4, losses=lambda: np.linspace(0.1, 2, n))
    ),
    "by sample": lambda n: mixed(n, "sample"),
    "by sample, spread": lambda n: mixed(n, "sample", "spread", accurate="fourth_order"),
    "two phases": lambda n: table_of(ESTIMATORS.make("second_order"), Minibatch(n, 0.4)),
    "any rows": lambda n: Nudging(
        n,
        np.array([3, 0, 3, 3]),
        np.array([0.2, -0.3, 0.5, 0.1]),
        np.array([1.0, 0.5, -2.0, 0.25]),
        np.array([-0.5, *[0.0] * 2, 0.75, *[0.0] * (n - 4)]),
    ),
    "no rows": lambda n: Nudging(n, np.empty(0, dtype=np.int64), np.empty(0), np.empty(0)),
}


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@pytest.mark.parametrize("cost", ["mse", "cross_entropy"])
@pytest.mark.parametrize("name", TABLES)
@torch.no_grad()
def test_the_gradient_of_a_table_is_the_sum_of_those_of_its_rows_alone(kind, cost, name):
    network, image = network_of(kind, cost)
    n = 10
    x, target = batch_of(image, n)
    table = TABLES[name](n)
    whole = gradient_of(network, table, x, target)
    total = [torch.zeros_like(part) for part in whole]
    for sample in range(n):
        own = table.rows == sample
        alone = Nudging(
            1,
            np.zeros(own.sum(), dtype=np.int64),
            table.beta[own],
            table.weight[own],
            None if table.free_weight is None else table.free_weight[[sample]],
        )
        single = gradient_of(network, alone, x[[sample]], target[[sample]])
        total = [one + other for one, other in zip(total, single, strict=True)]
    scale = max(float(part.abs().max()) for part in total)
    for found, expected in zip(whole, total, strict=True):
        assert float((found - expected).abs().max()) <= 1e-12 * max(scale, 1e-3)
    if name == "no rows":
        assert scale == 0


@pytest.mark.parametrize("kind", ["mlp", "conv"])
@torch.no_grad()
def test_whole_phases_take_the_short_way_to_the_same_gradient(kind):
    network, image = network_of(kind, "mse")
    x, target = batch_of(image, 8)
    for name in ("standard", "centered", "second_order", "fourth_order"):
        table = table_of(ESTIMATORS.make(name), Minibatch(8, 0.4))
        assert table.phases is not None
        long_way = Nudging(table.n, table.rows, table.beta, table.weight, table.free_weight)
        for found, expected in zip(gradient_of(network, long_way, x, target), gradient_of(network, table, x, target), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("by", ["uniform", "importance"])
@torch.no_grad()
def test_the_expectation_of_a_part_is_the_gradient_of_the_whole(by):
    """Over 10,000 draws, within four standard errors in every direction that is looked at."""
    network, image = network_of("mlp", "mse")
    n, draws = 12, 10_000
    x, target = batch_of(image, n)
    losses = np.linspace(0.05, 2.0, n)
    estimator = ESTIMATORS.make("part", part=0.4, of="standard", by=by)
    samples = []
    for sample in range(n):
        rows = np.array([0])
        alone = Nudging(1, rows, np.array([0.4]), np.array([1 / 0.4]), np.array([-1 / 0.4]))
        samples.append(torch.cat([part.flatten() for part in gradient_of(network, alone, x[[sample]], target[[sample]])]))
    each = torch.stack(samples).numpy()
    # A table's gradient is linear in its weights: of each sample, Σ weight · β times its own gradient at that β.
    slopes = np.array([table_of(estimator, Minibatch(n, 0.4, losses=lambda: losses), number).slopes() for number in range(draws)])
    directions = np.random.default_rng(0).normal(size=(each.shape[1], 20))
    projected = slopes @ (each @ directions)
    error = projected.std(axis=0, ddof=1) / math.sqrt(draws)
    expected = each.mean(axis=0) @ directions
    assert np.all(np.abs(projected.mean(axis=0) - expected) <= 4 * error)
    one = gradient_of(network, table_of(estimator, Minibatch(n, 0.4, losses=lambda: losses), 0), x, target)
    np.testing.assert_allclose(torch.cat([part.flatten() for part in one]).numpy(), slopes[0] @ each, atol=1e-12)


# By sample


@given(st.integers(1, 50), st.floats(0, 1), st.sampled_from(list(DRAWS)), st.integers(0, 200))
def test_a_mix_by_sample_counts_the_rows_that_it_relaxes(n, p, draw, seed):
    mixture = Mixture(ESTIMATORS.make("standard"), ESTIMATORS.make("centered"), DRAWS.make(draw), "sample", seed)
    table, accurate = mixture.nudging(p, Minibatch(n, 0.5))
    rows = np.bincount(table.rows, minlength=n)
    assert set(rows) <= {1, 2}
    assert mixture.nudged_phases * n == len(table.rows)
    assert mixture.cheap_updates * n == (rows == 1).sum()
    np.testing.assert_allclose(table.slopes(), 1 / n, rtol=1e-9)
    assert (accurate is None) == (rows == 1).all()
    if accurate is not None:
        assert np.array_equal(accurate.slopes() != 0, rows == 2)


def test_spread_by_sample_follows_p_over_all_samples():
    mixture = Mixture(ESTIMATORS.make("standard"), ESTIMATORS.make("centered"), DRAWS.make("spread"), "sample", 0)
    for _ in range(100):
        mixture.nudging(0.3, Minibatch(7, 0.5))
    assert abs(mixture.cheap_updates * 7 - 0.3 * 700) <= 0.5 + 1e-9


def test_standards_estimate_comes_from_the_states_of_a_centered_update():
    network, image = network_of("mlp", "mse")
    x, target = batch_of(image, 6)
    centered = table_of(ESTIMATORS.make("centered"), Minibatch(6, 0.4))
    one_sided = centered.one_sided(0.4)
    standard = table_of(ESTIMATORS.make("standard"), Minibatch(6, 0.4))
    with torch.no_grad():
        for found, expected in zip(gradient_of(network, one_sided, x, target), gradient_of(network, standard, x, target), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert table_of(ESTIMATORS.make("negative"), Minibatch(6, 0.4)).one_sided(0.4) is None
