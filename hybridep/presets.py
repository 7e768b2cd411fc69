"""The thesis as data: its five strategies (section 3.1), its protocols (Tables 4 and 5) and its published results (Tables 1-3)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hybridep.config import TrialConfig

# What all strategies of the thesis have in common: whatever a study changes, these stay what they are called.
_THESIS: Final[dict[str, Any]] = {"per": "epoch", "cheap": "standard", "accurate": "centered", "draw": "bernoulli", "grain": "minibatch"}

# The five strategies in the thesis's order, as TrialConfig values.
STRATEGIES: Final[dict[str, dict[str, Any]]] = {
    "standard": {"family": "constant", "skew": 1.0, **_THESIS},
    "centered": {"family": "constant", "skew": 0.0, **_THESIS},
    "cosine": {"family": "cosine", "skew": 0.5, **_THESIS},
    "inverse_cosine": {"family": "inverse_cosine", "skew": 0.5, **_THESIS},
    "stochastic": {"family": "constant", "skew": 0.5, **_THESIS},
}

# What the collapse bench sets beside them: the other estimators of one nudged phase, at the same cost as `standard`.
ONE_SIDED: Final[dict[str, dict[str, Any]]] = {
    "alternating": {"family": "constant", "skew": 1.0, **_THESIS, "cheap": "alternating"},
    "split_sign": {"family": "constant", "skew": 1.0, **_THESIS, "cheap": "split_sign"},
    "random_sign": {"family": "constant", "skew": 1.0, **_THESIS, "cheap": "random_sign"},
    "negative": {"family": "constant", "skew": 1.0, **_THESIS, "cheap": "negative"},
}

# One nudged phase for a part of each minibatch: half and a quarter of the cost of `alternating`.
PARTIAL: Final[dict[str, dict[str, Any]]] = {
    "alternating_half": {**ONE_SIDED["alternating"], "cheap": "part", "cheap_part": 0.5, "cheap_of": "alternating"},
    "alternating_quarter": {**ONE_SIDED["alternating"], "cheap": "part", "cheap_part": 0.25, "cheap_of": "alternating"},
}

_TABLE_4: Final[dict[str, Any]] = {
    "network": "mlp",
    "activation": "tanh",
    "learning_rates": (0.05,),
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "eta_min": 1e-5,
    "batch_size": 128,
    "epochs": 50,
}

_CONVOLUTIONAL: Final[dict[str, Any]] = {
    "network": "conv",
    "kernel": 3,
    "padding": 1,
    "pooling": "max",
    "activation": "hard_sigmoid",
    "sizes": (10,),
    "std_factor": 3.0,
    "init_gain": 1.0,
    "momentum": 0.9,
    "weight_decay": 3e-4,
    "batch_size": 128,
    "beta": 0.35,
    "T2": 20,
}

# Clipped states, steps of half the way: Scellier and Bengio (2017). docs/hopfield.md has the search for the rest.
_HOPFIELD: Final[dict[str, Any]] = {
    "network": "graph",
    "dynamics": "energy",
    "step_size": 0.5,
    "activation": "unit_hard_sigmoid",
    "std_factor": 3.0,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "batch_size": 64,
}


@dataclass(frozen=True)
class Published:
    """A row of Tables 1-3: final test accuracy in percent, mean and standard deviation over seeds, and cumulative nudged phases."""

    accuracy: float
    deviation: float
    nudged_phases: int


@dataclass(frozen=True)
class Preset:
    """A protocol and what belongs to it.

    `tolerance` is that of Adaptive relaxation at which the centered gradient of a trained network is no worse than the protocol's own fixed
    steps give (`python studies/relaxation_benchmark.py --tolerances`), a little stricter than the loosest. `seeds` are those that its
    results are reported on, `published` the thesis's results by strategy where it has some, `title` what its table is called.
    """

    protocol: TrialConfig
    tolerance: float
    seeds: tuple[int, ...]
    title: str
    published: Mapping[str, Published] = field(default_factory=dict)


_MLP_SEEDS: Final = (42, 123, 456, 789, 1337)

PRESETS: Final[dict[str, Preset]] = {
    "digits": Preset(
        # β is where one-sided updates begin to fail on this network: it is their distribution over training that then decides.
        TrialConfig.create(dataset="digits", sizes=(64, 128, 10), beta=0.85),
        tolerance=1e-4,
        seeds=(0, 1, 2),
        title="Digits",
    ),
    "mnist": Preset(
        # The thesis calls the inputs' normalisation "Standard" and leaves the gain out. Of the readings that were tried, only that of the
        # published code which it extends, inputs in [0, 1] and PyTorch's own gain, gives its numbers (docs/results.md).
        TrialConfig.create(dataset="mnist", sizes=(784, 256, 10), T1=100, T2=20, beta=0.25, inputs="unit", init_gain=1.0, **_TABLE_4),
        tolerance=1e-6,
        seeds=_MLP_SEEDS,
        title="MNIST (thesis Table 1)",
        published={
            "standard": Published(94.73, 0.04, 23_450),
            "centered": Published(95.04, 0.32, 46_900),
            "cosine": Published(95.34, 0.17, 34_962),
            "inverse_cosine": Published(94.94, 0.27, 35_361),
            "stochastic": Published(95.05, 0.16, 35_164),
        },
    ),
    "fashion-mnist": Preset(
        # With PyTorch's own gain (1.0) the synchronous dynamics of this network oscillate.
        TrialConfig.create(dataset="fashion-mnist", sizes=(784, 256, 256, 10), T1=120, T2=12, beta=0.1, init_gain=0.5, **_TABLE_4),
        tolerance=2e-3,
        seeds=_MLP_SEEDS,
        title="Fashion-MNIST (thesis Table 2)",
        published={
            "standard": Published(88.60, 0.16, 23_450),
            "centered": Published(88.73, 0.17, 46_900),
            "cosine": Published(88.62, 0.15, 34_962),
        },
    ),
    "cifar10": Preset(
        TrialConfig.create(
            dataset="cifar10",
            channels=(32, 64, 128),
            T1=150,
            learning_rates=(0.10, 0.07, 0.05, 0.03),
            epochs=50,
            warmup_epochs=2,
            augment=True,
            crops="edge",  # as the published code pads them
            **_CONVOLUTIONAL,
        ),
        tolerance=5e-4,  # none was found that is as exact (0.30 against 0.08): sweeps end on other pooling choices than the thesis's steps
        seeds=(42, 123, 456),
        title="CIFAR-10, convolutional (thesis Table 3)",
        published={
            "standard": Published(14.91, 6.94, 19_550),
            "centered": Published(83.35, 0.28, 39_100),
            "cosine": Published(21.86, 16.57, 29_118),
            "inverse_cosine": Published(31.18, 15.47, 29_503),
            "stochastic": Published(49.32, 5.27, 29_321),
        },
    ),
    "fashion-conv": Preset(
        TrialConfig.create(
            dataset="fashion-mnist",
            train_samples=5120,
            test_samples=2000,
            channels=(16, 32),
            T1=30,
            learning_rates=(0.10, 0.07, 0.05),
            epochs=8,
            **_CONVOLUTIONAL,
        ),
        tolerance=5e-4,
        seeds=(1, 2, 3),
        title="Fashion-MNIST, convolutional (the collapse bench)",
    ),
    "hopfield-mnist": Preset(
        TrialConfig.create(
            dataset="mnist", sizes=(512, 10), T1=20, T2=10, beta=0.5, learning_rates=(0.1,), init_gain=0.7, epochs=10, **_HOPFIELD
        ),
        tolerance=1e-4,
        seeds=(1, 2, 3),
        title="MNIST, continuous Hopfield network",
    ),
    "hopfield-conv": Preset(
        TrialConfig.create(
            dataset="fashion-mnist",
            train_samples=20_000,
            test_samples=2_000,
            channels=(16, 32),
            kernel=5,
            padding=0,
            sizes=(10,),
            T1=60,
            T2=20,
            beta=0.25,
            learning_rates=(0.1, 0.05, 0.02),
            init_gain=0.6,
            epochs=8,
            **{**_HOPFIELD, "std_factor": 1.0, "weight_decay": 3e-4},
        ),
        tolerance=1e-3,
        seeds=(1, 2, 3),
        title="Fashion-MNIST, convolutional Hopfield network",
    ),
}

PROTOCOLS: Final[Mapping[str, TrialConfig]] = {name: preset.protocol for name, preset in PRESETS.items()}


def adapted(name: str, overrides: Mapping[str, Any]) -> TrialConfig:
    """The protocol `name` with overrides; where these ask for adaptive relaxation and give no tolerance, with the one measured for it.

    >>> adapted("digits", {"relaxation": "adaptive"}).tolerance
    0.0001
    """
    tolerance = {"tolerance": PRESETS[name].tolerance} if overrides.get("relaxation") == "adaptive" else {}
    return PRESETS[name].protocol.replace(**{**tolerance, **overrides})
