"""`Trainer`: what an epoch reports, what an update does to the weights, what seeds share, and that stopping changes nothing."""

import io
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from hybridep.config import InvalidInput, TrialConfig
from hybridep.datasets import Dataset, DatasetError, load
from hybridep.kernels import use_threads
from hybridep.mixture import Mixture
from hybridep.networks import make_network
from hybridep.nudging import Minibatch
from hybridep.phases import estimate
from hybridep.presets import PROTOCOLS, STRATEGIES
from hybridep.relaxation import FixedSteps
from hybridep.streams import stream
from hybridep.trainer import Trainer, learning_rate
from tests.oracle import table

COLUMNS = {
    "epoch": int,
    "updates": int,
    "p_std": float,
    "cheap_updates": int,
    "nudged_phases": int,
    "free_steps": float,
    "nudged_steps": float,
    "longest_cheap_run": int,
    "train_acc": float,
    "val_acc": float,
    "test_acc": float,
    "train_loss": float,
    "free_residual": float,
    "saturation": float,
    "agreement": float,
    "relative_bias": float,
    "collapsed": bool,
    "learning_rate": float,
    "epoch_seconds": float,
}
# 4 updates an epoch, the last of them with 4 samples.
SMALL = {"train_samples": 100, "test_samples": 60, "batch_size": 32, "sizes": (64, 24, 10), "epochs": 6, "T1": 8, "T2": 4}
CONV = {"network": "conv", "channels": (4, 6), "sizes": (10,), "activation": "hard_sigmoid"}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def small(**values) -> TrialConfig:
    return TrialConfig.create(**{**SMALL, **values})


def rows_of(trainer: Trainer, epochs: int) -> list[dict]:
    """The rows of so many epochs, without their seconds."""
    return [{name: value for name, value in trainer.train_epoch().items() if name != "epoch_seconds"} for _ in range(epochs)]


def saved_and_loaded(state: dict) -> dict:
    content = io.BytesIO()
    torch.save(state, content)
    content.seek(0)
    return torch.load(content, weights_only=True)


def weights(trainer: Trainer) -> list[bytes]:
    return [parameter.numpy().tobytes() for parameter in trainer.network.parameters]


# Costs


@pytest.mark.parametrize("protocol", ["mnist", "fashion-mnist"])
def test_nudged_phases_of_the_thesis_are_counted(protocol):
    config = PROTOCOLS[protocol]
    updates = math.ceil(60_000 / config.batch_size)

    def phases(name, seed):
        chosen = config.replace(**STRATEGIES[name])
        mixture = Mixture(chosen.cheap, chosen.accurate, chosen.draw, chosen.grain, seed)
        for p in chosen.policy.probabilities(chosen.epochs, updates, chosen.per):
            mixture.nudging(p, Minibatch(1, chosen.beta))
        return mixture.nudged_phases

    assert phases("standard", 42) == 23_450
    assert phases("centered", 42) == 46_900
    for name in ("cosine", "inverse_cosine", "stochastic"):
        assert phases(name, 42) == pytest.approx(35_175, rel=0.01)


@pytest.mark.parametrize("network", [{}, CONV], ids=["mlp", "conv"])
@pytest.mark.parametrize(
    "strategy", [{"skew": 1.0}, {"skew": 0.0}, {"family": "cosine"}, {"cheap": "random_sign", "accurate": "fourth_order"}], ids=str
)
def test_fixed_steps_cost_T1_an_update_and_T2_a_nudged_phase_in_full_and_partial_batches_alike(digits, network, strategy):
    config = small(**network, **strategy)
    trainer = Trainer(config, digits)
    for epoch, row in enumerate(rows_of(trainer, 3), start=1):
        accurate = row["updates"] - row["cheap_updates"]
        assert (row["epoch"], row["updates"]) == (epoch, 4 * epoch)
        assert row["nudged_phases"] == row["cheap_updates"] + config.accurate.nudged_phases * accurate
        assert row["free_steps"] == config.T1 * row["updates"]
        assert row["nudged_steps"] == config.T2 * row["nudged_phases"]
    if strategy in ({"skew": 1.0}, {"skew": 0.0}):
        assert row["nudged_phases"] == (12 if strategy["skew"] else 24)
        assert row["longest_cheap_run"] == (12 if strategy["skew"] else 0)


