"""`Probe`: how long an epoch of a protocol takes on a CPU or GPU, measured on a part of its data, in a process of its own.

Such a process is a Ray actor, or `python -m hybridep.probe`, which starts sooner: it reads what to measure as a pickle from its standard
input, then the names of methods, a line each, and answers each with a line of JSON.
"""

import json
import math
import os
import pickle
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hybridep.config import TrialConfig
from hybridep.datasets import Dataset, register, split
from hybridep.extensions import load_all

if TYPE_CHECKING:
    from hybridep.stack import Stacks
    from hybridep.trainer import Trainer

# Measuring takes no longer, save where the smallest piece of work does.
SECONDS: Final = 4.0
# As long is repeated what takes less: the quickest time counts, for whatever else runs only ever adds to it.
REPEATED_SECONDS: Final = 0.3
# Of an epoch, half with the cheap estimator and half with the accurate one; on a CPU, where one may take seconds, and on a GPU.
FEW_UPDATES: Final = 2
UPDATES: Final = 4
# Of a minibatch, on a CPU, where a whole one may take minutes: first a small part is trained on, then larger ones while they are quick.
PARTS: Final = (32, 8, 1)
# A GPU's first epochs capture graphs and try out kernels.
WARM_UP: Final = 2
# What is measured is half way between the thesis's cheap and accurate strategies; searched ones lie on both sides.
STRATEGY: Final = {"family": "constant", "skew": 0.5, "cheap": "standard", "accurate": "centered", "draw": "spread", "grain": "minibatch"}


class Unusable(Exception):
    """A device cannot be used; the message says why in one line."""


@dataclass(frozen=True)
class Sample:
    """What is measured: a protocol's flat values, the seeds of a trial, a part of its data, and how many images a whole epoch trains on."""

    protocol: Mapping[str, Any]
    seeds: tuple[int, ...]
    dataset: Dataset
    images: int
    extensions: Sequence[Mapping[str, str]] = ()

    @classmethod
    def of(cls, protocol: TrialConfig, seeds: Sequence[int], dataset: Dataset, extensions: Sequence[Mapping[str, str]] = ()) -> "Sample":
        """A few minibatches of what a study trains on, with evaluation in proportion."""
        splits = split(dataset, protocol.validation, protocol.train_samples, protocol.test_samples)
        train = splits.train[: UPDATES * protocol.batch_size]
        evaluated = len(splits.validation) + len(splits.test)
        test = splits.test[: max(1, round(evaluated * len(train) / len(splits.train)))]
        part = Dataset.from_arrays(
            dataset.info, dataset.train_images[train], dataset.train_labels[train], dataset.test_images[test], dataset.test_labels[test]
        )
        return cls(protocol.flat(), tuple(seeds), part, len(splits.train), tuple(extensions))


