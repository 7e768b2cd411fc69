"""What the library makes can be pickled and deep-copied, as joblib, multiprocessing and `ray.put` do, and what trains goes on alike."""

import copy
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest
import torch

import hybridep
from hybridep.config import TrialConfig
from hybridep.datasets import DATASETS, Dataset, load, split
from hybridep.deciding import Record, Runs, follow
from hybridep.estimators import ESTIMATORS, Estimator, stencil
from hybridep.estimators.stencils import Standard
from hybridep.extensions import Extension
from hybridep.graphs import Graph
from hybridep.images import Crops
from hybridep.nudging import Minibatch
from hybridep.policies import Policy, Seen
from hybridep.presets import PROTOCOLS, STRATEGIES
from hybridep.registry import REGISTRIES, Entry
from hybridep.stack import StackTrainer
from hybridep.study.command_line import parse
from hybridep.trainer import Trainer
from studies import schedule_sweep

COPIES: dict[str, Callable[[Any], Any]] = {"pickle": lambda thing: pickle.loads(pickle.dumps(thing)), "deepcopy": copy.deepcopy}
CONV: dict[str, Any] = {"network": "conv", "sizes": (10,), "channels": (2, 3), "activation": "hard_sigmoid", "cost": "cross_entropy"}
TRAINED: dict[str, dict[str, Any]] = {
    "mlp, fixed steps": {},
    "mlp, spread draws, adaptive": {"draw": "spread", "relaxation": "adaptive", "tolerance": 1e-3, "sizes": (64, 16, 12, 10)},
    "mlp, from the last equilibria": {"start": "last", "relaxation": "adaptive", "tolerance": 1e-3},
    "conv, max pooling, augmented": {**CONV, "augment": True},
    "conv, average pooling": {**CONV, "pooling": "average", "activation": "unit_hard_sigmoid"},
    "conv, no pooling, on top a layer": {
        **CONV,
        "pooling": "none",
        "sizes": (12, 10),
        "activation": "centered_hard_sigmoid",
        "cost": "mse",
    },
    "graph, energy": {
        "network": "graph",
        "channels": (2,),
        "sizes": (6, 10),
        "skip": ("x:y",),
        "lateral": ("h1",),
        "dynamics": "energy",
    },
    "graph, primitive": {"network": "graph", "sizes": (6, 10)},
}
ENTRIES = {f"{registry.kind} {name}": entry for registry in REGISTRIES for name, entry in registry.items() if issubclass(entry, Entry)}
MINIBATCH = Minibatch(4, 0.5)
# What some of them must be given.
FIELDS: dict[str, dict[str, Any]] = {"family piecewise": {"knots": ((0.0, 1.0), (0.5, 0.2))}}
# Public classes that nothing below holds an object of: what passes by, or is a dataclass of numbers and tensors that was measured.
NOT_KEPT = {
    "Blocks",
    "Probe",
    "Sample",
    "Stacks",
    "Stage",
    "Table",
    "OwnArrays",
    "Registry",
    "Slot",
    "Source",
    "States",
    "Use",
    "Reference",
    "Agreement",
    "Alignment",
    "Bias",
    "Biases",
    "PowerLaw",
}
# Ray's own, or held by a running process: they have files, locks and connections.
ELSEWHERE = ("hybridep.trainable", "hybridep.durable", "hybridep.study", "hybridep.cluster", "hybridep.storage", "hybridep.checkpoints")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def trainer(digits: Dataset, **changes: Any) -> Trainer:
    small = {"train_samples": 96, "test_samples": 40, "validation": 20, "T1": 6, "T2": 3, "epochs": 4, "sizes": (64, 16, 10)}
    return Trainer(PROTOCOLS["digits"].replace(**{**STRATEGIES["stochastic"], **small, "momentum": 0.9, **changes}), digits)


