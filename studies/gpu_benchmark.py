"""What a centered update takes on a GPU, captured as graphs and not, and whether the same run gives the same weights again."""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pandas as pd
import torch

from hybridep.captured import PlainPhases
from hybridep.command import as_command
from hybridep.config import InvalidInput, TrialConfig
from hybridep.datasets import DATASETS, Dataset
from hybridep.presets import PROTOCOLS, adapted
from hybridep.study.arguments import HereArgs
from hybridep.study.checks import check_choices, require
from hybridep.study.recorded import Job, run_here
from hybridep.trainer import Trainer

MOST_UPDATES: Final = 100
TESTED: Final = 256


@dataclass(frozen=True)
class Args(HereArgs):
    protocol: tuple[str, ...] = ("mnist", "fashion-mnist", "fashion-conv", "cifar10")
    """What to train: mnist, fashion-mnist, fashion-conv, cifar10."""
    updates: int = 40
    """Updates an epoch; two epochs are trained, and the second is timed."""
    precision: tuple[Literal["float32", "tf32"], ...] = ("float32", "tf32")
    """Of products."""


def job(args: Args) -> Job:
    check_choices("protocol", args.protocol, PROTOCOLS, least=1)
    require("updates", args.updates, 1, MOST_UPDATES)
    if not torch.cuda.is_available():
        raise InvalidInput("this benchmark needs a GPU: PyTorch finds none with CUDA")

    def work(folder: Path) -> None:
        print(torch.cuda.get_device_name(0), "with PyTorch", torch.__version__, flush=True)
        rows = []
        for name in args.protocol:
            for relaxation in ("fixed", "adaptive"):
                for precision in args.precision:
                    row = measured(configuration(name, relaxation, precision, args.updates))
                    rows.append({"protocol": name, "relaxation": relaxation, "precision": precision, **row})
                    print(rows[-1], flush=True)
                    pd.DataFrame(rows).to_csv(folder / "gpu.csv", index=False)

    return Job(work)


def configuration(name: str, relaxation: str, precision: str, updates: int) -> TrialConfig:
    """Two short epochs of centered updates under that protocol."""
    batch = PROTOCOLS[name].batch_size
    images = {"train_samples": updates * batch, "test_samples": TESTED, "validation": 0}
    training = {"family": "constant", "skew": 0.0, "epochs": 2, "warmup_epochs": 0, "precision": precision}
    return adapted(name, {"relaxation": relaxation, **training, **images})


def measured(config: TrialConfig, device: str = "cuda:0") -> dict[str, float | bool]:
    """Milliseconds of an update: captured, not, and captured where cuDNN may take algorithms that are not deterministic.

    Whether a second run, one that was resumed and one without graphs have the first one's weights, and how far the last is off.
    """
    dataset = classes_to_tell(config.dataset, config.batch_size * MOST_UPDATES)
    first, first_ms = trained(Trainer(config, dataset, device))
    again, _ = trained(Trainer(config, dataset, device))
    half = Trainer(config, dataset, device)
    half.train_epoch()
    resumed = Trainer(config, dataset, device)
    resumed.load_state_dict(half.state_dict())
    resumed.train_epoch()
    plain = Trainer(config, dataset, device)
    plain.phases = PlainPhases(plain.network, plain.relaxation, plain.starts)
    uncaptured, plain_ms = trained(plain)
    torch.backends.cudnn.deterministic = False
    try:
        _, any_algorithm_ms = trained(Trainer(config, dataset, device))
    finally:
        torch.backends.cudnn.deterministic = True
    return {
        "captured_ms": first_ms,
        "uncaptured_ms": plain_ms,
        "any_algorithm_ms": any_algorithm_ms,
        "equal_again": equal(first, again),
        "equal_resumed": equal(first, weights(resumed)),
        "equal_uncaptured": equal(first, uncaptured),
        "furthest": max(float((a - b).abs().max()) for a, b in zip(first, uncaptured, strict=True)),
    }


def trained(trainer: Trainer) -> tuple[list[torch.Tensor], float]:
    trainer.train_epoch()
    if trainer.train_rows.is_cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    trainer.train_epoch()  # the few images of the test are in this time, less than one update's
    seconds = time.perf_counter() - started
    return weights(trainer), 1000 * seconds / trainer.updates_per_epoch


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [parameter.clone() for parameter in trainer.network.parameters]


def equal(these: list[torch.Tensor], those: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(these, those, strict=True))


def classes_to_tell(name: str, count: int) -> Dataset:
    """Images of a dataset's sizes that need no files: a blurred pattern for each class, and noise."""
    info = DATASETS[name]
    generator = np.random.default_rng(0)
    channels, height, width = info.shape
    coarse = generator.random((info.classes, channels, height // 4, width // 4))
    patterns = coarse.repeat(4, axis=2).repeat(4, axis=3)

    def labelled(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count) % info.classes
        images = 0.6 * patterns[labels] + 0.4 * generator.random((count, *info.shape))
        return (255 * images).astype(np.uint8), labels

    return Dataset.from_arrays(info, *labelled(count), *labelled(TESTED))


main = partial(run_here, "gpu_benchmark", Args, job)

if __name__ == "__main__":
    as_command(main)
