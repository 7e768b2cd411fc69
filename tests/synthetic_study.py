"""Makes study folders in the format that studies write, from an invented but plausible law of training; no network is trained.

As a script it makes large ones for timing: `python tests/synthetic_study.py <folder> --trials 10000 --epochs 20 --seeds 0 1 2`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

UPDATES = 45  # per epoch
T1, T2 = 30, 10
PROTOCOL: dict[str, Any] = {
    "dataset": "digits", "train_samples": None, "validation": 200, "std_factor": 1.0, "augment": False,
    "network": "mlp", "sizes": [64, 128, 10], "channels": [], "kernel": 3, "stride": 1, "padding": 1, "pooling": "max",
    "activation": "tanh", "init_gain": 0.5, "cost": "mse",
    "family": "constant", "skew": 0.5, "rising": None, "cycles": None, "knots": None, "per": "epoch",
    "cheap": "standard", "accurate": "centered", "draw": "bernoulli", "grain": "minibatch",
    "beta": 1.0, "relaxation": "fixed", "T1": T1, "T2": T2, "tolerance": None,
    "epochs": 15, "batch_size": 32, "learning_rates": [0.05], "momentum": 0.9, "weight_decay": 1e-4, "eta_min": 1e-5, "warmup_epochs": 0,
    "seed": 0, "dtype": "float32",
}  # fmt: skip
THESIS: dict[str, dict[str, Any]] = {
    "standard": {"family": "constant", "skew": 1.0},
    "centered": {"family": "constant", "skew": 0.0},
    "cosine": {"family": "cosine", "skew": 0.5},
    "inverse_cosine": {"family": "inverse_cosine", "skew": 0.5},
    "stochastic": {"family": "constant", "skew": 0.5},
}
SHARED = ("epoch", "updates", "p_std", "learning_rate")


def p_std(config: Mapping[str, Any], epochs: int) -> np.ndarray:
    """Probability of the cheap estimator in each epoch, [epochs]."""
    progress, skew = np.arange(epochs) / epochs, float(config["skew"])
    shapes = {
        "constant": np.full(epochs, skew),
        "cosine": (1 + np.cos(np.pi * progress)) * skew,
        "inverse_cosine": (1 - np.cos(np.pi * progress)) * skew,
        "linear": 2 * skew * (progress if config.get("rising") else 1 - progress),
        "step": (progress < skew).astype(float),
    }
    return np.clip(shapes[config["family"]], 0, 1)


def epoch_columns(config: Mapping[str, Any], seed: int, epochs: int, collapses: bool = False) -> dict[str, np.ndarray]:
    """What one seed reports, as arrays [epochs]. Long one-sided runs and large nudges cost accuracy; some strategies collapse."""
    rng = np.random.default_rng([seed, int(1000 * config["skew"]), len(config["family"]), int(1000 * config["beta"])])
    luck = np.random.default_rng(seed).normal(0, 0.006)  # what a seed gives to every strategy alike
    p = p_std(config, epochs)
    draws = rng.random((epochs, UPDATES)) < p[:, None]
    cheap = np.cumsum(draws.sum(axis=1))
    updates = UPDATES * np.arange(1, epochs + 1)
    run, longest, runs = 0, 0, []
    for epoch in draws:
        for draw in epoch:
            run = run + 1 if draw else 0
            longest = max(longest, run)
        runs.append(longest)
    damage = (
        0.10 * config["beta"] * p.mean() ** 2
        + 0.05 * config["beta"] * min(1, longest / (UPDATES * epochs))
        + 0.03 * (config["beta"] - 0.5) ** 2
    )
    level = 0.95 - damage + luck + rng.normal(0, 0.004)
    accuracy = level - (level - 0.1) * np.exp(-4 * np.arange(1, epochs + 1) / epochs) + rng.normal(0, 0.002, epochs)
    residual = 1e-4 * (1 + 5 * damage) * np.exp(rng.normal(0, 0.1, epochs)) * (1 + np.arange(epochs))
    if collapses:
        accuracy = np.where(np.arange(epochs) < 3, accuracy, 0.1)
        residual = residual * 50
    nudged = 2 * updates - cheap
    return {
        "epoch": np.arange(1, epochs + 1), "updates": updates, "p_std": p, "cheap_updates": cheap, "nudged_phases": nudged,
        "free_steps": updates * int(config["T1"]), "nudged_steps": nudged * int(config["T2"]), "longest_cheap_run": np.array(runs),
        "train_acc": np.clip(accuracy + 0.02, 0, 1), "val_acc": np.clip(accuracy + rng.normal(0, 0.003), 0, 1), "test_acc": accuracy,
        "train_loss": 1 - accuracy, "free_residual": residual, "saturation": 0.1 + 0 * p, "collapsed": accuracy < 0.15,
        "learning_rate": 0.05 * (1 + np.cos(np.pi * np.arange(epochs) / epochs)) / 2,
        "epoch_seconds": 0.02 * (updates * int(config["T1"]) + nudged * int(config["T2"])) / updates * rng.uniform(0.9, 1.1) / 40,
    }  # fmt: skip


def records(
    trial_id: str,
    strategy: str,
    origin: str,
    seeds: Sequence[int],
    overrides: Mapping[str, Any],
    epochs: int,
    collapses: Sequence[int] = (),
) -> list[dict[str, Any]]:
    """The lines of one trial's result.json; `collapses` are the seeds that fall to chance."""
    config = {**PROTOCOL, **overrides}
    per_seed = [epoch_columns(config, seed, epochs, seed in collapses) for seed in seeds]
    lines = []
    for epoch in range(epochs):
        line: dict[str, Any] = {}
        for name in per_seed[0]:
            values = [columns[name][epoch].item() for columns in per_seed]
            line[name] = values[0] if name in SHARED else float(np.mean(values))
            if name not in SHARED:
                line[f"{name}_std"] = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
                line[f"{name}_by_seed"] = values
        line |= {
            "trial_id": trial_id,
            "config": {"trial": trial_id, "strategy": strategy, "origin": origin, "seeds": list(seeds), **overrides},
        }
        lines.append(line | {"time_total_s": 1.5 * (epoch + 1), "timestamp": 1700000000 + epoch, "training_iteration": epoch + 1})
    return lines


