"""Numbers of command lines at and beyond their limits: refused in one line before anything starts, or good for every later use."""

import importlib
import json
import math
import typing
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import numpy as np
import optuna
import pandas as pd
import pytest

from analysis.results import LARGEST
from analysis.tables import write_csv
from hybridep.cluster.status import NodeCapacity
from hybridep.config import (
    BETA_RANGE,
    MOST_IMAGES,
    MOST_RATE,
    MOST_SEED,
    TOLERANCE_RANGE,
    InvalidInput,
    TrialConfig,
)
from hybridep.datasets import load
from hybridep.presets import PROTOCOLS
from hybridep.streams import stream
from hybridep.study.checks import MOST_SEEDS, MOST_TRIALS, require, require_seeds
from hybridep.study.command_line import parse
from hybridep.study.description import as_json
from hybridep.study.events import HPARAMS, EventLog
from hybridep.study.plan import Plan
from hybridep.study.recorded import Diagnosis
from hybridep.trainer import Trainer

# A script: what makes work of its arguments, and what a command line of it needs.
SCRIPTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "schedule_sweep": ("plan", ()),
    "thesis_tables": ("plan", ("--table", "mnist")),
    "search_benchmark": ("searches", ()),
    "gradient_alignment": ("plan", ()),
    "bias_order": ("plan", ()),
    "relaxation_benchmark": ("check", ()),
    "thread_benchmark": ("configurations", ()),
    "memory_benchmark": ("configurations", ()),
    "overhead_benchmark": ("plan", ()),
}
# What an option needs beside it to mean something.
BESIDE: dict[str, tuple[str, ...]] = {
    "beta_range": ("--space", "schedule+nudge"),
    "grid": ("--search", "grid"),
    "tolerance": ("--relaxation", "adaptive"),
    "channels": ("--network", "conv", "--sizes", "10"),
    **dict.fromkeys(("kernel", "stride", "padding"), ("--network", "conv", "--channels", "4", "--sizes", "10")),
}
WHOLE = ("-1", "0", "1", "1000", "1000000", "2147483648", str(2**53), str(2**63 - 1), str(2**63), str(2**127), "9" * 5000)
REAL = ("-1.0", "0.0", "5e-324", "1e-300", "1e-9", "0.5", "1.0", "1e9", "1e38", "1e39", "1.7e308", "1e999", "-1e999", "nan")


def number_of(annotation: Any) -> tuple[type, int] | None:
    """int or float and how many of them, where an option takes numbers."""
    if get_origin(annotation) is Annotated:
        return number_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return next((found for part in get_args(annotation) if part is not NoneType and (found := number_of(part))), None)
    if get_origin(annotation) is tuple:
        inner = [part for part in get_args(annotation) if part is not Ellipsis]
        found = number_of(inner[0])
        return (found[0], len(inner)) if found else None
    return (annotation, 1) if annotation in (int, float) else None