def modules() -> Iterator[Any]:
    for found in pkgutil.walk_packages(hybridep.__path__, "hybridep."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def public_classes(module: Any) -> list[type]:
    own = [thing for name, thing in vars(module).items() if inspect.isclass(thing) and not name.startswith("_")]
    return [thing for thing in own if thing.__module__ == module.__name__]


def below(thing: Any, seen: set[int]) -> Iterator[Any]:
    """The thing and all that it holds."""
    if id(thing) in seen or isinstance(thing, (torch.Tensor, np.ndarray, str, type)):
        return
    seen.add(id(thing))
    yield thing
    held = [*thing.keys(), *thing.values()] if isinstance(thing, dict) else list(thing) if isinstance(thing, (list, tuple, set)) else []
    for part in [*held, *getattr(thing, "__dict__", {}).values(), *(getattr(thing, own.name) for own in own_fields(thing))]:
        yield from below(part, seen)


def own_fields(thing: Any) -> tuple[Any, ...]:
    return fields(thing) if is_dataclass(thing) and not isinstance(thing, type) else ()


@pytest.fixture(scope="module")
def kept(digits: Dataset) -> dict[str, Any]:
    """An object of each kind that a user of the library may keep."""
    made: dict[str, Any] = {name: trainer(digits, **changes) for name, changes in TRAINED.items()}
    for name in TRAINED:
        own = made[name]
        own.train_epoch()
        x, _ = own.images.batch(own.train_rows[:5])
        drive = own.network.input_drive(x)
        dynamics = own.network.bind(drive, own.network.zeros(drive))
        made[f"{name}: dynamics"], made[f"{name}: equilibrium"] = dynamics, own.relaxation.free(dynamics)
    for name, entry in ENTRIES.items():
        made[name] = entry.create(**FIELDS.get(name, {}))
        if isinstance(made[name], Policy):
            made[name].begin(4, 3, "epoch")
        elif isinstance(made[name], Estimator):
            made[f"{name}: table"] = made[name].nudging(MINIBATCH, np.random.default_rng(0))
    made["minibatch"], made["measured"] = MINIBATCH, Seen(residual=0.1)
    made["stencil"] = stencil("centered")
    made["extension"] = Extension("ideas.py", "", "")
    made["wiring"] = Graph(channels=(2,)).wiring(DATASETS["digits"])
    made["stack"] = StackTrainer([trainer(digits, seed=seed) for seed in (0, 1)])
    made["crops"] = Crops(3, np.random.default_rng(0), torch.device("cpu"), "edge")
    made["record"] = record = Record("centered", ("a",), (), (1, 2), (0.01,), (0.5,))
    made["runs"] = runs = [Runs(name, np.linspace(0.8, 0.9, 5), np.full(5, cost), np.zeros(5)) for name, cost in (("b", 2.0), ("a", 1.0))]
    made["decided"] = follow(runs[0], runs[1:], [], record.questions, 5)
    return {**made, "dataset": digits, "splits": split(digits), "datasets": DATASETS, "protocols": PROTOCOLS,
            "configuration": TrialConfig(), "published": importlib.import_module("hybridep.presets").PRESETS}  # fmt: skip


def test_every_public_class_of_the_library_is_looked_at_here(kept: dict[str, Any]) -> None:
    reached = {base for thing in below(kept, set()) for base in type(thing).__mro__}
    public = {kind for module in modules() if not module.__name__.startswith(ELSEWHERE) for kind in public_classes(module)}
    others = {kind for kind in public if getattr(kind, "_is_protocol", False) or issubclass(kind, BaseException)}
    assert {kind.__name__ for kind in public - reached - others} == NOT_KEPT


@pytest.mark.parametrize("way", COPIES)
def test_all_that_a_user_may_keep_can_be_copied(kept: dict[str, Any], way: str) -> None:
    for name, thing in kept.items():
        try:
            twin = COPIES[way](thing)
        except Exception as error:
            pytest.fail(f"{name}: {error}")
        assert type(twin) is type(thing)


@pytest.mark.parametrize("way", COPIES)
def test_arguments_can_be_copied_with_options_that_an_extension_brought(way: str) -> None:
    arguments, known = schedule_sweep.Args, dict(ESTIMATORS)
    plain = parse(arguments, ["--epochs", "3"])
    assert COPIES[way](plain) == plain
    try:

        class Halved(Standard, name="halved"):
            """An estimator with a field of its own."""

            halves: int = 2

        brought = parse(arguments, ["--cheap", "halved", "--cheap-halves", "3"])
        assert COPIES[way](brought) == brought and brought.options["cheap_halves"] == 3
    finally:
        ESTIMATORS.restore(known)


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("name", TRAINED)
def test_a_trainer_and_its_copy_train_on_alike(digits: Dataset, name: str, way: str) -> None:
    first = trainer(digits, **TRAINED[name])
    first.train_epoch()
    started = [parameter.clone() for parameter in first.network.parameters]
    second = COPIES[way](first)
    rows = []
    for own in (second, first):  # the copy first: it must not move the original
        assert all(map(torch.equal, own.network.parameters, started))
        rows.append([{**own.train_epoch(), "epoch_seconds": 0} for _ in range(2)])
    assert rows[0] == rows[1]
    assert all(map(torch.equal, first.network.parameters, second.network.parameters))
    assert not all(map(torch.equal, first.network.parameters, started))


def exceptions() -> list[type[BaseException]]:
    return [kind for module in modules() for kind in public_classes(module) if issubclass(kind, BaseException)]


@pytest.mark.parametrize("kind", exceptions(), ids=lambda kind: kind.__name__)
def test_an_exception_survives_the_way_out_of_another_process(kind: type[BaseException]) -> None:
    twin = pickle.loads(pickle.dumps(kind("beta -1: must be above 0")))
    assert (type(twin), str(twin)) == (kind, "beta -1: must be above 0")