def test_adaptive_steps_are_those_that_samples_took_averaged_over_each_batch(digits):
    trainer = Trainer(small(relaxation="adaptive", T1=60, T2=30, tolerance=1e-3), digits)
    taken = {"free": [], "nudged": []}

    class Recorded:
        def free(self, dynamics):
            return self._relax("free", dynamics)

        def nudged(self, dynamics):
            return self._relax("nudged", dynamics)

        def _relax(self, phase, dynamics, policy=trainer.relaxation):
            equilibrium = getattr(policy, phase)(dynamics)
            taken[phase].append(equilibrium.steps.clone())
            return equilibrium

    trainer.phases.relaxation = Recorded()
    row = rows_of(trainer, 1)[0]
    sizes = [32, 32, 32, 4]
    assert row["free_steps"] == pytest.approx(sum(float(steps.mean()) for steps in taken["free"][:4]), rel=1e-6)
    nudged = sum(float(steps.sum()) / size for steps, size in zip(taken["nudged"], sizes, strict=True))
    assert row["nudged_steps"] == pytest.approx(nudged, rel=1e-6)
    assert 4 <= row["free_steps"] < 60 * 4


def test_drawn_by_sample_an_update_costs_the_rows_that_it_nudges(digits):
    config = small(cheap="part", cheap_part=0.25, grain="sample", skew=0.5)
    for row in rows_of(Trainer(config, digits), 2):
        assert row["nudged_phases"] < 2 * row["updates"]
        assert row["nudged_phases"] != int(row["nudged_phases"])
        assert row["nudged_steps"] == pytest.approx(config.T2 * row["nudged_phases"])
        assert 0 < row["cheap_updates"] < row["updates"]


@pytest.mark.parametrize(
    ("values", "phases"),
    [
        ({"family": "step", "skew": 0.5}, 36),
        ({"family": "step", "skew": 0.5, "cheap": "part", "cheap_part": 0.25}, 27),
        ({"family": "residual", "lowest": 0.5, "highest": 0.5}, 36),
    ],
)
def test_what_is_ahead_is_told_from_the_policy(digits, values, phases):
    trainer = Trainer(small(**values), digits)
    assert trainer.nudged_phases_ahead == phases
    while trainer.epoch < 6:
        trainer.train_epoch()
    assert trainer.nudged_phases_ahead == 0


@pytest.mark.parametrize(
    ("values", "measured"),
    [
        ({"family": "agreement", "threshold": 0.0}, True),
        ({"family": "constant", "cheap": "corrected"}, True),
        ({"family": "residual"}, False),
        ({"family": "constant", "skew": 1.0, "cheap": "corrected"}, False),
    ],
)
def test_agreement_is_measured_where_something_listens_and_an_update_is_accurate(digits, values, measured):
    row = Trainer(small(**values), digits).train_epoch()
    assert math.isfinite(row["agreement"]) == math.isfinite(row["relative_bias"]) == measured
    if measured:
        assert 0 < row["agreement"] <= 1
        assert row["relative_bias"] > 0


# Columns


@pytest.mark.parametrize("network", [{}, CONV, {**CONV, "cost": "cross_entropy"}], ids=["mlp", "conv", "cross_entropy"])
def test_an_epoch_reports_its_columns(digits, network):
    row = Trainer(small(validation=20, **network), digits).train_epoch()
    assert {name: type(value) for name, value in row.items()} == COLUMNS
    assert list(row) == list(COLUMNS)
    assert str(json.loads(json.dumps(row))) == str(row)
    # Nothing listens to them.
    assert math.isnan(row["agreement"])
    assert math.isnan(row["relative_bias"])
    assert all(0 <= row[name] <= 1 for name in ("p_std", "train_acc", "val_acc", "test_acc", "saturation"))
    assert row["epoch_seconds"] > 0


def test_p_std_and_learning_rate_are_those_of_the_epoch(digits):
    config = small(family="cosine", warmup_epochs=2, learning_rates=(0.06, 0.03))
    rows = rows_of(Trainer(config, digits), 6)
    assert [row["p_std"] for row in rows] == pytest.approx([0.5 * (1 + math.cos(math.pi * e / 6)) for e in range(6)])
    assert [row["learning_rate"] for row in rows] == [learning_rate(0.06, e, config) for e in range(6)]
    finer = rows_of(Trainer(config.replace(per="update"), digits), 6)
    expected = [np.mean([0.5 * (1 + math.cos(math.pi * (4 * e + u) / 24)) for u in range(4)]) for e in range(6)]
    assert [row["p_std"] for row in finer] == pytest.approx(expected)


