"""`StrategyTrial`: one strategy on its seeds as a Ray Tune class trainable that survives the death of its process at any moment.

Checkpoints are the trial's own files instead of Tune's: Tune's reach the driver through a snapshot of the whole experiment, which a
killed driver leaves some seconds behind, and which is a pickle. Here a trial finds its newest checkpoint by itself, wherever it is started.
"""

import json
import os
import platform
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from ray.air.constants import TRAINING_ITERATION
from ray.tune import Trainable
from ray.tune.result import DONE

from hybridep.checkpoints import Checkpoints
from hybridep.config import TrialConfig
from hybridep.datasets import Dataset, register
from hybridep.estimators import ESTIMATORS
from hybridep.schedules import expected_nudged_phases

if TYPE_CHECKING:  # PyTorch takes seconds to import, and the driver of a study needs none of it
    from hybridep.trainer import Trainer

# What a trial's flat Ray configuration holds beside overrides of TrialConfig's fields.
LABELS: Final = ("trial", "strategy", "origin", "seeds")
# Columns that are the same for every seed.
SHARED_COLUMNS: Final = ("epoch", "updates", "p_std", "learning_rate")
# Share of units at their bounds from which on a network at chance counts as lost.
SATURATED: Final = 0.5
# What CUDA and its libraries take of a device in each process, beside the tensors: the cap on tensors must leave room for it.
CUDA_CONTEXT_BYTES: Final = 512 * 2**20


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
    """Trains the seeds of one strategy side by side; a step is an epoch of each.

    An epoch's checkpoint is written when the next epoch is asked for. By then the driver has the epoch's row on file, so that a trial can
    repeat an epoch after a crash but never miss the row of one; at most the newest epoch is repeated.
    """

    def setup(  # type: ignore[override]  # tune.with_parameters adds them
        self,
        config: dict[str, Any],
        *,
        protocol: dict[str, Any],
        dataset: Dataset,
        trials: str,
        cpus: float = 1.0,
        gpus: float = 0.0,
        patience: int = 0,
        histograms: bool = False,
    ) -> None:
        """`protocol` has TrialConfig's fields; `trials` is the folder or URL of the trials' folders; `cpus` and `gpus` are its share.

        A searched trial that has been lost for `patience` epochs is not trained further; 0 trains all to the end. `histograms` adds those
        of every layer's activations to each row, by seed.
        """
        self._protocol = protocol
        self._dataset = dataset
        self._trials = trials
        self._cpus = cpus
        self._gpus = gpus
        self._patience = patience
        self._histograms = histograms
        self._device: str | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial, in the same process: Tune's actors are reused, for importing PyTorch takes longer than a small trial.

        All work waits for the first step. Tune throws an actor that is still starting away as soon as another one is free: workers that
        take long to start would never come up beside one that is through with its trials quickly.
        """
        self._config = new_config
        self._trainers: list[Trainer] = []
        return True

    def _begin(self) -> None:
        if self._device is None:
            self._device = self._take_device()
        config = self._config
        overrides = {name: value for name, value in config.items() if name not in LABELS}
        self._checkpoints = Checkpoints.of(self._trials, config["trial"])
        self._seconds = 0.0
        self._lost = 0
        register(self._dataset.info)  # a user's own dataset is not known yet in this process
        trial_config = TrialConfig.create(**{**self._protocol, **overrides, "seed": config["seeds"][0]})
        self._epochs = trial_config.epochs
        self._identity = {"config": trial_config.model_dump_json(), "seeds": config["seeds"], "dataset": self._dataset.checksum}
        self._configs = [trial_config.replace(seed=seed) for seed in config["seeds"]]
        self._trainers = self._new_trainers()
        self._saved = self._load()

    def _new_trainers(self) -> "list[Trainer]":
        from hybridep.trainer import Trainer

        assert self._device is not None
        return [Trainer(config, self._dataset, self._device) for config in self._configs]

    def _take_device(self) -> str:
        """The device that Ray gave this process, and no more of it than its share."""
        import torch

        from hybridep.kernels import use_threads

        use_threads(max(1, int(self._cpus)))
        if not self._gpus:
            return "cpu"
        found = torch.cuda.device_count()
        if found != 1:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            sees = f"and here PyTorch finds {found} (CUDA_VISIBLE_DEVICES={visible}, share {self._gpus:g})"
            raise NoRoom(f"a trial with --gpus-per-trial uses one GPU, {sees}; 0 runs it on CPUs")
        memory = torch.cuda.get_device_properties(0).total_memory
        room = self._gpus * memory - CUDA_CONTEXT_BYTES
        if room <= 0:
            raise NoRoom(f"{self._share(memory)} holds no more than CUDA itself; give trials more with --gpus-per-trial")
        torch.cuda.set_per_process_memory_fraction(room / memory)
        return "cuda:0"

    def _share(self, memory: int) -> str:
        return f"a share of {self._gpus:g} of a device with {memory / 2**30:.1f} GiB"

    def _load(self) -> int:
        """Continue from the newest checkpoint that is whole and this trial's; the epoch that it holds, 0 where there is none.

        Whatever else lies there is passed over: training once more from further back gives the same numbers.
        """
        for epoch in self._checkpoints.epochs():
            state = self._checkpoints.read(epoch)
            if state is None or state.get("identity") != self._identity or state.get("epoch") != epoch:
                continue
            try:
                for trainer, trainer_state in zip(self._trainers, state["trainers"], strict=True):
                    trainer.load_state_dict(trainer_state)
                self._seconds, self._lost = float(state["seconds"]), int(state["lost"])
                return epoch
            except Exception:  # altered, its digest too: it may hold anything
                self._trainers = self._new_trainers()
        return 0

    def _save(self) -> None:
        epoch = self._trainers[0].epoch
        if epoch > self._saved:
            state = {
                "identity": self._identity,
                "epoch": epoch,
                "seconds": self._seconds,
                "lost": self._lost,
                "trainers": [trainer.state_dict() for trainer in self._trainers],
            }
            self._checkpoints.write(epoch, state)
            self._saved = epoch

    def step(self) -> dict[str, Any]:
        """Train one epoch. `line` is the JSON line for result.json; `failed`, instead, says why there is none and never will be."""
        try:
            if self._trainers:
                self._save()
            else:
                self._begin()
            return self._epoch()
        # An exception would look like a lost worker to Tune, and be tried again for ever.
        except OSError as error:
            return {DONE: True, "failed": f"{type(error).__name__}: {error}", "storage": True}
        except Exception as error:
            return {DONE: True, "failed": self._reason(error)}

    def _reason(self, error: Exception) -> str:
        """Why a trial failed: in one line where its resources do not suffice, else with all that a programmer needs."""
        import torch

        if isinstance(error, NoRoom):
            return str(error)
        if isinstance(error, torch.OutOfMemoryError):
            memory = torch.cuda.get_device_properties(0).total_memory
            return f"the trial needs more memory than {self._share(memory)}; give it more with --gpus-per-trial, or a smaller --batch-size"
        return traceback.format_exc()

    def _epoch(self) -> dict[str, Any]:
        started = time.perf_counter()
        row = over_seeds([trainer.train_epoch() for trainer in self._trainers])
        self._seconds += time.perf_counter() - started
        given_up = self._given_up(row)
        done = given_up or row["epoch"] >= self._epochs
        cost = self._full_cost(row) if given_up else row["nudged_phases"]
        line = {
            "trial_id": self._config["trial"],
            **row,
            "relaxation_steps": row["free_steps"] + row["nudged_steps"],
            **({"nudged_phases_to_the_end": cost} if given_up else {}),
            **({"activations": self._activations()} if self._histograms else {}),
            DONE: done,
            TRAINING_ITERATION: row["epoch"],
            "time_total_s": self._seconds,
            "timestamp": int(time.time()),
            "load": os.getloadavg()[0] / (os.cpu_count() or 1),  # without it, seconds say little
            "hostname": platform.node(),
            "pid": os.getpid(),
            "config": self._config,
        }
        # Tune keeps what it is sent for as long as the study runs, and statistics of every number in it: it is sent what it needs.
        return {
            "line": json.dumps(line),
            "epoch": row["epoch"],
            "val_acc": row["val_acc"],
            "nudged_phases": cost,
            "epoch_seconds": sum(row["epoch_seconds_by_seed"]),
            DONE: done,
            TRAINING_ITERATION: row["epoch"],
        }

    def _activations(self) -> dict[str, Any]:
        """The range of the activation, and counts [seeds, layers, bins] over equal parts of it."""
        network = self._trainers[0].network
        counts = [trainer.activations() for trainer in self._trainers]
        return {"lowest": network.lowest, "highest": network.highest, "counts_by_seed": counts}

    def _given_up(self, row: dict[str, Any]) -> bool:
        """Whether a searched trial has been lost on every seed for so long that it is not trained further.

        Lost is an accuracy of chance with most units saturated, where they learn no more. Nothing else ends a trial early: schedules
        that are good early and bad late, or the reverse, are what is studied.
        """
        lost = all(row["collapsed_by_seed"]) and not any(saturation < SATURATED for saturation in row["saturation_by_seed"])
        self._lost = self._lost + 1 if lost else 0
        return self._config["origin"] == "search" and 0 < self._patience <= self._lost and row["epoch"] < self._epochs

    def _full_cost(self, row: dict[str, Any]) -> float:
        """The nudged phases that training to the end would have taken: those that it took and those expected of the rest."""
        trainer = self._trainers[0]
        rest = trainer.probabilities[trainer.epoch * trainer.updates_per_epoch :]
        cheap, accurate = (ESTIMATORS[name].nudged_phases for name in (trainer.config.cheap, trainer.config.accurate))
        return float(row["nudged_phases"]) + expected_nudged_phases(rest, cheap, accurate)
