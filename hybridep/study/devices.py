"""CPUs or GPUs, and how many trials on each GPU: worked out from measured times. Pure functions; `probing` measures."""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from hybridep.study.plan import Plan

# Searched strategies that are likely to be confirmed.
CONFIRMED: Final = 3
# More trials on a GPU must end a study by so much sooner, for each has a CUDA context and a worker of its own.
WORTHWHILE: Final = 0.05
# What a trial takes of a GPU is measured in one strategy; others hold more states at a time.
MEMORY_MARGIN: Final = 2.0


@dataclass(frozen=True)
class Run:
    """A trial as work: its epochs and how many seeds it trains."""

    epochs: int
    seeds: int


@dataclass(frozen=True)
class Timing:
    """Seconds on one device: of an `epoch` of one seed, of what a `trial` takes beside its epochs, and until a worker can `start`."""

    epoch: float
    trial: float = 0.0
    start: float = 0.0


@dataclass(frozen=True)
class Gpu:
    """What was measured on a GPU: alone, and the seconds of an epoch where so many workers shared it.

    `memory` is what it has and `needed` what a trial takes of it, in bytes; 0 where that is not known.
    """

    timing: Timing
    at_once: int = 1
    shared_epoch: float = 0.0
    memory: int = 0
    needed: int = 0

    @property
    def busy(self) -> float:
        """Share of an epoch that the GPU itself works; workers wait for one another when their shares come to more than 1."""
        if self.at_once == 1:
            return 1.0
        return max(1.0, self.shared_epoch / self.timing.epoch) / self.at_once

    def sharing(self, workers: int) -> Timing:
        """The times of each of several workers on it."""
        slower = max(1.0, workers * self.busy) if workers > 1 else 1.0
        return Timing(self.timing.epoch * slower, self.timing.trial * slower, self.timing.start)

    def room(self, context: int) -> int:
        """Workers whose trials fit into its memory beside their CUDA contexts (bytes); at least 1, which then tells by itself."""
        if not self.memory:
            return self.at_once
        return max(1, int(self.memory // (MEMORY_MARGIN * self.needed + context)))


@dataclass(frozen=True)
class Choice:
    """Where a study runs: `workers` on each GPU, or none, and the sentence that says so. Estimates are in seconds, None if unknown."""

    device: Literal["cpu", "gpu"]
    workers: int
    sentence: str
    cpu_seconds: float | None = None
    gpu_seconds: float | None = None


def work(plan: Plan) -> list[list[Run]]:
    """What a plan trains, as far as is known: the trials that run beside one another, then those that confirm or decide, on all seeds."""
    epochs = plan.protocol.epochs
    planned = [Run(int(trial.overrides.get("epochs", epochs)), len(trial.seeds)) for trial in plan.fixed]
    found = [Run(epochs, len(plan.search.seeds))] * plan.search.trials if plan.search else []
    again = [*planned, *found[:CONFIRMED]] if plan.fresh_seeds else []
    decided = plan.deciding.overrides.values() if plan.deciding else ()
    deciding = [Run(int(strategy.get("epochs", epochs)), len(plan.deciding.seeds)) for strategy in decided if plan.deciding]
    return [[*planned, *found], [*(Run(run.epochs, len(plan.fresh_seeds)) for run in again), *deciding]]


def estimate(phases: Sequence[Sequence[Run]], timing: Timing, slots: int) -> float:
    """Seconds that a study takes whose trials run on so many equal workers, each taking the next one when it is free."""
    seconds = timing.start
    for runs in phases:
        ends = [0.0] * min(slots, len(runs))
        for run in runs:
            heapq.heapreplace(ends, ends[0] + timing.trial + run.epochs * run.seeds * timing.epoch)
        seconds += max(ends, default=0.0)
    return seconds


def best_sharing(phases: Sequence[Sequence[Run]], gpu: Gpu, slots: Mapping[int, int]) -> tuple[int, float]:
    """How many workers on a GPU end the study soonest, and its seconds then; `slots` has the trials at a time by workers on each GPU."""
    found = {workers: estimate(phases, gpu.sharing(workers), slots[workers]) for workers in sorted(slots)}
    soonest = min(found.values())
    workers = next(workers for workers, seconds in found.items() if seconds <= soonest * (1 + WORTHWHILE))
    return workers, found[workers]


def choose(
    phases: Sequence[Sequence[Run]],
    cpu: Timing | None,
    gpu: Gpu | None,
    cpu_slots: int,
    gpu_slots: Mapping[int, int],
    names: tuple[str, str],
    forced: str = "",
    reason: str = "",
) -> Choice:
    """The device that ends the study sooner, told with both estimates.

    `cpu` or `gpu` is None where nothing was measured, of the GPU for this `reason`. `names` are what CPUs and GPUs are called. `forced`
    says why it must be a GPU, whatever it takes.
    """
    cpus, gpus = names
    on_cpus = None if cpu is None else estimate(phases, cpu, cpu_slots)
    told_cpus = f"{cpus}: {'not measured' if on_cpus is None else f'about {duration(on_cpus)}'}"
    if gpu is None:
        if forced:
            return Choice("gpu", 1, f"{gpus}: not measured ({reason}); one trial at a time on each, for {forced}", on_cpus)
        return Choice("cpu", 0, f"{gpus}: not measured ({reason}); {told_cpus}; running on the CPUs (--device gpu to change)", on_cpus)
    workers, on_gpus = best_sharing(phases, gpu, gpu_slots)
    told_gpus = f"{gpus}: about {duration(on_gpus)}" + (f" with {workers} trials on each at a time" if workers > 1 else "")
    running = "running on the GPU" + ("s" if gpus[0].isdecimal() else "")
    if forced:
        return Choice("gpu", workers, f"{told_gpus}; {running} for {forced}", on_cpus, on_gpus)
    if on_cpus is not None and on_cpus <= on_gpus:
        return Choice("cpu", 0, f"{told_gpus}; {told_cpus}; running on the CPUs (--device gpu to change)", on_cpus, on_gpus)
    return Choice("gpu", workers, f"{told_gpus}; {told_cpus}; {running} (--device cpu to change)", on_cpus, on_gpus)


def duration(seconds: float) -> str:
    """A time that is known roughly: 40 s, 5 min, 2.5 h, 3 days."""
    for unit, size, next_size in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 172_800)):
        if seconds < next_size:
            count = seconds / size
            return f"{count:.1f} {unit}" if unit == "h" and count < 10 else f"{math.ceil(count):d} {unit}"
    return f"{seconds / 86_400:.0f} days"


def gpus_called(count: int, name: str, number: int | None = None) -> str:
    """`GPU 0 (H200)`, `GPU (H200)` where it has no number here, `4 GPUs (H200)`, `7 MIG slices (A100 1g.5gb)`."""
    what = "MIG slice" if " MIG " in name else "GPU"
    name = name.removeprefix("NVIDIA ").replace(" MIG ", " ")
    words = f"{count} {what}s" if count > 1 else what if number is None else f"{what} {number}"
    return f"{words} ({name})" if name else words