@pytest.mark.parametrize("network", [{}, CONV, {**CONV, "cost": "cross_entropy"}], ids=["mlp", "conv", "cross_entropy"])
def test_with_learning_rate_zero_the_columns_describe_the_initial_network(digits, network):
    config = small(learning_rates=0.0, validation=30, dtype="float64", seed=5, **network)
    trainer = Trainer(config, digits)
    row = rows_of(trainer, 2)[1]
    untouched = make_network(config, stream(5, "initialisation"), torch.empty(0, dtype=torch.float64))
    assert all(torch.equal(a, b) for a, b in zip(trainer.network.parameters, untouched.parameters, strict=True))

    def measured(images, labels):
        pixels = (torch.from_numpy(images).double() / 255 - 0.3054) / 0.3757
        drive = untouched.input_drive(pixels)
        free = FixedSteps(8, 4).free(untouched.bind(drive, untouched.zeros(drive)))
        target = torch.nn.functional.one_hot(torch.from_numpy(labels), 10).double()
        scores = untouched.scores(free.state)
        losses = (
            0.5 * ((scores - target) ** 2).sum(dim=1) if config.network.cost == "mse" else -(target * scores.log_softmax(dim=1)).sum(dim=1)
        )
        accuracy = (scores.argmax(dim=1).numpy() == labels).mean()
        return accuracy, float(losses.mean()), float(free.residual.mean()), float(untouched.saturation(free.state))

    train, held_out = trainer.train_rows.numpy(), trainer.validation_rows.numpy()
    assert (len(train), len(held_out)) == (70, 30)
    assert sorted([*train, *held_out]) == list(range(100))
    accuracy, loss, residual, saturation = measured(digits.train_images[train], digits.train_labels[train])
    assert row["train_acc"] == pytest.approx(accuracy)
    assert row["train_loss"] == pytest.approx(loss, rel=1e-10)
    assert row["free_residual"] == pytest.approx(residual, rel=1e-8)
    assert row["saturation"] == pytest.approx(saturation, rel=1e-6)
    assert row["val_acc"] == pytest.approx(measured(digits.train_images[held_out], digits.train_labels[held_out])[0])
    assert row["test_acc"] == pytest.approx(measured(digits.test_images[:60], digits.test_labels[:60])[0])


def test_validation_accuracy_is_nan_where_nothing_is_held_out(digits):
    assert math.isnan(Trainer(small(), digits).train_epoch()["val_acc"])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"train_samples": 1438}, "train_samples 1438: must be 1 to 1437"),
        ({"validation": 100}, "validation 100: must be 0 to 99"),
        ({"test_samples": 361}, "test_samples 361: must be 1 to 360"),
    ],
)
def test_splits_that_do_not_fit_the_dataset_are_told_in_one_line(digits, values, words):
    with pytest.raises(DatasetError, match=words) as caught:
        Trainer(small(**values), digits)
    assert "\n" not in str(caught.value)


# Updates


