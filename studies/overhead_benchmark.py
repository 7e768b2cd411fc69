"""Measure what a study costs beside training: its start, each trial's share of Ray Tune, Optuna and result files, the driver's memory.

From 300 trials on, what was measured is projected to 10,000 trials on 200 slices.
"""

# ruff: noqa: E402 (the imports are part of what is measured)
import time

BEGAN = time.monotonic()

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

import numpy as np
import psutil
from numpy.typing import NDArray

from hybridep.cluster.status import capacities
from hybridep.command import as_command
from hybridep.datasets import DATASETS, Dataset
from hybridep.presets import PROTOCOLS
from hybridep.storage import write_json
from hybridep.study.arguments import StudyArgs, refuse
from hybridep.study.checks import MOST_TRIALS, check_choice, require, require_seeds
from hybridep.study.command_line import Option
from hybridep.study.folder import StudyFolder
from hybridep.study.plan import Plan, PlannedTrial, SearchPlan
from hybridep.study.progress import Progress
from hybridep.study.resources import Resources
from hybridep.study.study import main as run_study
from search_spaces import Limits, Space

SEARCHES: Final = ("fixed", "random", "quasi-random", "tpe", "nsga2", "gp")


@dataclass(frozen=True)
class Args(StudyArgs):
    trials: int = 24
    """Trials to run."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of each."""
    search: Annotated[str, Option(choices=SEARCHES)] = "tpe"
    """Who chooses the strategies; fixed: nobody, it is centered every time, without Optuna."""
    instead: ClassVar[Mapping[str, str]] = {"epochs": "1", "validation": "100"}


# A state of the driver is noted each time that so many trials have ended.
EVERY: Final = 100
PROJECTED_TRIALS: Final = 10_000
PROJECTED_SLICES: Final = 200


@dataclass(frozen=True)
class DriverState:
    """The driver after some trials: MiB of memory, CPU seconds of the one thread that it works in, and those of them for choosing."""

    memory: float
    busy: float
    choosing: float


@dataclass
class Timeline:
    """When things happened, in seconds since the script began; `states` by the number of trials that had ended."""

    marks: dict[str, float] = field(default_factory=dict)
    states: dict[int, DriverState] = field(default_factory=dict)
    ended: int = 0
    slots: int = 1
    choosing: float = 0.0

    def mark(self, name: str) -> None:
        self.marks.setdefault(name, time.monotonic() - BEGAN)

    def trial_ended(self) -> None:
        self.ended += 1
        self.marks["last trial ended"] = time.monotonic() - BEGAN
        if self.ended % EVERY == 0:
            self.states[self.ended] = DriverState(psutil.Process().memory_info().rss / 2**20, time.thread_time(), self.choosing)

    @contextmanager
    def while_choosing(self) -> Iterator[None]:
        began = time.thread_time()
        yield
        self.choosing += time.thread_time() - began


def plan(args: Args) -> Plan:
    """Trials that differ in strategy alone; InvalidInput in one line where the arguments make no sense."""
    refuse(args, "resume", "repeat", "time_budget")
    check_choice("dataset", args.dataset, DATASETS)
    check_choice("search", args.search, SEARCHES)
    require("trials", args.trials, 1, MOST_TRIALS)
    require_seeds(args.seeds)
    overrides = {"dataset": args.dataset, "epochs": 1, "validation": 100, **args.options}
    protocol = PROTOCOLS[args.dataset].replace(**overrides)
    if args.search == "fixed":
        centered = {"family": "constant", "skew": 0.0}
        names = [f"trial-{number:04d}" for number in range(1, args.trials + 1)]
        return Plan(protocol, args.seeds, [PlannedTrial(name, name, "thesis", args.seeds, centered) for name in names])
    space = Space.named("schedule", Limits.around(protocol))
    return Plan(protocol, args.seeds, [], SearchPlan(space, protocol, args.search, args.trials, args.seeds))


def timed(timeline: Timeline, folder: StudyFolder, plan: Plan, dataset: Dataset, resources: Resources, progress: Progress) -> None:
    """Train as `tuning.run_session` does, and note when things happen."""
    timeline.mark("arguments and data read, Ray and Tune imported")

    from ray.tune.experiment import Trial

    from hybridep.study import tuning
    from hybridep.study.search import OptunaTrials

    class TimedLog(tuning.StudyLog):
        def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
            timeline.mark("first worker started")
            super().on_trial_start(iteration, trials, trial, **info)

        def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any) -> None:
            timeline.mark("first epoch reported")
            super().on_trial_result(iteration, trials, trial, result, **info)
            if result["done"]:
                timeline.trial_ended()

    class TimedTrials(OptunaTrials):
        def next(self, trial_id: str) -> PlannedTrial | None:
            with timeline.while_choosing():
                return super().next(trial_id)

        def end(self, trial_id: str, result: Mapping[str, Any]) -> None:
            with timeline.while_choosing():
                super().end(trial_id, result)

    with tuning.ray_session(resources, dataset.train_images.nbytes + dataset.test_images.nbytes):
        timeline.mark("Ray started")
        timeline.slots = min(resources.share(capacities()).slots(capacities()), resources.max_concurrent or plan.trials)
        tuning.run_trials(folder, plan, dataset, resources, TimedLog(folder, progress), TimedTrials)
        timeline.mark("Tune ended")
    timeline.mark("Ray stopped")


