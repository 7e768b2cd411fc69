"""The image datasets a trial can train on: what each is (`DATASETS`), how its official files are read, and how they are split.

Imports neither torch nor Ray; torchvision is imported only to download files that are missing.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class DatasetInfo:
    """Sizes of a dataset. `shape` is (channels, height, width); `mean` and `std` are per channel on the [0, 1] pixel scale."""

    name: str
    shape: tuple[int, int, int]
    classes: int
    train: int
    test: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


DATASETS: Final[dict[str, DatasetInfo]] = {
    info.name: info
    for info in (
        DatasetInfo("digits", (1, 8, 8), 10, 1437, 360, (0.3054,), (0.3757,)),
        DatasetInfo("mnist", (1, 28, 28), 10, 60_000, 10_000, (0.1307,), (0.3081,)),
        DatasetInfo("fashion-mnist", (1, 28, 28), 10, 60_000, 10_000, (0.2860,), (0.3530,)),
        DatasetInfo("cifar10", (3, 32, 32), 10, 50_000, 10_000, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    )
}