@pytest.mark.parametrize("network", [{"learning_rates": (0.2, 0.05)}, {**CONV, "learning_rates": (0.3, 0.2, 0.1)}], ids=["mlp", "conv"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_an_update_is_gradient_descent_with_momentum_and_weight_decay_at_each_layers_own_rate(digits, network, momentum):
    config = small(train_samples=32, skew=0.0, momentum=momentum, weight_decay=1e-2, warmup_epochs=1, dtype="float64", beta=0.4, **network)
    trainer = Trainer(config, digits)
    reference = make_network(config, stream(config.seed, "initialisation"), torch.empty(0, dtype=torch.float64))
    x = (torch.from_numpy(digits.train_images[:32]).double() / 255 - 0.3054) / 0.3757
    target = torch.nn.functional.one_hot(torch.from_numpy(digits.train_labels[:32]), 10).double()
    relaxation = FixedSteps(8, 4)
    velocities = [torch.zeros_like(parameter) for parameter in reference.parameters]
    for epoch in range(4):
        trainer.train_epoch()
        drive = reference.input_drive(x)
        free = relaxation.free(reference.bind(drive, reference.zeros(drive)))
        gradient, _ = estimate(reference, relaxation, table("centered", 32, 0.4), x, drive, free, target)
        for index, (parameter, direction) in enumerate(zip(reference.parameters, gradient, strict=True)):
            velocities[index] = momentum * velocities[index] + (1e-2 * parameter - direction)
            parameter -= learning_rate(config.learning_rates[index // 2], epoch, config) * velocities[index]
        reference.refresh()
        for found, expected in zip(trainer.network.parameters, reference.parameters, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_a_network_learns_digits(digits):
    config = TrialConfig(skew=0.0, epochs=4)
    rows = rows_of(Trainer(config, digits), 4)
    assert rows[-1]["test_acc"] > 0.85
    assert rows[-1]["train_loss"] < 0.75 * rows[0]["train_loss"]
    assert not rows[-1]["collapsed"]


# Learning rate


def test_the_learning_rate_warms_up_in_a_line_and_falls_along_a_cosine():
    config = TrialConfig(epochs=10, warmup_epochs=2, eta_min=0.01)
    found = [learning_rate(0.09, epoch, config) for epoch in range(10)]
    assert found[:3] == pytest.approx([0.03, 0.06, 0.09])
    assert found[6] == pytest.approx((0.09 + 0.01) / 2)
    assert found[4] == pytest.approx(0.01 + 0.08 * (1 + math.sqrt(0.5)) / 2)
    # It would end on eta_min after the last epoch.
    assert learning_rate(0.09, 10, config) == pytest.approx(0.01)


def test_without_warm_up_the_learning_rate_is_that_of_pytorchs_cosine_annealing():
    config = PROTOCOLS["fashion-mnist"]
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.05)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=1e-5)
    for epoch in range(50):
        assert learning_rate(0.05, epoch, config) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("epochs", [5, 20])
def test_a_decay_of_its_own_length_is_pytorchs_however_long_the_run_and_stays_at_its_end(epochs):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.05)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8, eta_min=1e-5)
    config = TrialConfig(epochs=epochs, decay_epochs=8)
    for epoch in range(epochs):
        assert learning_rate(0.05, epoch, config) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9)
        if epoch < 8:
            optimizer.step()
            scheduler.step()


@pytest.mark.parametrize("base", [0.0, 1e-6])
def test_a_rate_below_eta_min_is_never_raised(base):
    assert {learning_rate(base, epoch, TrialConfig()) for epoch in range(15)} == {base}


# Collapse


@pytest.mark.parametrize("rate", [1e3, 1e20, 1e38])
@pytest.mark.parametrize("relaxation", ["fixed", "adaptive"])
@pytest.mark.parametrize(
    "network",
    [{}, {"activation": "hard_sigmoid"}, CONV, {**CONV, "cost": "cross_entropy", "pooling": "average"}],
    ids=["tanh", "hard_sigmoid", "conv", "cross_entropy"],
)
def test_an_absurd_learning_rate_is_a_result(digits, network, relaxation, rate):
    trainer = Trainer(small(learning_rates=rate, relaxation=relaxation, **network), digits)
    rows = rows_of(trainer, 3)
    assert [row["updates"] for row in rows] == [4, 8, 12]
    assert all(math.isfinite(row[name]) for row in rows for name in ("free_steps", "nudged_steps", "train_acc", "test_acc", "saturation"))
    assert trainer.diverged == (not all(np.isfinite(parameter.numpy()).all() for parameter in trainer.network.parameters))
    if rate > 1e3:
        assert trainer.diverged
        assert rows[-1]["collapsed"] is True
        assert rows[-1]["free_steps"] <= 8 * 12


@pytest.mark.parametrize("validation", [0, 40])
def test_collapse_is_judged_on_the_held_out_images_where_there_are_any(digits, validation):
    trainer = Trainer(small(train_samples=400, test_samples=None, validation=validation, epochs=20), digits)
    assert not rows_of(trainer, 8)[-1]["collapsed"]
    # Images that all look alike get one answer, whatever the network is worth.
    for images in (trainer.images, trainer.test_images):
        images.pixels = images.pixels.clone()
    images, rows = (trainer.images, trainer.validation_rows) if validation else (trainer.test_images, trainer.test_rows)
    images.pixels[rows] = 0
    assert trainer.train_epoch()["collapsed"] is True
    if validation:
        trainer.test_images.pixels[:] = 0
        images.pixels[rows] = torch.from_numpy(digits.train_images[rows.numpy()])
        assert trainer.train_epoch()["collapsed"] is False


def test_a_test_set_of_nearly_one_class_that_is_learnt_is_not_collapsed(digits):
    zeros, ones = (np.flatnonzero(digits.train_labels == digit) for digit in (0, 1))
    train, test = np.concatenate([zeros[:40], ones[:40]]), np.concatenate([zeros[40:137], ones[40:43]])
    dataset = Dataset.from_arrays(
        digits.info, *(part[rows] for rows in (train, test) for part in (digits.train_images, digits.train_labels))
    )
    row = rows_of(Trainer(small(train_samples=None, test_samples=None), dataset), 6)[-1]
    assert row["test_acc"] == 1.0 and row["collapsed"] is False