def numbers(kind: Any, shared: bool) -> Iterator[tuple[str, type, int]]:
    """Every numeric option of a dataclass of arguments, and where `shared` those of the dataclasses inside it."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for option in fields(kind):
        annotation = hints[option.name]
        inner = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
        if is_dataclass(inner):
            yield from numbers(inner, shared) if shared else ()
        elif found := number_of(annotation):
            yield option.name, *found


def cases() -> Iterator[Any]:
    for script in SCRIPTS:
        module = importlib.import_module(f"studies.{script}")
        # What all scripts have in common is tried with one of them.
        for name, kind, count in numbers(module.Args, shared=script == "schedule_sweep"):
            yield pytest.param(script, name, kind, count, id=f"{script}-{name}")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def can_be_used(args: Any, made: Any, tmp_path: Path) -> None:
    """What studies do later with arguments and plans: write them, count with them, search around them, show them."""
    if isinstance(made, dict):
        for part in made.values():
            can_be_used(args, part, tmp_path)
        return
    if hasattr(args, "resources"):
        share = args.resources.share([NodeCapacity(10**6, 8)]) if (args.resources.gpus_per_trial or 0) <= 1 else None
        assert share is None or share.slots([NodeCapacity(10**6, 8)]) >= 1
    if not isinstance(made, (Plan, Diagnosis)):
        return
    assert json.loads(json.dumps(as_json(args), allow_nan=False))
    protocol = made.protocol
    assert TrialConfig.create(**json.loads(json.dumps(protocol.flat("json"), allow_nan=False))) == protocol
    fresh = getattr(made, "fresh_seeds", ())
    rows = pd.DataFrame([{**protocol.columns(), "seed": seed} for seed in (*made.seeds, *fresh)])
    assert rows["seed"].dtype == np.int64 and rows["seed"].astype(float).nunique() == len(rows)
    write_csv(rows, tmp_path / "trials.csv")
    back = pd.read_csv(tmp_path / "trials.csv")
    assert back["seed"].tolist() == rows["seed"].tolist() and back["T1"].tolist() == rows["T1"].tolist()
    for seed in (*made.seeds, *fresh)[:3]:
        stream(seed, "order")
    # Steps of a training on as many images as any dataset has, in minibatches of one: analysis knows no larger number.
    assert protocol.epochs * 10**6 * (protocol.T1 + 2 * protocol.T2) <= LARGEST
    assert len(protocol.policy.fresh().describe())
    labels = {"trial": "x", "strategy": "x", "origin": "thesis", "seeds": list(made.seeds)}
    log = EventLog(tmp_path / "events", labels, protocol.flat("json"), dict.fromkeys(HPARAMS, True))
    log.close(complete=True)
    if isinstance(made, Plan) and made.search:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for _ in range(5):
            protocol.replace(**made.search.space(study.ask()))
        for trial in made.fixed:
            made.search.space.point(protocol, trial.overrides)


@pytest.mark.parametrize(("script", "name", "kind", "count"), list(cases()))
def test_every_number_is_refused_in_one_line_or_good_for_every_later_use(
    script: str, name: str, kind: type, count: int, tmp_path: Path
) -> None:
    module = importlib.import_module(f"studies.{script}")
    work, needed = SCRIPTS[script]
    make: Callable[[Any], Any] = getattr(module, work)
    option, refusals = f"--{name.replace('_', '-')}", []
    for number, value in enumerate(WHOLE if kind is int else REAL):
        for values in {(value,) * count, *({("0", value), (value, "1")} if count == 2 else ())}:
            try:
                args = parse(module.Args, [*needed, *BESIDE.get(name, ()), option, *values])
                made = make(args)
            except InvalidInput as refusal:
                refusals.append(str(refusal))
                continue
            folder = tmp_path / str(number)
            folder.mkdir(exist_ok=True)
            can_be_used(args, made, folder)
    assert all("\n" not in refusal and len(refusal) < 12_000 for refusal in refusals)
    assert refusals, f"{option} takes whatever number it is given"


ENDS = [
    *(("std_factor", value) for value in (1e-12, 1e6)),
    *(("init_gain", value) for value in (1e-12, 1e6)),
    *(("beta", value) for value in BETA_RANGE),
    *(("learning_rates", value) for value in (0.0, MOST_RATE)),
    *(("weight_decay", value) for value in (0.0, 1e6)),
    *(("eta_min", value) for value in (0.0, MOST_RATE)),
    *(("batch_size", value) for value in (1, MOST_IMAGES)),
    ("seed", MOST_SEED),
]


@pytest.mark.parametrize(("name", "value"), ENDS)
def test_training_at_the_ends_of_a_range_is_a_result(name: str, value: float) -> None:
    config = PROTOCOLS["digits"].replace(train_samples=40, test_samples=40, epochs=1, T1=4, T2=2, **{name: value})
    row = Trainer(config, load("digits")).train_epoch()
    assert 0 <= row["test_acc"] <= 1 and isinstance(row["collapsed"], bool)
    assert all(math.isfinite(row[column]) for column in ("updates", "nudged_phases", "free_steps", "nudged_steps"))


@pytest.mark.parametrize("tolerance", TOLERANCE_RANGE)
def test_relaxation_at_the_ends_of_tolerance_ends(tolerance: float) -> None:
    small = {"train_samples": 40, "test_samples": 40, "epochs": 1, "T1": 20, "T2": 5}
    row = Trainer(PROTOCOLS["digits"].replace(**small, relaxation="adaptive", tolerance=tolerance), load("digits")).train_epoch()
    assert 0 < row["free_steps"] <= 20 * row["updates"]


def test_confirmation_needs_seeds_above_those_of_the_search() -> None:
    require_seeds((MOST_SEED - 3,), fresh=3)
    with pytest.raises(InvalidInput, match=f"^--seeds {MOST_SEED - 2}: must be different numbers from 0 to {MOST_SEED - 3}$"):
        require_seeds((MOST_SEED - 2,), fresh=3)
    with pytest.raises(InvalidInput, match=r"^--seeds: 1,001 seeds are given, must be at most 1,000$"):
        require_seeds(range(MOST_SEEDS + 1))


def test_a_range_is_told_with_its_reason() -> None:
    require("trials", MOST_TRIALS, 1, MOST_TRIALS)
    with pytest.raises(InvalidInput, match=r"^--trials 100,001: must be 1 to 100,000, as an example$"):
        require("trials", MOST_TRIALS + 1, 1, MOST_TRIALS, "as an example")
    with pytest.raises(InvalidInput, match=r"^--trials nan: must be 1 to 100,000$"):
        require("trials", math.nan, 1, MOST_TRIALS)


def test_networks_that_no_machine_holds_are_refused_before_anything_starts() -> None:
    for values in ({"sizes": (64, 10**6, 10**6, 10)}, {"sizes": (64, 10**8, 10)}):
        with pytest.raises(InvalidInput, match="must have at most"):
            PROTOCOLS["digits"].replace(**values)
    conv = {"network": "conv", "sizes": (10,)}
    for values in (
        {"channels": (10**6, 10**6)},
        {"channels": (4,), "padding": 1000, "stride": 1, "pooling": "none"},
        {"channels": (10**7,)},
    ):
        with pytest.raises(InvalidInput, match="must have at most"):
            PROTOCOLS["digits"].replace(**conv, **values)
