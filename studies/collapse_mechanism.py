"""Watch why estimators of one nudged phase collapse or do not: what is left of relaxation, their bias, and whether updates cancel it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from torch import Tensor

from analysis.mechanism import draw, report
from hybridep.command import as_command
from hybridep.config import TrialConfig
from hybridep.datasets import Dataset
from hybridep.diagnostics import agreement, difference, free_phase, norm, relative_norm
from hybridep.nudging import Nudging
from hybridep.phases import relax, weigh
from hybridep.presets import ONE_SIDED, PRESETS, PROTOCOLS, STRATEGIES
from hybridep.study.arguments import DataDir, Earlier, HereArgs
from hybridep.study.checks import check_choices, require, require_seeds
from hybridep.study.command_line import Option
from hybridep.study.recorded import Diagnosis, diagnose, write_table
from hybridep.trainer import Trainer

PROTOCOL = "fashion-conv"
KNOWN = {**STRATEGIES, **ONE_SIDED}
WATCHED = ("standard", "random_sign", "alternating", "split_sign", "centered")
ROWS = "mechanism.csv"
Gradient = list[Tensor]


@dataclass(frozen=True)
class Args(HereArgs):
    strategies: Annotated[tuple[str, ...], Option(choices=KNOWN)] = WATCHED
    """Strategies to train and watch."""
    seeds: Annotated[tuple[int, ...], Option(otherwise=" ".join(map(str, PRESETS[PROTOCOL].seeds)))] = ()
    """Seeds to train on."""
    epochs: Annotated[int | None, Option("training", otherwise=str(PROTOCOLS[PROTOCOL].epochs))] = None
    """Passes over the training images. Fewer are the beginning of the whole run."""
    train_samples: Annotated[int | None, Option("data", otherwise=str(PROTOCOLS[PROTOCOL].train_samples))] = None
    """First N training images."""
    every: int = 10
    """Two updates in a row are watched, then none until so many updates have passed since the first of them."""
    data_dir: DataDir = None
    """Folder with the files of Fashion-MNIST: torchvision's layout or the official files."""
    threads: Annotated[int, Option("resources")] = 1
    """CPU threads."""
    earlier: Earlier = None
    """Folder of a run that was cut short: what it finished is taken over, the rest is trained. With the same other arguments."""


def plan(args: Args) -> Diagnosis:
    """What the arguments ask for; InvalidInput in one line where they make no sense."""
    check_choices("strategies", args.strategies, KNOWN, least=1)
    require("every", args.every, 2, 10**6)
    values = {name: getattr(args, name) for name in ("epochs", "train_samples") if getattr(args, name) is not None}
    # The learning rates fall as in the whole run: fewer epochs are its beginning.
    protocol = PROTOCOLS[PROTOCOL].replace(decay_epochs=PROTOCOLS[PROTOCOL].epochs, **values)
    seeds = args.seeds or PRESETS[PROTOCOL].seeds
    require_seeds(seeds)
    return Diagnosis(protocol, seeds, table=ROWS, columns={"strategy": str, "seed": int}, same=("every",))


def study(args: Args, plan: Diagnosis, dataset: Dataset, folder: Path) -> None:
    """Train each seed with each strategy; the files are renewed after each run."""
    rows = pd.DataFrame() if plan.finished is None else plan.finished
    if len(rows):
        write_table(rows, folder / ROWS, float_format="%.6g")
    for seed in plan.seeds:
        for strategy in args.strategies:
            if len(rows) and ((rows["strategy"] == strategy) & (rows["seed"] == seed)).any():
                continue
            config = plan.protocol.replace(**KNOWN[strategy], seed=seed)
            new = pd.DataFrame([{"strategy": strategy, "seed": seed, **row} for row in watched(config, dataset, args.every)])
            rows = pd.concat([rows, new], ignore_index=True)
            write_table(rows, folder / ROWS, float_format="%.6g")
            print(f"{strategy}, seed {seed}: {new['test_acc'].iloc[-1]:.1%} after {config.epochs} epochs", flush=True)
    rows = rows[rows["strategy"].isin(args.strategies) & rows["seed"].isin(plan.seeds)]
    write_table(rows, folder / ROWS, float_format="%.6g")
    draw(rows, folder, caption(plan))
    print(report(rows))