def searched(count: int, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Overrides of `count` strategies drawn at random."""
    rng = np.random.default_rng(seed)
    families = ("constant", "cosine", "inverse_cosine", "linear", "step")
    drawn = {}
    for number in range(count):
        family = families[rng.integers(len(families))]
        drawn[f"search-{number:04d}"] = {
            "family": family,
            "skew": round(float(rng.uniform(0, 0.5 if family in ("cosine", "inverse_cosine", "linear") else 1)), 3),
            "beta": round(float(np.exp(rng.uniform(np.log(0.1), np.log(2)))), 3),
            "draw": ("bernoulli", "spread")[rng.integers(2)],
        } | ({"rising": bool(rng.integers(2))} if family == "linear" else {})
    return drawn


def write_trial(study: Path, lines: list[dict[str, Any]]) -> Path:
    """One trial's folder with its result.json, as Ray writes it; returns the file."""
    folder = study / "ray" / f"trial_{lines[-1]['trial_id']}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "result.json"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_header(study: Path, seeds: Sequence[int], epochs: int, planned: int, **changes: Any) -> None:
    """study.json; `changes` replace entries."""
    header = {
        "format": 1, "kind": "schedule_sweep", "arguments": {"search": "tpe", "trials": planned - 5, "seeds": list(seeds)},
        "protocol": {**PROTOCOL, "epochs": epochs}, "seeds": list(seeds), "trials_planned": planned,
        "dataset": {"name": "digits", "checksum": "5f0c0ffee"},
        "versions": {"hybridep": "0.1.0", "python": "3.11.7", "torch": "2.15.0", "ray": "2.60.0"},
        "git": {"commit": "0123456789abcdef", "dirty": False}, "machine": {"cpus": 2, "system": "Linux"},
        "started": "2026-07-01T10:00:00+00:00", "ended": "2026-07-01T10:02:31+00:00",
    }  # fmt: skip
    study.mkdir(parents=True, exist_ok=True)
    (study / "study.json").write_text(json.dumps({**header, **changes}, indent=2))


def write_study(
    study: Path, trials: int = 20, epochs: int = 15, seeds: Sequence[int] = (0, 1, 2), confirm: Sequence[int] = (), search_seed: int = 0,
    overrides: Mapping[str, Mapping[str, Any]] | None = None, protocol: Mapping[str, Any] | None = None, control: bool = False,
    **header: Any,
) -> Path:  # fmt: skip
    """A finished study: the thesis's five and `trials` searched strategies; with `confirm`, every fourth of them on those fresh seeds too.

    `overrides` stand in for the searched strategies, `protocol` changes fields of all trials; `control` adds centered at half its epochs.
    Returns the folder.
    """
    if control:
        half = (epochs + 1) // 2
        name, config = f"centered_{half}_epochs", {**THESIS["centered"], "epochs": half}
        write_trial(study, records(f"b2c3d_{half:05d}", name, "control", seeds, config, half))
        if confirm:
            write_trial(study, records(f"d4e5f_{half:05d}", name, "confirm", confirm, config, half))
    found = searched(trials, search_seed) if overrides is None else dict(overrides)
    write_header(study, seeds, epochs, len(found) + 5, **{"protocol": {**PROTOCOL, **(protocol or {}), "epochs": epochs}, **header})
    for number, (strategy, config) in enumerate({**THESIS, **found}.items()):
        origin = "thesis" if strategy in THESIS else "search"
        collapses = seeds[:1] if config.get("beta", 0) > 1.8 else ()
        write_trial(study, records(f"a1b2c_{number:05d}", strategy, origin, seeds, dict(config), epochs, collapses))
        if confirm and (strategy in THESIS or number % 4 == 0):
            write_trial(study, records(f"c3d4e_{number:05d}", strategy, "confirm", confirm, dict(config), epochs))
    return study


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--confirm", type=int, nargs="*", default=[])
    arguments = parser.parse_args()
    write_study(arguments.folder, arguments.trials, arguments.epochs, arguments.seeds, arguments.confirm)
