"""How fast and how exact relaxation is on this machine: autograd on Φ step by step, FixedSteps and Adaptive, side by side in one run.

All protocols run on Fashion-MNIST, padded to 3×32×32 for cifar10: its labels are real, networks learn, and one dataset is enough.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.relaxation_speed import as_text, draw_relaxation_speed
from hybridep.command import as_command
from hybridep.config import TOLERANCE_RANGE, InvalidInput, TrialConfig
from hybridep.datasets import Dataset, load
from hybridep.diagnostics import agreement
from hybridep.estimators import stencil
from hybridep.images import Images
from hybridep.kernels import use_threads
from hybridep.presets import PRESETS, PROTOCOLS
from hybridep.relaxation import Adaptive, FixedSteps
from hybridep.stack import stackable
from hybridep.streams import stream
from hybridep.study.arguments import DataDir, HereArgs
from hybridep.study.checks import MOST_REPETITIONS, MOST_TRIALS, check_choices, require
from hybridep.study.command_line import Option
from hybridep.study.recorded import Job, run_here
from hybridep.trainer import learning_rate
from studies.benchmarking.autograd_ep import AutogradEP
from studies.benchmarking.implementation import ClosedForm, Implementation, Outcome
from studies.benchmarking.parts import part_times
from studies.benchmarking.products import Rate, best_gflops, flops_per_step, measure, operations, share_in_products
from studies.benchmarking.reference import SYNCHRONOUS, full_convergence, limit
from studies.benchmarking.stacks import stack_times

BENCHMARKS: Final = ("mnist", "fashion-mnist", "fashion-conv", "cifar10", "hopfield-mnist", "hopfield-conv")
MEASURED: Final = ("standard", "centered")
# fashion-conv's own 30 free steps are few on purpose, to provoke collapse; here it is relaxed as cifar10 is.
FREE_STEPS: Final = {"fashion-conv": 150}
ROW_SECONDS: Final = 0.2


@dataclass(frozen=True)
class Args(HereArgs):
    protocol: Annotated[tuple[str, ...], Option(choices=BENCHMARKS)] = ("mnist", "fashion-mnist", "fashion-conv")
    """What to measure. cifar10 takes several times as long as the others together."""
    updates: tuple[int, ...] = (0, 500)
    """After how many updates of training to measure. Adaptive trains, with the centered estimator."""
    tolerances: tuple[float, ...] = ()
    """Measure Adaptive at each of these tolerances, beside FixedSteps; if not given, at the protocol's own, beside autograd as well."""
    own_limit: bool = True
    """Also measure Adaptive's error against the rest that its own iteration comes to; the references then take twice as long."""
    repetitions: int = 5
    """Minibatches to time each row on, the same ones for all rows; on each, updates in a row of which the median counts."""
    threads: tuple[int, ...] = (1,)
    """CPU threads to measure with, each number at the same weights and on the same minibatches. The largest trains."""
    data_dir: DataDir = None
    """Folder with Fashion-MNIST: torchvision's layout or the official files."""
    parts: tuple[float, ...] = ()
    """Instead, time a nudged phase on these parts of each minibatch beside a whole one: parts.csv."""
    stack: tuple[int, ...] = ()
    """Instead, time centered updates of stacks of so many networks, on a GPU if there is one, beside one alone: stacks.csv."""


def check(args: Args) -> None:
    """InvalidInput in one line for a mistake."""
    check_choices("protocol", args.protocol, BENCHMARKS, least=1)
    for option in ("updates", "threads"):
        if not getattr(args, option):
            raise InvalidInput(f"--{option}: must name at least one")
    for updates in args.updates:
        require("updates", updates, 0, MOST_REPETITIONS)
    for tolerance in args.tolerances:
        require("tolerances", tolerance, *TOLERANCE_RANGE)
    require("repetitions", args.repetitions, 1, MOST_REPETITIONS)
    for size in args.stack:
        require("stack", size, 1, MOST_TRIALS)
    for name in args.protocol if args.stack else ():
        if not stackable([PROTOCOLS[name]]):
            raise InvalidInput(f"--protocol {name}: networks of this protocol cannot be stacked; give mnist or fashion-mnist")
    for part in args.parts:
        if not 0 < part < 1:
            raise InvalidInput(f"--parts {part:g}: must lie between 0 and 1")
    available = len(os.sched_getaffinity(0))
    for threads in args.threads:
        if not 1 <= threads <= available:
            raise InvalidInput(f"--threads {threads}: must be 1 to {available}, the CPUs that this process may use")


def job(args: Args) -> Job:
    check(args)
    return Job(partial(study, args, load("fashion-mnist", args.data_dir)))