# What strategies of one seed share


def batches(config, dataset, updates=8):
    """The images and labels of the first updates, and the weights that they start from."""
    trainer, seen = Trainer(config, dataset), []
    start, plain = weights(trainer), trainer.images.batch

    def recorded(rows, crops=None):
        found = plain(rows, crops)
        seen.append((found[0].numpy().tobytes(), found[1].tolist()))
        return found

    trainer.images.batch = recorded
    for _ in range(2):
        trainer.train_epoch()
    return start, seen[:updates]


@pytest.mark.parametrize("network", [{}, CONV], ids=["mlp", "conv"])
def test_strategies_of_one_seed_start_from_the_same_weights_and_see_the_same_batches(digits, network):
    protocol = {"augment": True, "seed": 3, **network}
    reference = batches(small(skew=1.0, **protocol), digits)
    for strategy in (
        {"family": "cosine"},
        {"cheap": "random_sign", "accurate": "fourth_order", "draw": "spread"},
        {"cheap": "part", "cheap_by": "importance", "grain": "sample"},
        {"family": "agreement", "cheap": "corrected"},
        {"relaxation": "adaptive", "beta": 0.1},
    ):
        assert batches(small(**strategy, **protocol), digits) == reference
    start, seen = batches(small(**{**protocol, "seed": 4}), digits)
    assert start != reference[0]
    assert [labels for _, labels in seen] != [labels for _, labels in reference[1]]


def test_every_epoch_goes_through_every_image_once_in_an_order_of_its_own(digits):
    _, seen = batches(small(), digits)
    orders = [[label for _, labels in seen[at : at + 4] for label in labels] for at in (0, 4)]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(digits.train_labels[:100].tolist())
    assert orders[0] != orders[1]


def test_results_follow_from_the_configuration_alone(digits):
    config = small(family="cosine", cheap="random_sign", augment=True, seed=1)
    reference = rows_of(Trainer(config, digits), 3)
    torch.manual_seed(99)
    # Side by side with another seed, as the seeds of one trial are trained.
    one, other, again = Trainer(config, digits), Trainer(config.replace(seed=2), digits), []
    for _ in range(3):
        again += rows_of(one, 1)
        rows_of(other, 1)
        torch.rand(7)
    assert str(again) == str(reference)
    assert str(rows_of(Trainer(config.replace(seed=2), digits), 3)) != str(reference)


# Stopping and going on

RESUMED = {
    "mlp": {"family": "cosine"},
    "mlp, random sign, spread, augmented": {"cheap": "random_sign", "accurate": "second_order", "draw": "spread", "augment": True},
    "mlp, no momentum, per update, float64": {"momentum": 0.0, "family": "linear", "per": "update", "dtype": "float64"},
    "mlp, adaptive": {"relaxation": "adaptive", "T1": 40, "T2": 20, "sizes": (64, 20, 16, 10), "validation": 20},
    "mlp, adaptive p_std, corrected": {"family": "agreement", "cheap": "corrected", "threshold": 0.0},
    "mlp, part by importance, by sample, spread": {
        "cheap": "part",
        "cheap_by": "importance",
        "cheap_part": 0.3,
        "grain": "sample",
        "draw": "spread",
    },
    "conv, alternating, split sign, residual": {
        **CONV,
        "family": "residual",
        "cheap": "alternating",
        "accurate": "split_sign",
        "grain": "sample",
        "limit": 0.1,
    },
    "conv": {**CONV, "family": "inverse_cosine", "learning_rates": (0.1, 0.07, 0.05)},
    "conv, adaptive, random sign, augmented": {**CONV, "relaxation": "adaptive", "cheap": "random_sign", "skew": 1.0, "augment": True},
    "mlp, adaptive, from last": {"relaxation": "adaptive", "T1": 40, "start": "last", "sizes": (64, 20, 16, 10), "validation": 20},
    "conv, adaptive, from last": {**CONV, "relaxation": "adaptive", "T1": 40, "start": "last", "family": "cosine"},
    "conv, one channel, kernel 1, cross-entropy, spread": {
        **CONV,
        "channels": (1, 3),
        "kernel": 1,
        "padding": 0,
        "cost": "cross_entropy",
        "draw": "spread",
    },
}


