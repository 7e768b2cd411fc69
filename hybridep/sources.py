"""`Source`: a dataset of one's own as a class, beside the official ones and .npz files."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hybridep.datasets import DATASETS, DatasetInfo
from hybridep.registry import Entry, Registry

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]


class Source(Entry):
    """Reads a dataset whose sizes are known before: `info` has the same name as the class."""

    registry: ClassVar[Registry[Any]]
    info: ClassVar[DatasetInfo]

    @abstractmethod
    def read(self, data_dir: Path | None) -> Arrays:
        """Training images uint8 [N, C, H, W] and labels [N] from 0, then those of the test; `data_dir` as --data-dir gives it."""


class _Sources(Registry[Source]):
    """Entered into `DATASETS` too, where configurations look for shapes and classes."""

    def add(self, name: str, entry: type[Source]) -> None:
        if name in DATASETS and name not in self:
            raise ValueError(f"dataset {name!r}: exists already")
        super().add(name, entry)
        DATASETS[name] = entry.info

    def restore(self, entries: dict[str, type[Source]]) -> None:
        for name in self.keys() - entries.keys():
            del DATASETS[name]
        super().restore(entries)


SOURCES = _Sources("dataset")
Source.registry = SOURCES
