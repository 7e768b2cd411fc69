"""Adaptive policies: p_std follows what is measured, within its bounds; and what a trainer measures for them."""

import io
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybridep.config import InvalidInput, TrialConfig
from hybridep.datasets import load
from hybridep.policies import FAMILIES, AdaptivePolicy, Seen
from hybridep.presets import PROTOCOLS
from hybridep.trainer import Trainer

ADAPTIVE = [name for name, kind in FAMILIES.items() if issubclass(kind, AdaptivePolicy)]
BOUNDS = st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)).map(sorted)
SHORT = {"epochs": 3, "train_samples": 300, "validation": 60, "sizes": (64, 16, 10), "T1": 12, "T2": 5}


def begun(name, **fields):
    policy = FAMILIES.make(name, **fields)
    policy.begin(10, 20, "epoch")
    return policy


@pytest.mark.parametrize("name", ADAPTIVE)
@given(bounds=BOUNDS, values=st.lists(st.floats(-1, 1) | st.just(math.nan), max_size=30), memory=st.floats(1, 100))
def test_p_std_stays_within_its_bounds_whatever_is_measured(name, bounds, values, memory):
    lowest, highest = bounds
    policy = begun(name, lowest=lowest, highest=highest, memory=memory)
    for update, value in enumerate(values):
        assert lowest <= policy.p_std(update) <= highest
        policy.hear(Seen(residual=abs(value), agreement=value))
    if all(map(math.isnan, values)):
        assert policy.p_std(0) == lowest
    assert policy.known_mean is None


def test_agreement_raises_p_std_and_its_loss_lowers_it():
    policy = begun("agreement", threshold=0.5, lowest=0.1, highest=0.9, memory=1)
    policy.hear(Seen(agreement=1.0))
    assert policy.p_std(1) == pytest.approx(0.9)
    policy.hear(Seen(agreement=0.75))
    assert policy.p_std(2) == pytest.approx(0.5)
    policy.hear(Seen(agreement=0.2))
    assert policy.p_std(3) == pytest.approx(0.1)


def test_a_residual_that_grows_lowers_p_std_over_a_factor_of_ten():
    policy = begun("residual", limit=1e-3, lowest=0.2, highest=1.0, memory=1)
    for residual, p in ((1e-5, 1.0), (1e-3, 1.0), (1e-2, 0.2), (1.0, 0.2), (10**-2.5, 0.6)):
        policy.hear(Seen(residual=residual))
        assert policy.p_std(1) == pytest.approx(p)


@given(st.floats(1, 50), st.integers(1, 100))
def test_memory_is_the_time_constant_of_the_average(memory, updates):
    policy = begun("residual", limit=1.0, lowest=0.0, highest=1.0, memory=memory)
    policy.hear(Seen(residual=10.0))
    for _ in range(updates):
        policy.hear(Seen(residual=0.0))
    assert policy.state_dict()["mean"] == pytest.approx(10 * (1 - 1 / memory) ** updates)


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("agreement", {"lowest": 0.95}, ["lowest", "0.95", "0.9"]),
        ("agreement", {"highest": 1.0}, ["highest", "1.0", "less than 1"]),
        ("residual", {"limit": 0}, ["limit", "0", "greater than"]),
        ("residual", {"memory": 0.5}, ["memory", "0.5", "1"]),
        ("residual", {"skew": 0.5}, ["skew", "0.5", "family residual takes only"]),
    ],
)
def test_a_policy_out_of_range_is_told_in_one_line(name, fields, words):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as failure:
        FAMILIES.make(name, **fields)
    assert all(word in str(failure.value) for word in words)


@pytest.mark.parametrize("accurate", ["standard", "random_sign", "alternating", "negative"])
def test_agreement_needs_an_accurate_estimator_to_compare_with(accurate):
    with pytest.raises(InvalidInput, match=f"accurate {accurate}: family agreement compares standard with it"):
        PROTOCOLS["digits"].replace(family="agreement", accurate=accurate)
    for fine in ("centered", "second_order", "fourth_order"):
        assert PROTOCOLS["digits"].replace(family="agreement", accurate=fine).accurate.name == fine


# In training


def trainer(**flat):
    config = PROTOCOLS["digits"].replace(**SHORT, **flat)
    return Trainer(config, load("digits"))


@pytest.mark.parametrize("family", ADAPTIVE)
def test_training_tells_the_policy_what_it_measures_and_p_std_follows(family):
    run = trainer(family=family, seed=1)
    rows = [run.train_epoch() for _ in range(3)]
    assert all(0 <= row["p_std"] <= 0.9 for row in rows)
    assert rows[0]["p_std"] > 0
    assert all(math.isfinite(row["agreement"]) == (family == "agreement") for row in rows)
    counted = run.mixture.cheap_updates
    assert run.mixture.nudged_phases == 2 * run.mixture.updates - counted


