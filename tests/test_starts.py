"""Warm starts: where each sample's free phase begins, what that saves, and what it costs in memory."""

import pytest
import torch

from hybridep.config import TrialConfig
from hybridep.datasets import Dataset, load
from hybridep.presets import PROTOCOLS
from hybridep.starts import FromLast
from hybridep.study.start_memory import kept_bytes
from hybridep.trainer import Trainer

SMALL = {
    "train_samples": 100,
    "test_samples": 60,
    "batch_size": 32,
    "epochs": 4,
    "T1": 60,
    "T2": 20,
    "relaxation": "adaptive",
    "start": "last",
}
NETWORKS = {
    "mlp": {"sizes": (64, 24, 16, 10)},
    "conv": {"network": "conv", "channels": (4, 6), "sizes": (10,), "activation": "hard_sigmoid"},
    "graph": {"network": "graph", "channels": (3,), "sizes": (12, 10), "skip": ("c1:y",), "lateral": ("h1",), "activation": "hard_sigmoid"},
    "energy": {"network": "graph", "sizes": (12, 10), "dynamics": "energy", "activation": "unit_hard_sigmoid"},
    "cross-entropy": {"network": "conv", "channels": (4,), "sizes": (12, 10), "pooling": "average", "cost": "cross_entropy"},
}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def small(network: str, **values) -> TrialConfig:
    return TrialConfig.create(**{**SMALL, **NETWORKS[network], **values})


def rows_of(trainer: Trainer, epochs: int) -> list[dict]:
    return [{name: value for name, value in trainer.train_epoch().items() if name != "epoch_seconds"} for _ in range(epochs)]


def images_seen(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]]:
    """For each minibatch trained on: its images, and the state that its free phase began and ended with, layer by layer."""
    seen = []
    network, policy = trainer.network, trainer.relaxation

    class Recorded:
        nudged = staticmethod(policy.nudged)

        def free(self, dynamics):
            start = [block.clone() for block in dynamics.state]
            end = policy.free(dynamics)
            layers = [[layer.clone() for layer in network.layer_states(state)] for state in (start, end.state)]
            seen.append((drives.pop(), *layers))
            return end

    drives: list[torch.Tensor] = []
    monkeypatch.setattr(network, "input_drive", lambda x, plain=network.input_drive: (drives.append(x.clone()), plain(x))[1])
    monkeypatch.setattr(trainer.phases, "relaxation", Recorded())
    return seen


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("relaxation", ["fixed", "adaptive"])
def test_every_image_starts_where_it_came_to_rest_an_epoch_ago(digits, monkeypatch, network, relaxation):
    trainer = Trainer(small(network, relaxation=relaxation), digits)
    monkeypatch.setattr(trainer, "_predictions", lambda images, rows: (images.labels[rows].numpy(),) * 2)
    monkeypatch.setattr("hybridep.trainer.rising_share", lambda *_: 0.0)  # a free phase of test images, too
    seen = images_seen(trainer, monkeypatch)
    rows_of(trainer, 3)
    assert len(seen) == 12
    last: dict[bytes, list[torch.Tensor]] = {}
    for epoch in range(3):
        for x, start, end in seen[4 * epoch : 4 * epoch + 4]:
            for sample, image in enumerate(x):
                before = last.get(image.numpy().tobytes())
                for layer, units in enumerate(start):
                    expected = torch.zeros_like(units[sample]) if before is None else before[layer]
                    torch.testing.assert_close(units[sample], expected, rtol=1e-3, atol=1e-6)
                last[image.numpy().tobytes()] = [units[sample] for units in end]
        assert len(last) == 100


@pytest.mark.parametrize("network", NETWORKS)
def test_the_first_epoch_is_that_of_zeros(digits, network):
    first, again = (rows_of(Trainer(small(network, start=start), digits), 2) for start in ("last", "zeros"))
    assert str(first[0]) == str(again[0])
    assert str(first[1]) != str(again[1])


def test_a_free_phase_near_its_end_takes_fewer_steps(digits):
    warm, cold = (rows_of(Trainer(small("conv", start=start, train_samples=400, epochs=4), digits), 4) for start in ("last", "zeros"))
    saved = [(later["free_steps"] - earlier["free_steps"]) for run in (warm, cold) for earlier, later in [(run[0], run[3])]]
    assert saved[0] < 0.75 * saved[1]


def test_evaluation_starts_from_zeros(digits):
    trainer = Trainer(small("conv"), digits)
    rows_of(trainer, 2)
    fresh = Trainer(small("conv", start="zeros"), digits)
    for own, trained in zip(fresh.network.parameters, trainer.network.parameters, strict=True):
        own.copy_(trained)
    fresh.network.refresh()
    for found, expected in zip(
        trainer._predictions(trainer.test_images, trainer.test_rows), fresh._predictions(fresh.test_images, fresh.test_rows), strict=True
    ):
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("epochs", [0, 2])
def test_a_trial_goes_on_from_the_state_of_one_that_kept_no_equilibria(digits, epochs):
    plain = Trainer(small("mlp", start="zeros"), digits)
    rows_of(plain, epochs)
    warm = Trainer(small("mlp"), digits)
    rows_of(warm, 1)
    warm.load_state_dict(plain.state_dict())
    # From zeros once more, and from the equilibria of that epoch in the next.
    assert str(rows_of(warm, 1)) == str(rows_of(plain, 1))
    assert str(rows_of(warm, 1)) != str(rows_of(plain, 1))


def test_augmented_images_have_no_last_equilibrium():
    with pytest.raises(ValueError, match="start last: must be zeros with augment"):
        PROTOCOLS["cifar10"].replace(start="last")


@pytest.mark.parametrize("network", NETWORKS)
def test_memory_is_what_is_said_before(digits, network):
    trainer = Trainer(small(network), digits)
    assert isinstance(trainer.starts, FromLast)
    assert kept_bytes(small(network), 100) == trainer.starts.nbytes > 0
    state = trainer.state_dict()["starts"]
    assert sum(block.nbytes for block in state["kept"]) == trainer.starts.nbytes
