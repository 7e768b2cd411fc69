"""How much memory a trial takes at its most, above a worker that has imported everything and waits. Images are noise of official sizes."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import pandas as pd

from hybridep.command import as_command
from hybridep.config import InvalidInput, TrialConfig
from hybridep.datasets import DATASETS, Dataset
from hybridep.presets import PROTOCOLS, adapted
from hybridep.study.arguments import HereArgs
from hybridep.study.checks import check_choices
from hybridep.study.command_line import Option
from hybridep.study.recorded import Job, run_here

MEBIBYTE: Final = 2**20


@dataclass(frozen=True)
class Args(HereArgs):
    protocol: Annotated[tuple[str, ...], Option(choices=PROTOCOLS)] = ("mnist", "fashion-mnist", "fashion-conv", "cifar10")
    """What to train."""
    relaxation: Literal["adaptive", "fixed"] = "adaptive"
    """How."""
    updates: int = 3
    """Centered updates to train for, before the test images are classified."""
    test_samples: int = 1000
    """Test images to classify; how many there are does not change what a batch of them takes."""


def configurations(args: Args) -> dict[str, TrialConfig]:
    """The protocols as they are trained here, one short epoch each; InvalidInput in one line for a mistake."""
    check_choices("protocol", args.protocol, PROTOCOLS, least=1)
    found = {}
    for name in args.protocol:
        protocol = PROTOCOLS[name]
        info = DATASETS[protocol.dataset]
        limits = {"updates": info.train // protocol.batch_size, "test_samples": info.test}
        for option, most in limits.items():
            value = getattr(args, option)
            if not 1 <= value <= most:
                raise InvalidInput(f"--{option.replace('_', '-')} {value}: must be 1 to {most} with {name}")
        images = {"train_samples": args.updates * protocol.batch_size, "test_samples": args.test_samples, "validation": 0}
        centered = {"family": "constant", "skew": 0.0, "epochs": 1, "warmup_epochs": 0}
        found[name] = adapted(name, {"relaxation": args.relaxation, **centered, **images})
    return found


def job(args: Args) -> Job:
    found = configurations(args)

    def work(folder: Path) -> None:
        rows = []
        for name, config in found.items():
            idle, peak, data = (count / MEBIBYTE for count in measure(config))
            rows.append({"protocol": name, "peak": peak, "idle": idle, "images": data})
            print(
                f"{name}: {peak:,.0f} MiB at its most, {peak - idle:,.0f} above an idle worker's {idle:,.0f}"
                f" ({data:,.0f} of these are its images, which the trials of a node share)",
                flush=True,
            )
        pd.DataFrame(rows).to_csv(folder / "memory.csv", index=False)

    return Job(work)


def noise(name: str) -> Dataset:
    """Images of a dataset's sizes that need no files."""
    info = DATASETS[name]
    generator = np.random.default_rng(0)
    arrays: list[np.ndarray[Any, Any]] = []
    for count in (info.train, info.test):
        arrays.append(generator.integers(0, 256, (count, *info.shape), dtype=np.uint8))
        arrays.append(generator.integers(0, info.classes, count))
    return Dataset.from_arrays(info, *arrays)


def _train(values: dict[str, Any]) -> tuple[int, int, int]:
    import hybridep.durable  # noqa: F401  # all that a worker imports, Ray included
    from hybridep.kernels import use_threads
    from hybridep.trainer import Trainer

    use_threads(1)
    idle = _peak_bytes()
    config = TrialConfig(**values)
    dataset = noise(config.dataset)
    Trainer(config, dataset).train_epoch()
    arrays = (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels)
    return idle, _peak_bytes(), sum(array.nbytes for array in arrays)


def _peak_bytes() -> int:
    # Of this program: getrusage counts what the process was before, a copy of its parent.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def measure(config: TrialConfig) -> tuple[int, int, int]:
    """Peak resident bytes of a fresh process: when it has imported everything, when it has trained, and those of its dataset."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_train, config.flat()).result()


main = partial(run_here, "memory_benchmark", Args, job)

if __name__ == "__main__":
    as_command(main)
