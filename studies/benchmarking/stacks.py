"""What an update of many networks in one stack takes, beside one network alone."""

from collections.abc import Iterator
from statistics import median
from typing import Any, Final

import torch

from hybridep.config import TrialConfig
from hybridep.datasets import Dataset
from hybridep.stack import StackTrainer
from hybridep.trainer import Trainer

UPDATES: Final = 20  # of an epoch; its evaluation is of one batch
EPOCHS: Final = 3


def stack_times(config: TrialConfig, dataset: Dataset, sizes: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """A row for each size: milliseconds of a centered update of all networks, and of each; medians of epochs after the first."""
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    short = config.replace(skew=0.0, train_samples=UPDATES * config.batch_size, test_samples=config.batch_size, epochs=EPOCHS + 1)
    alone = 0.0
    for size in (1, *sorted({size for size in sizes if size > 1})):
        trainers: list[Trainer] = []
        for seed in range(size):
            trainers.append(Trainer(short.replace(seed=seed), dataset, device, beside=trainers[0] if trainers else None))
        stack = StackTrainer(trainers) if size > 1 else None
        seconds = []
        for _ in range(EPOCHS + 1):
            rows = stack.train_epoch() if stack else [trainers[0].train_epoch()]
            seconds.append(sum(float(row["epoch_seconds"]) for row in rows))
        each = 1e3 * median(seconds[1:]) / UPDATES / size
        alone = alone or each
        yield {"device": device, "networks": size, "milliseconds": each * size, "of_each": each, "times_alone": alone / each}
