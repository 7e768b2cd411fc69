"""Golden numbers: short runs of every protocol and strategy, whose columns must not move by accident.

`python -m tests.golden` writes `golden.json` anew; do so only where a change is meant to move them, and say in its commit by how much.
`python -m tests.golden --bits FILE` writes, beside the columns to their last bit, a digest of the trained weights: two of these files,
made on one machine before and after a change, show whether rounding has moved.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from hybridep.config import TrialConfig
from hybridep.datasets import DATASETS, Dataset
from hybridep.kernels import use_threads
from hybridep.presets import ONE_SIDED, PRESETS, PROTOCOLS, STRATEGIES
from hybridep.trainer import Trainer

FILE: Final = Path(__file__).with_name("golden.json")
EPOCHS: Final = 2
SEEDS: Final = (0, 1)
# Training images, minibatch and test images: the last minibatch of an epoch is an odd one.
SIZES: Final = {
    "digits": (144, 32, 60),
    "mnist": (320, 128, 60),
    "fashion-mnist": (320, 128, 60),
    "cifar10": (20, 8, 20),
    "fashion-conv": (80, 32, 60),
}
MIXES: Final = {**STRATEGIES, **{name: ONE_SIDED[name] for name in ("random_sign", "negative")}}


def images(name: str) -> Dataset:
    """Noisy copies of one random image a class, in the shapes and numbers of the official dataset; the same on every machine.

    A few hundred different ones, over and over: only the first are looked at.
    """
    info = DATASETS[name]
    generator = np.random.Generator(np.random.PCG64(7))
    prototypes = generator.integers(0, 176, size=(info.classes, *info.shape))
    arrays = []
    for count, whole in ((400, info.train), (60, info.test)):
        labels = np.arange(count) % info.classes
        different = (prototypes[labels] + generator.integers(0, 80, size=(count, *info.shape))).astype(np.uint8)
        again = np.arange(whole) % count
        arrays += [different[again], labels[again]]
    return Dataset.from_arrays(info, *arrays)


def config(protocol: str, strategy: str, relaxation: str, seed: int) -> TrialConfig:
    samples, batch, tests = SIZES[protocol]
    images = {"train_samples": samples, "test_samples": tests, "validation": tests // 3}
    short = {**images, "batch_size": batch, "epochs": EPOCHS, "warmup_epochs": 0}
    policy = {"relaxation": relaxation, **({"tolerance": PRESETS[protocol].tolerance} if relaxation == "adaptive" else {})}
    return PROTOCOLS[protocol].replace(**short, **policy, **MIXES[strategy], seed=seed)


def trained(run: TrialConfig, dataset: Dataset, device: str = "cpu") -> tuple[list[dict[str, Any]], str]:
    """The rows of a run without its seconds, and a digest of the weights that it ends with."""
    trainer = Trainer(run, dataset, device)
    rows = [dict(trainer.train_epoch()) for _ in range(EPOCHS)]
    for row in rows:
        del row["epoch_seconds"]
    digest = hashlib.sha256()
    for parameter in trainer.network.parameters:
        digest.update(parameter.cpu().contiguous().numpy().tobytes())
    return rows, digest.hexdigest()


def runs() -> list[tuple[str, str, str, int]]:
    return [(name, mix, policy, seed) for name in SIZES for mix in MIXES for policy in ("fixed", "adaptive") for seed in SEEDS]


def key(run: tuple[str, str, str, int]) -> str:
    return " ".join(map(str, run))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bits", type=Path, help="write columns and digests of weights here instead")
    file = parser.parse_args().bits
    use_threads(1)
    datasets = {name: images(PROTOCOLS[name].dataset) for name in SIZES}
    found = {key(run): trained(config(*run), datasets[run[0]]) for run in runs()}
    if file is not None:
        file.write_text(json.dumps(found, indent=1))
    else:
        FILE.write_text(json.dumps({name: rows for name, (rows, _) in found.items()}, separators=(",", ":")).replace('],"', '],\n"') + "\n")


if __name__ == "__main__":
    main()
