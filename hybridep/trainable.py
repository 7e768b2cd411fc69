"""`StrategyTrial`: one strategy on its seeds as an ordinary Ray Tune class trainable, for any Tune script."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from ray.tune import Trainable
from ray.tune.result import DONE

from hybridep.cluster.machine import CUDA_CONTEXT_BYTES
from hybridep.config import LABELS, InvalidInput, TrialConfig
from hybridep.datasets import Dataset, load, register
from hybridep.presets import PROTOCOLS, adapted

if TYPE_CHECKING:  # PyTorch takes seconds to import, and the driver of a study needs none of it
    from hybridep.stack import Stacks
    from hybridep.trainer import Row, Trainer

# Columns that are the same for every seed.
SHARED_COLUMNS: Final = ("epoch", "updates", "learning_rate")
STATE_FILE: Final = "trial.pt"


class NoRoom(Exception):
    """A trial cannot run on the device that it was given; the message says why in one line."""


def over_seeds(rows: Sequence[Mapping[str, float | int | bool]]) -> dict[str, Any]:
    """One epoch's columns over seeds: the mean under the column's name, with `_std` (ddof 1, 0 for one seed) and `_by_seed` beside it.

    `rows` has the columns of each seed; those in `SHARED_COLUMNS` are taken over as they are.
    """
    merged: dict[str, Any] = {}
    for column, value in rows[0].items():
        if column in SHARED_COLUMNS:
            merged[column] = value
            continue
        values = np.array([row[column] for row in rows], dtype=np.float64)
        with np.errstate(invalid="ignore"):  # a loss that overflowed is a result: its deviation is NaN
            merged[column] = float(values.mean())
            merged[f"{column}_std"] = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        merged[f"{column}_by_seed"] = [row[column] for row in rows]
    return merged


class StrategyTrial(Trainable):
    """Trains the seeds of one strategy side by side; a step is an epoch of each, a result the columns of `over_seeds`.

    Its flat configuration holds overrides of TrialConfig's fields (`family`, `skew`, `beta`, ...) and, if wanted, `seeds`, a list: without
    it the one `seed` of the protocol or configuration counts. The other `LABELS` are for whoever reads the results.
    """

    def setup(
        self,
        config: dict[str, Any],
        *,
        dataset: Dataset | str = "digits",
        protocol: TrialConfig | Mapping[str, Any] | str | None = None,
    ) -> None:
        """`dataset`: data, or the name under which every node finds it. `protocol`: what a configuration leaves open, as an object, by its
        values, or the name of a preset; that of the dataset if not given.
        """
        self._dataset = load(dataset) if isinstance(dataset, str) else dataset
        self._protocol = protocol
        self._device: str | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial, in the same process: importing PyTorch takes longer than a small trial.

        All work waits for the first step. Tune throws an actor that is still starting away as soon as another one is free: workers that
        take long to start would never come up beside one that is through with its trials quickly.
        """
        self._config = new_config
        self._trainers: list[Trainer] = []
        self._stacks: Stacks | None = None
        self._notes: list[str] = []
        return True

    def step(self) -> dict[str, Any]:
        """Train an epoch of each seed."""
        self._begin()
        return self._result(self._train_epoch())

    def _train_epoch(self) -> "list[Row]":
        """An epoch of each seed: on a GPU of all at once, in one stack; on CPUs, where that gains nothing, of one after the other."""
        if self._device == "cpu" or len(self._trainers) == 1:
            return [trainer.train_epoch() for trainer in self._trainers]
        from hybridep.stack import Stacks

        if self._stacks is None:
            self._stacks = Stacks(len(self._trainers), self._notes.append)
        return self._stacks.train_epoch(self._trainers)

    def _result(self, rows: "Sequence[Row]") -> dict[str, Any]:
        row = over_seeds(rows)
        steps = row["free_steps"] + row["nudged_steps"]
        return {**row, "relaxation_steps": steps, DONE: row["epoch"] >= self._configs[0].epochs}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """All that the rest of training depends on, in one file."""
        import torch

        self._begin()
        torch.save([trainer.state_dict() for trainer in self._trainers], Path(checkpoint_dir, STATE_FILE))

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Go on from a checkpoint of this configuration, or of another one on the same network, as population based training does."""
        import torch

        self._begin()
        self._restore(torch.load(Path(checkpoint, STATE_FILE), map_location="cpu", weights_only=True))

    def _restore(self, states: list[dict[str, Any]]) -> None:
        if len(states) != len(self._trainers):
            raise ValueError(f"the checkpoint holds {len(states)} seeds, the trial has {len(self._trainers)}")
        for trainer, state in zip(self._trainers, states, strict=True):
            # The optimizer's state has those of the trial that wrote it.
            own = {"momentum": trainer.config.momentum, "weight_decay": trainer.config.weight_decay}
            groups = [{**group, **own} for group in state["optimizer"]["param_groups"]]
            trainer.load_state_dict({**state, "optimizer": {**state["optimizer"], "param_groups": groups}})

    def _begin(self) -> None:
        """What a trial needs before its first epoch."""
        if self._trainers:
            return
        if self._device is None:
            self._device = self._take_device(*self._share())
        register(self._dataset.info)  # a user's own dataset is not known yet in this process
        config = self._trial_config({name: value for name, value in self._config.items() if name not in LABELS})
        self._configs = [config.replace(seed=seed) for seed in self._config.get("seeds") or (config.seed,)]
        self._trainers = self._new_trainers()

    def _trial_config(self, overrides: dict[str, Any]) -> TrialConfig:
        name = self._dataset.info.name
        overrides = {"dataset": name, **overrides}
        if isinstance(self._protocol, TrialConfig):
            return self._protocol.replace(**overrides)
        if isinstance(self._protocol, Mapping):
            return TrialConfig.create(**self._protocol).replace(**overrides)
        protocol = self._protocol or name
        if protocol not in PROTOCOLS:
            raise InvalidInput(f"protocol {protocol!r}: must be a TrialConfig or one of {', '.join(PROTOCOLS)}")
        return adapted(protocol, overrides)

    def _new_trainers(self) -> "list[Trainer]":
        from hybridep.trainer import Trainer

        assert self._device is not None
        trainers: list[Trainer] = []
        for config in self._configs:
            trainers.append(Trainer(config, self._dataset, self._device, beside=trainers[0] if trainers else None))
        return trainers

    def _share(self) -> tuple[float, float]:
        """CPUs and GPUs that Tune gave this trial."""
        found = self.trial_resources
        resources = found.required_resources if found else {}
        return resources.get("CPU", 1.0), resources.get("GPU", 0.0)

    def _take_device(self, cpus: float, gpus: float) -> str:
        """The device that Ray gave this process, and no more of it than its share."""
        import torch

        from hybridep.kernels import use_threads

        use_threads(max(1, int(cpus)))
        if not gpus:
            return "cpu"
        found = torch.cuda.device_count()
        if found != 1:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            sees = f"and here PyTorch finds {found} (CUDA_VISIBLE_DEVICES={visible}, share {gpus:g})"
            raise NoRoom(f"a trial with --gpus-per-trial uses one GPU, {sees}; 0 runs it on CPUs")
        memory = torch.cuda.get_device_properties(0).total_memory
        room = gpus * memory - CUDA_CONTEXT_BYTES
        if room <= 0:
            raise NoRoom(f"{share_of(gpus, memory)} holds no more than CUDA itself; give trials more with --gpus-per-trial")
        torch.cuda.set_per_process_memory_fraction(room / memory)
        return "cuda:0"


def share_of(gpus: float, memory: int) -> str:
    return f"a share of {gpus:g} of a device with {memory / 2**30:.1f} GiB"