def report(timeline: Timeline, path: Path) -> None:
    """Write overhead.csv and projection.json, and print both."""
    rows = [json.loads(line) for file in path.glob("ray/*/result.json") for line in file.read_text(encoding="utf-8").splitlines()]
    table = measured(rows, timeline)
    with open(path / "overhead.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("quantity", "value", "unit"), *table])
    print(f"\n{timeline.ended} trials, {timeline.slots} at a time; written to {path}\n")
    for quantity, value, unit in table:
        print(f"{quantity:<58}{value:>10.3f} {unit}")
    disk = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 2**20
    projection = projected(timeline, disk / timeline.ended)
    if projection is not None:
        print(f"\n{projection}")
        write_json(path / "projection.json", {**asdict(projection), "shortest_trial": projection.shortest_trial})


def main() -> int:
    timeline = Timeline()
    return run_study("overhead_benchmark", Args, plan, None, partial(report, timeline), partial(timed, timeline))


def measured(rows: list[dict[str, Any]], timeline: Timeline) -> list[tuple[str, float, str]]:
    """The breakdown of all rows: (quantity, value, unit). A worker's first epoch, with PyTorch's import in it, belongs to the start."""
    slots = timeline.slots
    training = sum(sum(row["epoch_seconds_by_seed"]) for row in rows)
    marks = timeline.marks
    table = [(f"until: {name}", after - before, "s") for before, (name, after) in zip([0.0, *marks.values()], marks.items(), strict=False)]
    # The first trial of each worker waits for its imports; the others show what a trial costs once the study is under way.
    first = {row["pid"]: row["trial_id"] for row in sorted(rows, key=lambda row: -row["timestamp"])}
    steady = [row for row in rows if row["trial_id"] not in first.values()]
    span = marks["last trial ended"] - marks["first epoch reported"]
    steady_training = sum(sum(row["epoch_seconds_by_seed"]) for row in steady)
    count = len({row["trial_id"] for row in steady})
    whole = marks["Ray stopped"]
    table += [
        ("inside Trainer, all trials", training, "s of work"),
        ("workers' time outside Trainer, whole run", 1 - training / (whole * slots), "of 1"),
        ("workers' time outside Trainer, first to last report", 1 - steady_training / (span * slots), "of 1"),
        ("overhead of a trial, first to last report", (span * slots - steady_training) / max(1, count), "s of a worker"),
        ("overhead of a trial, whole run amortised", (whole - training / slots) / timeline.ended, "s"),
    ]
    states = sorted(timeline.states.items())
    table += [(f"driver's memory after {ended} trials", state.memory, "MiB") for ended, state in states]
    if len(states) > 1:
        table.append(("driver's growth a 100 trials, after the first 100", memory_growth(states), "MiB"))
    return table


def memory_growth(states: list[tuple[int, DriverState]]) -> float:
    """MiB a 100 trials, from the first state to the last."""
    (first, before), (last, after) = states[0], states[-1]
    return (after.memory - before.memory) / (last - first) * 100


@dataclass(frozen=True)
class Projection:
    """A study of `trials` trials on `slices` slices, as the measured one would go on: the driver's seconds for the last of its trials."""

    trials: int
    slices: int
    choosing: float
    reporting: float
    memory: float
    disk: float

    @property
    def shortest_trial(self) -> float:
        """Seconds that a trial must last for the driver to keep all slices busy to the end."""
        return self.slices * (self.choosing + self.reporting)

    def __str__(self) -> str:
        first, share = max(("choosing strategies", self.choosing), ("taking reports", self.reporting), key=lambda cost: cost[1])
        return (
            f"{self.trials:,} trials on {self.slices} slices, projected: the driver's one thread saturates first, with {first}"
            f" ({share:.3f} of {self.choosing + self.reporting:.3f} s that the last trial costs it). It keeps all slices busy as long as a"
            f" trial takes {self.shortest_trial:.0f} s or more. Its memory comes to {self.memory:,.0f} MiB, the study folder to"
            f" {self.disk:,.0f} MiB. Assumed: costs grow with the number of trials in a straight line, a further epoch costs no more"
            " than a trial of one, and Ray itself, the network and the shared folder bear as many nodes."
        )


def projected(timeline: Timeline, disk: float, trials: int = PROJECTED_TRIALS, slices: int = PROJECTED_SLICES) -> Projection | None:
    """What was measured, carried on; None where fewer than three states were noted. `disk` is MiB a trial."""
    states = sorted(timeline.states.items())
    if len(states) < 3:
        return None
    ends = np.array([ended for ended, _ in states], dtype=np.float64)
    choosing = _at(ends, np.array([state.choosing for _, state in states]), trials)
    reporting = _at(ends, np.array([state.busy - state.choosing for _, state in states]), trials)
    memory = states[0][1].memory + max(0.0, memory_growth(states)) * (trials - states[0][0]) / 100
    return Projection(trials, slices, choosing, reporting, memory, disk * trials)


def _at(ends: NDArray[np.float64], seconds: NDArray[np.float64], trial: int) -> float:
    """Seconds for one trial when so many have ended, along the straight line through the means of the intervals; never less than now."""
    means = np.diff(seconds) / np.diff(ends)
    slope, start = np.polyfit((ends[1:] + ends[:-1]) / 2, means, 1)
    return float(max(start + slope * trial, means.mean()))


if __name__ == "__main__":
    as_command(main)
