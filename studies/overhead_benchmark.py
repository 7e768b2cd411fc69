"""Measure what a study costs beside training: its start, each trial's share of Ray Tune, Optuna and result files, the driver's memory."""

# ruff: noqa: E402 (the imports are part of what is measured)
import time

BEGAN = time.monotonic()

import csv
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from running.arguments import StudyArgs, given, parse
from running.folder import StudyFolder
from running.plan import Plan, PlannedTrial, SearchPlan
from running.progress import Progress
from running.study import INVALID, prepare

from hybridep.config import InvalidInput
from hybridep.datasets import DATASETS, DatasetError
from hybridep.presets import PROTOCOLS
from search_spaces import Limits, Space


@dataclass(frozen=True)
class Args(StudyArgs):
    trials: int = 24
    """Trials to run, of one epoch each unless --epochs says otherwise."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of each."""
    search: str = "tpe"
    """Who chooses the strategies: random, quasi-random, tpe, nsga2, gp, or fixed (centered every time, without Optuna)."""


@dataclass
class Timeline:
    """When things happened, in seconds since the script began."""

    marks: dict[str, float] = field(default_factory=dict)
    memory: dict[int, float] = field(default_factory=dict)
    ended: int = 0

    def mark(self, name: str) -> None:
        self.marks.setdefault(name, time.monotonic() - BEGAN)

    def trial_ended(self) -> None:
        self.ended += 1
        self.marks["last trial ended"] = time.monotonic() - BEGAN
        if self.ended % 100 == 0:
            self.memory[self.ended] = resident_mebibytes()


def resident_mebibytes() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


def plan(args: Args) -> Plan:
    """Trials that differ in strategy alone; InvalidInput in one line where the arguments make no sense."""
    searches = ("fixed", "random", "quasi-random", "tpe", "nsga2", "gp")
    if args.dataset not in DATASETS:
        raise InvalidInput(f"--dataset {args.dataset!r}: must be one of {', '.join(DATASETS)}")
    if args.search not in searches:
        raise InvalidInput(f"--search {args.search!r}: must be one of {', '.join(searches)}")
    if args.trials < 1:
        raise InvalidInput(f"--trials {args.trials}: must be at least 1")
    if not args.seeds or min(args.seeds) < 0 or len(set(args.seeds)) < len(args.seeds):
        raise InvalidInput(f"--seeds {' '.join(map(str, args.seeds))}: must be different numbers from 0")
    overrides = {"dataset": args.dataset, "epochs": 1, "validation": 100, **given(args.options)}
    protocol = PROTOCOLS[args.dataset].replace(**overrides)
    if args.search == "fixed":
        centered = {"family": "constant", "skew": 0.0}
        names = [f"trial-{number:04d}" for number in range(1, args.trials + 1)]
        return Plan(protocol, args.seeds, [PlannedTrial(name, name, "thesis", args.seeds, centered) for name in names])
    space = Space.named("schedule", Limits.around(protocol))
    return Plan(protocol, args.seeds, [], SearchPlan(space, protocol, args.search, args.trials, args.seeds))


def main() -> int:
    timeline = Timeline()
    try:
        args = parse(Args, None)
        work = plan(args)
        args.resources.prepare()
        folder, dataset = prepare("overhead_benchmark", args, work)
    except (InvalidInput, DatasetError) as error:
        print(f"error: {error}", file=sys.stderr)
        return INVALID
    timeline.mark("arguments and data")

    from ray.tune.experiment import Trial
    from running import tuning

    class TimedLog(tuning.StudyLog):
        def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
            timeline.mark("first worker started")
            super().on_trial_start(iteration, trials, trial, **info)

        def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any) -> None:
            timeline.mark("first epoch reported")
            super().on_trial_result(iteration, trials, trial, result, **info)
            if result["done"]:
                timeline.trial_ended()

    timeline.mark("Ray and Tune imported")
    with tuning.ray_session(args.resources, dataset.train_images.nbytes + dataset.test_images.nbytes):
        timeline.mark("Ray started")
        slots = min(args.resources.share(tuning.nodes()).slots(tuning.nodes()), args.resources.max_concurrent or args.trials)
        tuning.run_trials(folder, work, dataset, args.resources, TimedLog(folder, Progress(work.trials, work.protocol.epochs)))
        timeline.mark("Tune ended")
    timeline.mark("Ray stopped")
    table = measured(folder, timeline, args.trials, slots)
    with open(folder.path / "overhead.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("quantity", "value", "unit"), *table])
    print(f"\n{args.trials} trials of {work.protocol.epochs} x {len(args.seeds)} epochs, {slots} at a time; written to {folder.path}\n")
    for quantity, value, unit in table:
        print(f"{quantity:<58}{value:>10.3f} {unit}")
    return 0


def measured(folder: StudyFolder, timeline: Timeline, trials: int, slots: int) -> list[tuple[str, float, str]]:
    """The breakdown: (quantity, value, unit). A worker's first epoch, with PyTorch's import in it, belongs to the start."""
    rows = [json.loads(line) for files in folder.begun() for line in files.results.read_text(encoding="utf-8").splitlines()]
    training = sum(sum(row["epoch_seconds_by_seed"]) for row in rows)
    marks = timeline.marks
    names = list(marks)
    table = [
        (f"until: {name}", marks[name] - (marks[before] if before else 0.0), "s")
        for before, name in zip(["", *names[:-1]], names, strict=True)
    ]
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
        ("overhead of a trial, whole run amortised", (whole - training / slots) / trials, "s"),
    ]
    memory = sorted(timeline.memory.items())
    table += [(f"driver's memory after {ended} trials", size, "MiB") for ended, size in memory]
    if len(memory) > 1:
        growth = (memory[-1][1] - memory[0][1]) / (memory[-1][0] - memory[0][0]) * 100
        table.append(("driver's growth a 100 trials, after the first 100", growth, "MiB"))
    return table


if __name__ == "__main__":
    sys.exit(main())