class Probe:
    """Measures one device, "cpu" or the only GPU that this process sees, with so many threads."""

    def __init__(self, sample: Sample, device: str, threads: int = 1) -> None:
        self._sample = sample
        self._device = device
        self._threads = threads
        self._trainers: list[Trainer] = []
        self._stacks: Stacks | None = None
        self._share = 1.0

    def cpu(self) -> dict[str, float]:
        """Seconds of an epoch of one seed, of what a trial takes beside its epochs, and until this process had begun."""
        start = self._begin()
        batch = int(self._sample.protocol["batch_size"])
        # A process's first epoch imports and sets up what later ones have: it tells when a worker can start, not how fast it is.
        began = time.perf_counter()
        self._new_trainers(self._sample.seeds[:1], -(-batch // PARTS[0]), 1)
        self._epoch()
        start += time.perf_counter() - began
        end = time.perf_counter() + SECONDS
        best = math.inf
        for parts in PARTS:
            size = -(-batch // parts)
            # Larger minibatches take less time an image, so that this is the most that it can take.
            if best < math.inf and best * min(1.0, FEW_UPDATES * size / self._sample.images) > end - time.perf_counter():
                break
            self._new_trainers(self._sample.seeds[:1], size, FEW_UPDATES)
            best = self._epoch() / self._share
            if best * self._share < end - time.perf_counter():
                best = min(best, self._repeated(end))
        return {"epoch": best, "trial": 0.0, "start": start}

    def begin(self) -> dict[str, Any]:
        """Get a GPU going: what a trial takes beside its epochs, and until this process had begun; the device's name and memory, and what
        of the latter a trial takes (bytes).
        """
        start = self._begin()
        import torch

        began = time.perf_counter()
        self._new_trainers(self._sample.seeds, int(self._sample.protocol["batch_size"]))
        for _ in range(WARM_UP):
            self._epoch()
        start += time.perf_counter() - began
        began = time.perf_counter()
        self._new_trainers(self._sample.seeds, int(self._sample.protocol["batch_size"]))
        for _ in range(WARM_UP):
            self._epoch()
        took = time.perf_counter() - began
        trial = max(0.0, took - WARM_UP * self._epoch())
        found: dict[str, Any] = {"trial": trial, "start": start, "name": "CPU", "memory": 0, "needed": 0}
        if torch.cuda.is_available() and self._device != "cpu":
            device = torch.cuda.get_device_properties(0)
            found |= {"name": device.name, "memory": device.total_memory, "needed": torch.cuda.max_memory_reserved()}
        return found

    def epoch(self) -> dict[str, float]:
        """Seconds of an epoch of one seed; that of a trial's seeds together, divided by their number."""
        return {"epoch": self._repeated(time.perf_counter() + SECONDS) / len(self._trainers)}

    def _begin(self) -> float:
        """Import all that training needs; the seconds that it took. Unusable where there is no such device."""
        began = time.perf_counter()
        import torch

        from hybridep.kernels import use_threads

        use_threads(self._threads)
        if self._device != "cpu" and not torch.cuda.is_available():
            built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built for CPUs alone"
            raise Unusable(f"PyTorch {torch.__version__} {built} and finds none")
        load_all(self._sample.extensions)
        register(self._sample.dataset.info)
        return time.perf_counter() - began

    def _new_trainers(self, seeds: Sequence[int], batch: int, updates: int = UPDATES) -> None:
        """Trainers of an epoch of so many minibatches of this size; `_share` is the part of a whole epoch that it makes up."""
        from hybridep.stack import Stacks
        from hybridep.trainer import Trainer

        whole = self._sample.dataset
        images = min(updates * batch, len(whole.train_labels))
        tests = max(1, round(len(whole.test_labels) * images / len(whole.train_labels)))
        labels = whole.train_labels[:images]
        # A test image of a class that is not trained on would be refused; what it is called takes no time.
        tested = np.resize(labels, tests)
        part = Dataset.from_arrays(whole.info, whole.train_images[:images], labels, whole.test_images[:tests], tested)
        everything = {"train_samples": None, "test_samples": None, "validation": 0, "epochs": 1000, "warmup_epochs": 0, "batch_size": batch}
        config = TrialConfig.create(**self._sample.protocol).replace(**STRATEGY, **everything)
        self._trainers = []
        for seed in seeds:
            beside = self._trainers[0] if self._trainers else None
            self._trainers.append(Trainer(config.replace(seed=seed), part, self._device, beside))
        # As a trial trains its seeds.
        self._stacks = Stacks(len(seeds), lambda _: None) if self._device != "cpu" and len(seeds) > 1 else None
        self._share = images / self._sample.images

    def _epoch(self) -> float:
        """Train an epoch of all seeds; its seconds."""
        began = time.perf_counter()
        if self._stacks:
            self._stacks.train_epoch(self._trainers)
        else:
            for trainer in self._trainers:
                trainer.train_epoch()
        return time.perf_counter() - began

    def _repeated(self, end: float) -> float:
        """Seconds that an epoch of the whole training data would take, the least of several; at least one is trained."""
        began, quickest = time.perf_counter(), self._epoch()
        while (now := time.perf_counter()) - began < REPEATED_SECONDS and now + quickest < end:
            quickest = min(quickest, self._epoch())
        return quickest / self._share


def one_line(error: BaseException) -> str:
    """Why a probe failed."""
    words = " ".join(str(error).split())[:200]
    return words if isinstance(error, Unusable) else f"{type(error).__name__}: {words}"


def main() -> None:
    """Answer until nobody asks any more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed, by an extension say, is no answer
    probe = Probe(*pickle.load(sys.stdin.buffer))
    for line in sys.stdin.buffer:
        try:
            answer = getattr(probe, line.decode().strip())()
        except Exception as error:
            answer = {"error": one_line(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
