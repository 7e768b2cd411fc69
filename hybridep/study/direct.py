"""A study that runs in this process, without Ray: its protocol, its folder with study.json, and its exit code."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor

from hybridep.config import InvalidInput, TrialConfig
from hybridep.datasets import DATASETS, Dataset, DatasetError, load, split
from hybridep.estimators import averaging
from hybridep.images import Images
from hybridep.kernels import use_threads
from hybridep.presets import PRESETS, PROTOCOLS, adapted
from hybridep.study.arguments import as_json, given, parse
from hybridep.study.folder import default_path, git_state, machine, now, refuse_url, versions, write_json
from hybridep.study.ranges import MOST_THREADS, require, require_seeds

COMPLETE, STOPPED, INVALID, INTERRUPTED = 0, 1, 2, 130


class DirectArguments(Protocol):
    """The arguments that every such study has."""

    @property
    def dataset(self) -> str: ...
    @property
    def protocol(self) -> str | None: ...
    @property
    def data_dir(self) -> Path | None: ...
    @property
    def threads(self) -> int: ...
    @property
    def out(self) -> Path | None: ...
    @property
    def options(self) -> Any: ...


@dataclass(frozen=True)
class DirectPlan:
    """What is trained, a protocol on seeds, and how many training images make up the diagnostic batch.

    `shortened` says how it falls short of the published one, empty where it does not.
    """

    protocol: TrialConfig
    seeds: tuple[int, ...]
    samples: int
    shortened: str = ""


A = TypeVar("A", bound=DirectArguments)
Study = Callable[[A, DirectPlan, Dataset, Path], None]


def run_directly(kind: str, arguments: type[A], make_plan: Callable[[A], DirectPlan], study: Study[A], argv: Sequence[str] | None) -> int:
    """Run a study and return the process's exit code. Every mistake is told in one line, before any work.

    `kind` is the name of its script; `study` writes its results into the folder that it is given.
    """
    try:
        args = cast(A, parse(cast(Any, arguments), argv))
        plan = make_plan(args)
        require("threads", args.threads, 1, MOST_THREADS)
        path = args.out or default_path(kind)
        _check_empty(path)
        dataset = load(args.dataset, args.data_dir)
        available = len(split(dataset, plan.protocol.validation, plan.protocol.train_samples, plan.protocol.test_samples).train)
        if not 1 <= plan.samples <= available:
            raise InvalidInput(f"--samples {plan.samples}: must be 1 to {available}, the images to train on")
        description = {
            "kind": kind,
            "arguments": as_json(cast(Any, args)),
            "protocol": plan.protocol.flat("json"),
            "seeds": list(plan.seeds),
            "shortened": plan.shortened,
            "dataset": dataset.described(),
            "versions": versions(),
            "git": git_state(),
            "machine": machine(),
            "started": now(),
        }
        _begin(path, description)
    except (InvalidInput, DatasetError) as error:
        print(f"error: {error}", file=sys.stderr)
        return INVALID
    try:
        use_threads(args.threads)
        study(args, plan, dataset, path)
        write_json(path / "study.json", {**description, "ended": now()})
    except OSError as error:
        print(f"error: --out {path}: cannot be written ({error.strerror or error})", file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        print(f"Stopped; {path} holds what was done.", flush=True)
        return INTERRUPTED
    print(f"Written to {path}", flush=True)
    return COMPLETE


def _check_empty(path: Path) -> None:
    refuse_url(path)
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InvalidInput(f"--out {path}: must be a folder that is empty or does not exist yet")
    except OSError as error:
        raise InvalidInput(f"--out {path}: cannot be used ({error.strerror or error})") from None


def _begin(path: Path, description: dict[str, Any]) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "study.json", {**description, "ended": None})
    except OSError as error:
        raise InvalidInput(f"--out {path}: cannot be written ({error.strerror or error})") from None


def chosen_protocol(args: DirectArguments, **overrides: Any) -> TrialConfig:
    """The named protocol, or the dataset's own, with `overrides` and above them the options that were given."""
    if args.dataset not in DATASETS:
        raise InvalidInput(f"--dataset {args.dataset!r}: must be one of {', '.join(DATASETS)}")
    if args.protocol is not None and args.protocol not in PROTOCOLS:
        raise InvalidInput(f"--protocol {args.protocol!r}: must be one of {', '.join(PROTOCOLS)}")
    return adapted(args.protocol or args.dataset, {"dataset": args.dataset, **overrides, **given(args.options)})


def chosen_seeds(args: DirectArguments, seeds: tuple[int, ...]) -> tuple[int, ...]:
    """The seeds that were given, or the protocol's own."""
    if seeds:
        require_seeds("seeds", seeds)
    return seeds or PRESETS[args.protocol or args.dataset].seeds


def check_estimators(names: tuple[str, ...]) -> None:
    """InvalidInput where a name is unknown, or of an estimator whose bias cannot be told, there is none, or one is given twice."""
    known = averaging()
    for name in names:
        if name not in known:
            raise InvalidInput(f"--estimators {name!r}: must be one of {', '.join(known)}")
    if not names or len(set(names)) < len(names):
        raise InvalidInput(f"--estimators {' '.join(names) or '()'}: must be different ones of {', '.join(known)}")


def shortened(args: DirectArguments, protocol: TrialConfig, seeds: tuple[int, ...], epochs: int) -> str:
    """How a run falls short of `epochs` epochs of all the protocol's images on its seeds, or "" where it does not."""
    published = PROTOCOLS[args.protocol or args.dataset]
    images, all_images = (config.train_samples or DATASETS[args.dataset].train for config in (protocol, published))
    usual = len(PRESETS[args.protocol or args.dataset].seeds)
    parts = [
        (protocol.epochs < epochs, f"{protocol.epochs} of {epochs} epochs"),
        (images < all_images, f"{images:,} of {all_images:,} training images"),
        (len(seeds) < usual, f"{len(seeds)} of {usual} seeds"),
    ]
    return ", ".join(text for short, text in parts if short)


def diagnostic_batch(config: TrialConfig, dataset: Dataset, rows: Tensor) -> tuple[Tensor, Tensor]:
    """x and one-hot target of these training images, the same for all seeds, in float64."""
    like = torch.empty(0, dtype=torch.float64)
    images = Images(dataset.train_images, dataset.train_labels, dataset.info, config.std_factor, like)
    x, labels = images.batch(rows)
    return x, images.one_hot(labels)
