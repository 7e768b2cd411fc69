"""Whether trials should share CPUs or take turns: n trials of one CPU each together, against n trials of n CPUs one after another."""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

import pandas as pd

from hybridep.command import as_command
from hybridep.config import InvalidInput, TrialConfig
from hybridep.datasets import DATASETS, load
from hybridep.kernels import use_threads
from hybridep.presets import PROTOCOLS, adapted
from hybridep.study.arguments import DataDir, HereArgs
from hybridep.study.checks import MOST_REPETITIONS, check_choices, require
from hybridep.study.command_line import Option
from hybridep.study.recorded import Job, run_here
from hybridep.trainer import Trainer

TOGETHER, IN_TURN = "together, 1 CPU each", "one after another, all CPUs"


@dataclass(frozen=True)
class Args(HereArgs):
    protocol: Annotated[tuple[str, ...], Option(choices=PROTOCOLS)] = ("fashion-mnist", "fashion-conv")
    """What to train."""
    relaxation: Literal["adaptive", "fixed"] = "adaptive"
    """How."""
    cpus: Annotated[int | None, Option("resources", otherwise="all that this process may use")] = None
    """CPUs to share, and trials to run."""
    train_samples: int = 5120
    """Training images of each trial; a round is an epoch of every trial."""
    rounds: int = 3
    """Rounds to time in each arrangement, after one that is not timed."""
    data_dir: DataDir = None
    """Folder with the dataset's files: torchvision's layout or the official files."""


def configurations(args: Args) -> dict[str, TrialConfig]:
    """The protocols as they are trained here; InvalidInput in one line for a mistake."""
    check_choices("protocol", args.protocol, PROTOCOLS, least=1)
    require("rounds", args.rounds, 1, MOST_REPETITIONS)
    available = len(os.sched_getaffinity(0))
    cpus = available if args.cpus is None else args.cpus
    require("cpus", cpus, 2, available, "the CPUs that this process may use")
    found = {}
    for name in args.protocol:
        config = PROTOCOLS[name]
        largest = DATASETS[config.dataset].train
        if not 1 <= args.train_samples <= largest:
            raise InvalidInput(f"--train-samples {args.train_samples}: must be 1 to {largest}, the images of {config.dataset}")
        shortened = {"train_samples": args.train_samples, "validation": 0, "epochs": args.rounds + 1, "warmup_epochs": 0}
        found[name] = adapted(name, {"relaxation": args.relaxation, **shortened})
    return found


def job(args: Args) -> Job:
    found = configurations(args)
    for config in found.values():
        load(config.dataset, args.data_dir)
    cpus = args.cpus or len(os.sched_getaffinity(0))

    def work(folder: Path) -> None:
        rows = [{"protocol": name, **row} for name, config in found.items() for row in rounds(config, cpus, args)]
        results = pd.DataFrame(rows)
        results.to_csv(folder / "results.csv", index=False)
        print(as_text(results))

    return Job(work)


# Of a trial's own process, by the number of their threads.
trainers: dict[int, Trainer] = {}


def prepare(values: dict[str, Any], data_dir: Path | None, threads: tuple[int, ...]) -> None:
    config = TrialConfig(**values)
    dataset = load(config.dataset, data_dir)
    trainers.update({count: Trainer(config, dataset) for count in threads})


def train_epoch(threads: int) -> float:
    """The test accuracy after it."""
    use_threads(threads)
    return float(trainers[threads].train_epoch()["test_acc"])


def rounds(config: TrialConfig, cpus: int, args: Args) -> list[dict[str, Any]]:
    """A row for each round and arrangement. The same seeds train in both, so that a round means the same work."""
    spawn = multiprocessing.get_context("spawn")
    rows = []
    with ExitStack() as running:
        given = [(config.replace(seed=seed).flat(), args.data_dir, (1, cpus)) for seed in range(cpus)]
        trials = [running.enter_context(ProcessPoolExecutor(1, spawn, prepare, own)) for own in given]
        arrangements = [(TOGETHER, 1, [trials]), (IN_TURN, cpus, [[trial] for trial in trials])]
        for number in range(args.rounds + 1):
            for arrangement, threads, groups in arrangements if number % 2 else reversed(arrangements):
                started = time.perf_counter()
                accuracy = []
                for group in groups:
                    accuracy += [epoch.result() for epoch in [trial.submit(train_epoch, threads) for trial in group]]
                seconds = time.perf_counter() - started
                rows.append({"arrangement": arrangement, "round": number, "seconds": seconds, "test_acc": sum(accuracy) / cpus})
    # The first round pays for starting up.
    return [{**row, "trials": cpus, "load": os.getloadavg()[0]} for row in rows if row["round"]]


def advantage(results: pd.DataFrame) -> pd.Series:
    """How many times as fast trials are together as one after another, by protocol: the median over rounds."""
    seconds = results.pivot(index=["protocol", "round"], columns="arrangement", values="seconds")
    return (seconds[IN_TURN] / seconds[TOGETHER]).groupby("protocol", sort=False).median()


def as_text(results: pd.DataFrame) -> str:
    lines = []
    for name, factor in advantage(results).items():
        own = results[results["protocol"] == name]
        seconds = {arrangement: median(rows["seconds"]) for arrangement, rows in own.groupby("arrangement")}
        shown = ", ".join(f"{arrangement} {seconds[arrangement]:.2f} s" for arrangement in (TOGETHER, IN_TURN))
        lines.append(f"{name}: an epoch of {own['trials'].iloc[0]} trials {shown}: {factor:.2f} times as fast together")
    return "\n".join(lines)


main = partial(run_here, "thread_benchmark", Args, job)

if __name__ == "__main__":
    as_command(main)