@pytest.mark.parametrize(("name", "stop"), [*((name, 2) for name in RESUMED), ("mlp", 0), ("conv", 0), ("mlp", 1), ("conv", 3)])
def test_stopping_and_going_on_from_a_file_changes_no_bit(digits, name, stop):
    config = small(epochs=4, **RESUMED[name])
    undisturbed = Trainer(config, digits)
    expected = rows_of(undisturbed, 4)
    stopped = Trainer(config, digits)
    rows = rows_of(stopped, stop)
    resumed = Trainer(config, digits)
    # Whatever it went through before it is loaded is gone.
    rows_of(resumed, 1)
    resumed.load_state_dict(saved_and_loaded(stopped.state_dict()))
    assert resumed.epoch == stop
    rows += rows_of(resumed, 4 - stop)
    assert str(rows) == str(expected)
    assert weights(resumed) == weights(undisturbed)
    assert str(saved_and_loaded(resumed.state_dict())) == str(saved_and_loaded(undisturbed.state_dict()))


def test_products_of_numpy_take_one_thread_while_an_epoch_lasts_and_as_many_as_before_afterwards(digits, monkeypatch):
    def blas_threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    trainer, seen = Trainer(small(epochs=1), digits), []
    predictions = trainer._predictions
    monkeypatch.setattr(trainer, "_predictions", lambda *args: (seen.append(blas_threads()), predictions(*args))[1])
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        assert before == {2}
        trainer.train_epoch()
        assert blas_threads() == before
    assert seen == [{1}, {1}]


PROGRAM = """
import json, sys
import torch
from hybridep.config import TrialConfig
from hybridep.datasets import load
from hybridep.kernels import use_threads
from hybridep.trainer import Trainer
use_threads(1)
dataset = load("digits")
for path in sys.argv[1:]:
    kept = torch.load(path, weights_only=True)
    trainer = Trainer(TrialConfig.create(**json.loads(kept["config"])), dataset)
    trainer.load_state_dict(kept["trainer"])
    print(json.dumps([trainer.train_epoch() for _ in range(2)]))
    print(json.dumps([parameter.numpy().tobytes().hex() for parameter in trainer.network.parameters]))
"""


def test_another_process_goes_on_with_the_same_bits(digits, tmp_path):
    # The same bits take the same number of threads: convolutions and their gradients are summed in another order by others.
    use_threads(1)
    expected, paths = [], []
    for number, values in enumerate(RESUMED.values()):
        config = small(epochs=4, **values)
        trainer = Trainer(config, digits)
        rows_of(trainer, 2)
        paths.append(tmp_path / f"{number}.pt")
        torch.save({"config": json.dumps(config.flat("json")), "trainer": trainer.state_dict()}, paths[-1])
        rows = rows_of(trainer, 2)
        expected += [json.dumps(rows), json.dumps([content.hex() for content in weights(trainer)])]
    output = subprocess.run([sys.executable, "-c", PROGRAM, *map(str, paths)], check=True, capture_output=True, text=True).stdout
    found = output.splitlines()
    for at in range(0, len(found), 2):
        rows = [{name: value for name, value in row.items() if name != "epoch_seconds"} for row in json.loads(found[at])]
        found[at] = json.dumps(rows)
    assert found == expected


@pytest.mark.parametrize("network", [{}, CONV], ids=["mlp", "conv"])
def test_a_state_that_is_kept_in_memory_does_not_move_with_the_trainer(digits, network):
    config = small(family="cosine", augment=True, **network)
    trainer = Trainer(config, digits)
    rows_of(trainer, 2)
    state = trainer.state_dict()
    expected = rows_of(trainer, 2)
    for _ in range(2):
        resumed = Trainer(config, digits)
        resumed.load_state_dict(state)
        assert str(rows_of(resumed, 2)) == str(expected)


def test_there_is_nothing_to_train_after_the_last_epoch(digits):
    trainer = Trainer(small(epochs=1), digits)
    trainer.train_epoch()
    with pytest.raises(RuntimeError, match="all 1 epochs are trained"):
        trainer.train_epoch()


def test_a_precision_of_gpus_is_refused_on_cpus(digits):
    with pytest.raises(InvalidInput, match=r"^--precision tf32: needs a GPU \(the trainer is on cpu\)$"):
        Trainer(small(precision="tf32"), digits)


def test_a_state_of_another_strategy_is_refused(digits):
    state = Trainer(small(cheap="negative"), digits).state_dict()
    with pytest.raises(ValueError, match="cheap"):
        Trainer(small(), digits).load_state_dict(state)