def test_agreement_is_that_of_standard_with_centered_and_is_not_measured_where_nobody_listens():
    listening = trainer(family="agreement", lowest=0.0, highest=0.0, seed=2)
    deaf = trainer(family="constant", skew=0.0, seed=2)
    first, second = listening.train_epoch(), deaf.train_epoch()
    assert 0.5 < first["agreement"] < 1 and 0 < first["relative_bias"] < 1
    assert math.isnan(second["agreement"]) and math.isnan(second["relative_bias"])
    # Listening changes nothing: centered throughout, bit for bit.
    for ours, theirs in zip(listening.network.parameters, deaf.network.parameters, strict=True):
        assert torch.equal(ours, theirs)


STRATEGIES = {
    "agreement": {"family": "agreement"},
    "residual": {"family": "residual", "limit": 1e-4},
    "alternating": {"family": "constant", "skew": 0.7, "cheap": "alternating"},
    "split sign, by sample": {"family": "constant", "skew": 0.5, "cheap": "split_sign", "grain": "sample", "draw": "spread"},
    "corrected": {"family": "constant", "skew": 0.8, "cheap": "corrected", "cheap_memory": 10.0},
    "part of corrected": {"family": "constant", "skew": 1.0, "cheap": "part", "cheap_of": "corrected", "cheap_part": 0.5},
    "by importance": {"family": "linear", "cheap": "part", "cheap_part": 0.3, "cheap_by": "importance"},
}


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)
@pytest.mark.parametrize("relaxation", ["fixed", "adaptive"])
def test_a_run_that_is_stopped_and_restored_goes_on_bit_for_bit(strategy, relaxation):
    flat = {**strategy, "relaxation": relaxation, "seed": 3}
    whole, cut = trainer(**flat), trainer(**flat)
    whole_rows = [whole.train_epoch() for _ in range(3)]
    cut.train_epoch()
    file = io.BytesIO()
    torch.save(cut.state_dict(), file)
    restored = trainer(**flat)
    restored.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for expected in whole_rows[1:]:
        row = restored.train_epoch()
        for rows in (row, expected):
            rows.pop("epoch_seconds", None)
        assert all(row[name] == expected[name] or (math.isnan(row[name]) and math.isnan(expected[name])) for name in expected)
    for ours, theirs in zip(restored.network.parameters, whole.network.parameters, strict=True):
        assert torch.equal(ours, theirs)


def test_half_a_phase_is_counted_as_half_and_whole_numbers_stay_whole():
    run = trainer(family="constant", skew=1.0, cheap="part", cheap_part=0.5)
    row = run.train_epoch()
    assert row["nudged_phases"] == pytest.approx(run.mixture.updates / 2, rel=0.02)
    assert isinstance(trainer(family="constant", skew=1.0, cheap="alternating").train_epoch()["nudged_phases"], int)


def test_corrected_estimates_its_bias_from_updates_of_opposite_sign():
    """On one and the same minibatch the correction is exact: standard plus and minus become centered."""
    from hybridep.diagnostics import averaging_uses, free_phase
    from hybridep.estimators import ESTIMATORS
    from hybridep.networks import make_network
    from hybridep.relaxation import FixedSteps
    from hybridep.streams import stream

    config = TrialConfig.create(sizes=(64, 16, 10), dtype="float64")
    network = make_network(config, stream(0, "initialisation"), torch.empty(0, dtype=torch.float64))
    x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = torch.nn.functional.one_hot(torch.arange(8), 10).double()
    relaxation = FixedSteps(60, 40)
    with torch.no_grad():
        drive, free = free_phase(network, relaxation, x)
        arguments = (network, relaxation)
        rest = (0.3, x, drive, free, target)
        corrected = averaging_uses(*arguments, ESTIMATORS.make("corrected"), *rest)
        centered = averaging_uses(*arguments, ESTIMATORS.make("centered"), *rest)[0]
    for use in corrected:
        for found, expected in zip(use.gradient, centered.gradient, strict=True):
            np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-10)


def test_a_registry_knows_the_platforms_own_whatever_was_imported_before():
    code = "from hybridep.policies import FAMILIES; print(*FAMILIES)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120).stdout.split()
    assert shown[:3] == ["constant", "cosine", "inverse_cosine"] and set(ADAPTIVE) <= set(shown)
