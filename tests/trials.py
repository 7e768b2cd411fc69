"""A small trial as Tune would start it, without Tune: two seeds of four epochs on a few hundred digits."""

import functools
import json
from pathlib import Path
from typing import Any

from hybridep import datasets
from hybridep.config import TrialConfig
from hybridep.datasets import Dataset
from hybridep.durable import DurableTrial

PROTOCOL = TrialConfig(epochs=4, sizes=(64, 16, 10), train_samples=200, validation=40, T1=8, T2=4)
COSINE = {"trial": "cosine", "strategy": "cosine", "origin": "thesis", "seeds": [3, 5], "family": "cosine", "skew": 0.5}
CENTERED = {"trial": "centered", "strategy": "centered", "origin": "thesis", "seeds": [3, 5], "family": "constant", "skew": 0.0}


@functools.cache
def digits() -> Dataset:
    return datasets.load("digits")


def begin_in(trials: str | Path, config: dict[str, Any] = COSINE, protocol: TrialConfig = PROTOCOL) -> DurableTrial:
    """Start a trial; `trials` is the folder, which is made, or the URL of all trials."""
    if isinstance(trials, Path):
        (trials / config["trial"]).mkdir(exist_ok=True)
    trial = DurableTrial.__new__(DurableTrial)  # Tune's own constructor wants a cluster
    trial.setup(dict(config), protocol=protocol.flat(), dataset=digits(), trials=str(trials), cpus=1.0, gpus=0.0)
    return trial


def rows(trial: DurableTrial, epochs: int) -> list[dict[str, Any]]:
    """The next epochs, without what depends on the clock; NaN as text, which is equal to itself."""
    lines = [json.loads(trial.step()["line"], parse_constant=str) for _ in range(epochs)]
    clock = ("epoch_seconds", "time_total_s", "timestamp", "load")
    return [{name: value for name, value in line.items() if not name.startswith(clock)} for line in lines]