def study(args: Args, dataset: Dataset, folder: Path) -> None:
    """Write results.csv and products.csv after every protocol, so that nothing is lost where the rest is interrupted; then the figure. Or
    parts.csv or stacks.csv, where they are asked for.
    """
    rows: list[dict[str, Any]] = []
    products: list[dict[str, Any]] = []
    if args.stack or args.parts:
        use_threads(max(args.threads))
        for name in args.protocol:
            found = stack_times(PROTOCOLS[name], dataset, args.stack) if args.stack else parts(name, args, dataset)
            rows += [{"protocol": name, **row} for row in found]
        timed = pd.DataFrame(rows)
        timed.to_csv(folder / ("stacks.csv" if args.stack else "parts.csv"), index=False)
        print(timed.to_string(index=False, float_format="{:.3g}".format))
        return
    for name in args.protocol:
        own_rows, own_products = benchmark(name, args, dataset)
        rows += own_rows
        products += own_products
        pd.DataFrame(rows).to_csv(folder / "results.csv", index=False)
        pd.DataFrame(products).to_csv(folder / "products.csv", index=False)
    results = pd.read_csv(folder / "results.csv")
    print(as_text(results))
    draw_relaxation_speed(results, folder)


def benchmark(name: str, args: Args, dataset: Dataset) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of results.csv and of products.csv for one protocol."""
    learner = Learner(name, dataset)
    config = learner.config
    tolerances = args.tolerances or (PRESETS[name].tolerance,)
    cases: dict[Case, Implementation] = {} if args.tolerances else {Case("autograd"): AutogradEP(config)}
    cases[Case("fixed")] = ClosedForm(config, FixedSteps(config.T1, config.T2))
    cases |= {Case("adaptive", tolerance): ClosedForm(config, Adaptive(tolerance, config.T1, config.T2)) for tolerance in tolerances}
    rates = {}
    for threads in args.threads:
        use_threads(threads)
        rates[threads] = measure(operations(config, config.batch_size))
    use_threads(max(args.threads))
    rows = []
    for updates in sorted(set(args.updates)):
        _say(f"{name}: training to update {updates}")
        learner.train_to(updates)
        _say(f"{name}: measuring after {updates} updates")
        measured = [next(learner.batches) for _ in range(args.repetitions)]
        for row in compare(config, cases, args, learner.network.parameters, measured):
            best = best_gflops(rates[row["threads"]])
            rows.append({"protocol": name, "updates": updates, **row, "best_gflops": best, "load": os.getloadavg()[0]})
    return rows, [{"protocol": name, "threads": threads, **_rate_row(rate)} for threads, found in rates.items() for rate in found]


def parts(name: str, args: Args, dataset: Dataset) -> Iterator[dict[str, Any]]:
    """The rows of parts.csv for one protocol, after the most updates that are asked for."""
    learner = Learner(name, dataset)
    learner.train_to(max(args.updates))
    measured = [next(learner.batches) for _ in range(args.repetitions)]
    for policy, relaxation in (("fixed", FixedSteps(learner.config.T1, learner.config.T2)), ("adaptive", learner.relaxation)):
        implementation = ClosedForm(learner.config, relaxation)
        implementation.load(learner.network.parameters)
        for row in part_times(implementation, measured, args.parts):
            yield {"relaxation": policy, **row}


def minibatches(config: TrialConfig, dataset: Dataset, samples: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch after epoch of the first images in a trial's own order: x [n, channels, height, width] and one-hot targets [n, classes]."""
    pixels, info = dataset.train_images, dataset.info
    if config.dataset == "cifar10":
        padded = np.pad(pixels, ((0, 0), (0, 0), (2, 2), (2, 2)))
        pixels = np.broadcast_to(padded, (len(padded), 3, 32, 32))
        info = replace(info, shape=(3, 32, 32), mean=info.mean * 3, std=info.std * 3)
    images = Images(pixels, dataset.train_labels, info, config, torch.empty(0))
    order = stream(config.seed, "order")
    n = config.batch_size
    while True:
        epoch = torch.from_numpy(order.permutation(samples))
        # Whole minibatches alone: the last, smaller one of an epoch would have a time of its own.
        for rows in epoch[: len(epoch) // n * n].split(n):
            x, labels = images.batch(rows)
            yield x, images.one_hot(labels)


class Learner(ClosedForm):
    """Trains a protocol with the centered estimator, relaxed adaptively, on images as they are; `batches` go on where training is."""

    def __init__(self, name: str, dataset: Dataset) -> None:
        config = PROTOCOLS[name]
        config = config.replace(T1=FREE_STEPS.get(name, config.T1), augment=False)
        super().__init__(config, Adaptive(PRESETS[name].tolerance, config.T1, config.T2))
        samples = config.train_samples or len(dataset.train_labels)
        self.batches = minibatches(config, dataset, samples)
        self._per_epoch = samples // config.batch_size
        self._updates = 0

    def train_to(self, updates: int) -> None:
        """At the protocol's learning rates, whose decay is spread over as many epochs as it takes."""
        config = self.config.replace(epochs=max(self.config.epochs, updates // self._per_epoch + 1))
        base = config.learning_rates * (self.network.layers if len(config.learning_rates) == 1 else 1)
        for update in range(self._updates, updates):
            for group, rate in zip(self.optimizer.param_groups, base, strict=True):
                group["lr"] = learning_rate(rate, update // self._per_epoch, config)
            self.update(*next(self.batches), stencil("centered"))
        self._updates = updates


@dataclass(frozen=True)
class Case:
    """An implementation, and its tolerance where it has one."""

    implementation: str
    tolerance: float = float("nan")


@dataclass(frozen=True)
class Run:
    """One timed update and its relative gradient errors: against the thesis's dynamics at rest, and its relaxation's own limit (or NaN)."""

    outcome: Outcome
    seconds: float
    cpu_seconds: float
    error: float
    own_error: float


def compare(
    config: TrialConfig, cases: dict[Case, Implementation], args: Args, parameters: list[Tensor], batches: list[tuple[Tensor, Tensor]]
) -> Iterator[dict[str, Any]]:
    """A row for each number of threads, estimator and case, all at the same weights and on the same minibatches, taking turns."""
    limits = {case: limit(one.relaxation) if isinstance(one, ClosedForm) else SYNCHRONOUS for case, one in cases.items()}
    if not args.own_limit:
        limits = {case: rest for case, rest in limits.items() if rest == SYNCHRONOUS}
    at_rest = {rest: full_convergence(config, parameters, rest, batches, MEASURED) for rest in {SYNCHRONOUS, *limits.values()}}
    runs: dict[tuple[int, str, Case], list[Run]] = {key: [] for key in product(args.threads, MEASURED, cases)}
    for implementation in cases.values():
        implementation.load(parameters)
        implementation.update(*batches[0], stencil(MEASURED[0]))
    for number, (x, target) in enumerate(batches):
        # In another order every time, so that what disturbs the machine does not always meet the same row.
        for at in stream(number, "order").permutation(len(runs)):
            threads, estimator, case = list(runs)[at]
            use_threads(threads)
            outcome, seconds, cpu_seconds = _in_a_row(partial(cases[case].update, x, target, stencil(estimator)))
            error, own = (
                agreement(outcome.gradient, at_rest[rest][number].gradients[estimator]).relative_error if rest else math.nan
                for rest in (SYNCHRONOUS, limits.get(case))
            )
            runs[threads, estimator, case].append(Run(outcome, seconds, cpu_seconds, error, own))
    for (threads, estimator, case), found in runs.items():
        use_threads(threads)
        unconverged = [reference.unconverged[estimator] for reference in at_rest[SYNCHRONOUS]]
        one = cases[case]
        share = share_in_products(partial(one.free_phase, batches[0][0])) if isinstance(one, ClosedForm) else np.nan
        yield {
            "threads": threads,
            "estimator": estimator,
            "implementation": case.implementation,
            "tolerance": case.tolerance,
            **_summary(found, flops_per_step(config)),
            "products_share": share,
            "reference_unconverged": float(np.mean(unconverged)),
        }
    use_threads(max(args.threads))


def _in_a_row(update: Callable[[], Outcome]) -> tuple[Outcome, float, float]:
    """The median update of a row that lasts `ROW_SECONDS`, at least one: its outcome and its seconds, real and of the CPUs.

    Training makes hundreds in a row; the first one also pays for what other implementations have left in the caches.
    """
    found: list[tuple[Outcome, float, float]] = []
    end = time.perf_counter() + ROW_SECONDS
    while not found or time.perf_counter() < end:
        started, cpu_started = time.perf_counter(), time.process_time()
        outcome = update()
        found.append((outcome, time.perf_counter() - started, time.process_time() - cpu_started))
    return sorted(found, key=lambda timed: timed[1])[len(found) // 2]


def _summary(runs: list[Run], flops: float) -> dict[str, Any]:
    """The figures of one row: medians of times and rates, means of errors; `flops` is what a step costs for one sample."""
    free = torch.cat([run.outcome.free_steps for run in runs]).double()
    nudged = torch.cat([run.outcome.nudged_steps for run in runs]).double()
    steps = [float(run.outcome.free_steps.sum() + run.outcome.nudged_steps.sum()) for run in runs]
    return {
        "repetitions": len(runs),
        "milliseconds": 1e3 * median(run.seconds for run in runs),
        "cpu_milliseconds": 1e3 * median(run.cpu_seconds for run in runs),
        "relaxation_share": median(run.outcome.relaxation_seconds / run.seconds for run in runs),
        "free_steps_mean": float(free.mean()),
        "free_steps_p99": float(free.quantile(0.99)),
        "nudged_steps_mean": float(nudged.mean()),
        "nudged_steps_p99": float(nudged.quantile(0.99)),
        "gradient_error": fmean(run.error for run in runs),
        "gradient_error_worst": max(run.error for run in runs),
        "own_gradient_error": fmean(run.own_error for run in runs),
        "gflops": median(flops * count / run.outcome.relaxation_seconds for count, run in zip(steps, runs, strict=True)) / 1e9,
    }


def _rate_row(rate: Rate) -> dict[str, Any]:
    gflops = rate.operation.flops / rate.seconds / 1e9 if rate.operation.flops else np.nan
    return {"operation": rate.operation.name, "backend": rate.backend, "microseconds": 1e6 * rate.seconds, "gflops": gflops}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


main = partial(run_here, "relaxation_benchmark", Args, job)

if __name__ == "__main__":
    as_command(main)