def caption(plan: Diagnosis) -> str:
    protocol = plan.protocol
    whole = PROTOCOLS[PROTOCOL].epochs
    epochs = f"the first {protocol.epochs} of {whole} epochs" if protocol.epochs < whole else f"{protocol.epochs} epochs"
    many = f"{len(plan.seeds)} seed{'s' * (len(plan.seeds) > 1)}"
    return f"{protocol.dataset}, {protocol.train_samples:,} images, {protocol.network.layout}, T1 = {protocol.T1}, {epochs}, {many}"


def watched(config: TrialConfig, dataset: Dataset, every: int) -> Iterator[dict[str, Any]]:
    """A row for each watched update, with the test accuracy at the end of its epoch."""
    trainer = WatchedTrainer(config, dataset, every)
    while trainer.epoch < config.epochs:
        row = trainer.train_epoch()
        for found in trainer.found:
            yield {**found, "epoch": row["epoch"], "test_acc": row["test_acc"]}
        trainer.found.clear()


@dataclass(frozen=True)
class Measured:
    """Of one minibatch before its update: the centered gradient and what the first-order bias adds to standard's, [parameters] each."""

    centered: Gradient
    bias: Gradient
    residual: float
    drift: float


class WatchedTrainer(Trainer):
    """Trains as usual; `found` holds what was measured at the watched updates."""

    def __init__(self, config: TrialConfig, dataset: Dataset, every: int) -> None:
        super().__init__(config, dataset)
        self.every = every
        self.found: list[dict[str, Any]] = []
        self.last: tuple[int, Gradient, Gradient, Gradient] | None = None

    def _update(self, batch: Tensor) -> Tensor:
        number = self.mixture.updates
        if number % self.every > 1:
            return super()._update(batch)
        weights = norm([parameter for parameter in self.network.parameters if parameter.dim() > 1])
        measured = self.measure(batch)
        sums = super()._update(batch)
        # The gradient that was used descends the loss; the optimizer's is its negative.
        error = difference([-parameter.grad for parameter in self.network.parameters if parameter.grad is not None], measured.centered)
        row = {
            "update": number,
            "free_residual": measured.residual,
            "drift": measured.drift,
            "bias": relative_norm(measured.bias, measured.centered),
            "error": relative_norm(error, measured.centered),
            "weight_norm": weights,
            "bias_alignment": np.nan,
            "error_of_pair": np.nan,
        }
        if self.last is not None and self.last[0] == number - 1:
            _, centered, bias, before = self.last
            row["bias_alignment"] = agreement(measured.bias, bias).cosine
            row["error_of_pair"] = relative_norm(added(error, before), added(measured.centered, centered))
        self.last = number, measured.centered, measured.bias, error
        self.found.append(row)
        return sums

    def measure(self, batch: Tensor) -> Measured:
        """Relax a minibatch with +β, −β and without a nudge, for T2 steps each, from where its free phase ended."""
        n, beta = len(batch), self.config.beta
        x, labels = self.images.batch(self.train_rows[batch])
        target = self.images.one_hot(labels)
        drive, free = free_phase(self.network, self.relaxation, x)
        one = np.full(n, 1 / (beta * n), dtype=np.float32)
        nudges = [np.full(n, sign * beta, dtype=np.float32) for sign in (1, -1, 0)]

        def table(plus: float, minus: float, none: float) -> Nudging:
            return Nudging.whole(n, nudges, [plus * one, minus * one, none * one], -(plus + minus + none) * one)

        states = relax(self.network, self.relaxation, table(0, 0, 0), drive, free, target)
        centered, bias, drift = (
            weigh(self.network, table(*weights), x, states, target) for weights in ((0.5, -0.5, 0), (0.5, 0.5, 0), (0, 0, 1))
        )
        return Measured(centered, bias, float(free.residual.mean()), relative_norm(drift, centered))


def added(first: Gradient, second: Gradient) -> Gradient:
    return [a + b for a, b in zip(first, second, strict=True)]


main = partial(diagnose, "collapse_mechanism", Args, plan, study)

if __name__ == "__main__":
    as_command(main)
