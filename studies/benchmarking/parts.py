"""What a nudged phase on a part of the minibatch costs, beside a whole one: relaxation and the gradient's sums."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from hybridep.estimators import ESTIMATORS
from hybridep.phases import estimate
from hybridep.streams import stream
from studies.benchmarking.implementation import ClosedForm, minibatch

TURNS = 12


@torch.no_grad()
def part_times(implementation: ClosedForm, batches: list[tuple[Tensor, Tensor]], parts: tuple[float, ...]) -> list[dict[str, Any]]:
    """Milliseconds of standard's nudged phase on these parts of a minibatch, and on the whole (1.0), taking turns; medians."""
    works: dict[float, list[Callable[[], object]]] = {part: [] for part in (1.0, *parts)}
    for number, (x, target) in enumerate(batches):
        drive, free = implementation.free_phase(x)
        for part, calls in works.items():
            made = ESTIMATORS.make("standard") if part == 1 else ESTIMATORS.make("part", of="standard", part=part)
            table = made.nudging(minibatch(x, implementation.config.beta), stream(number, "samples"))
            arguments = (implementation.network, implementation.relaxation, table, x, drive, free, target)
            calls.append(lambda arguments=arguments: estimate(*arguments))  # type: ignore[misc]  # of a default value
    times: dict[float, list[float]] = {part: [] for part in works}
    for turn in range(TURNS):
        for part, calls in works.items():
            work = calls[turn % len(calls)]
            started = time.perf_counter()
            work()
            if turn:  # the first one pays for the caches
                times[part].append(time.perf_counter() - started)
    whole = median(times[1.0])
    return [{"part": part, "milliseconds": 1e3 * median(own), "of_whole": median(own) / whole} for part, own in times.items()]
