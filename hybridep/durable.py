"""`DurableTrial`: a trial of a study, which survives the death of its process and of its driver at any moment (docs/ray.md says how)."""

import json
import os
import platform
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from ray.air.constants import TRAINING_ITERATION
from ray.tune.result import DONE

from hybridep.checkpoints import Checkpoints
from hybridep.config import completed
from hybridep.datasets import Dataset
from hybridep.extensions import load_all
from hybridep.trainable import NoRoom, StrategyTrial, share_of

if TYPE_CHECKING:
    from hybridep.trainer import Row

# How messages of PyTorch begin where the GPU, and not the program, is at fault; most hold "CUDA error".
CUDA_FAULTS: Final = ("CUDA driver error", "cuDNN error", "No CUDA GPUs are available", "Unexpected error from cudaGetDeviceCount")
# Share of units at their bounds from which on a network at chance counts as lost.
SATURATED: Final = 0.5


class DeviceLost(Exception):
    """A trial's GPU failed or is gone; the message says how in one line."""


def device_fault(error: Exception) -> str:
    """What CUDA says of a GPU that failed or is gone, in one line; empty for any other error, and for too little memory.

    Whatever a process then asks of CUDA fails in the same way.
    """
    import torch

    text = str(error).strip()
    if isinstance(error, torch.OutOfMemoryError) or not isinstance(error, RuntimeError):
        return ""
    return text.splitlines()[0][:200] if text.startswith(CUDA_FAULTS) or "CUDA error" in text else ""


class DurableTrial(StrategyTrial):
    """Keeps checkpoints of its own, and tells its study of an epoch in the words of result.json.

    An epoch's checkpoint is written when the next epoch is asked for. By then the driver has the epoch's row on file, so that a trial can
    repeat an epoch after a crash but never miss the row of one; at most the newest epoch is repeated.
    """

    def setup(  # type: ignore[override]  # tune.with_parameters adds them
        self,
        config: dict[str, Any],
        *,
        dataset: Dataset | str,
        protocol: Mapping[str, Any],
        trials: str,
        cpus: float = 1.0,
        gpus: float = 0.0,
        patience: int = 0,
        histograms: bool = False,
        extensions: Sequence[Mapping[str, str]] = (),
    ) -> None:
        """`protocol` has TrialConfig's flat values; `trials` is the folder or URL of the trials' folders; `cpus` and `gpus` are its share.

        A searched trial that has been lost for `patience` epochs is not trained further; 0 trains all to the end. `histograms` adds those
        of every layer's activations to each row, by seed. `extensions` are loaded first, as study.json has them.
        """
        load_all(extensions)
        self._trials = trials
        self._cpus = cpus
        self._gpus = gpus
        self._patience = patience
        self._histograms = histograms
        super().setup(config, dataset=dataset, protocol=protocol)

    def _share(self) -> tuple[float, float]:
        return self._cpus, self._gpus

    def step(self) -> dict[str, Any]:
        """Train one epoch. `line` is the JSON line for result.json; `failed`, instead, says why there is none and never will be.

        DeviceLost where its GPU fails: Tune then begins the trial again from its checkpoint, in a process of its own.
        """
        try:
            self.prepare()
            started = time.perf_counter()
            rows = self._train_epoch()
            return self.told(rows, time.perf_counter() - started)
        # An exception would look like a lost worker to Tune, and be tried again for ever.
        except Exception as error:
            if lost := device_fault(error):
                raise DeviceLost(lost) from None
            return self.failure(error)

    def prepare(self) -> None:
        """What stands before an epoch: a checkpoint of the last one, or at first the start, perhaps from a checkpoint."""
        if self._trainers:
            self._save()
            return
        self._begin()
        self._checkpoints = Checkpoints.of(self._trials, self._config["trial"])
        identity = {"config": json.dumps(self._configs[0].flat("json")), "dataset": self._dataset.checksum}
        self._identity = {**identity, "seeds": self._config["seeds"]}
        self._seconds = 0.0
        self._lost = 0
        self._saved = self._continue()

    def failure(self, error: Exception) -> dict[str, Any]:
        """The result of a trial that cannot go on."""
        if isinstance(error, OSError):
            return {DONE: True, "failed": f"{type(error).__name__}: {error}", "storage": True}
        return {DONE: True, "failed": self._reason(error)}

    def _continue(self) -> int:
        """Go on from the newest checkpoint that is whole and this trial's; the epoch that it holds, 0 where there is none.

        Whatever else lies there is passed over: training once more from further back gives the same numbers.
        """
        for epoch in self._checkpoints.epochs():
            state = self._checkpoints.read(epoch)
            if state is None or not self._wrote(state.get("identity")) or state.get("epoch") != epoch:
                continue
            try:
                self._restore(state["trainers"])
                self._seconds, self._lost = float(state["seconds"]), int(state["lost"])
                return epoch
            except Exception:  # altered, its digest too: it may hold anything
                self._trainers = self._new_trainers()
        return 0

    def _wrote(self, identity: Any) -> bool:
        """Whether a checkpoint is this trial's, perhaps as an earlier version wrote it."""
        try:
            config = completed(json.loads(identity["config"]))
            return bool({**identity, "config": config} == {**self._identity, "config": self._configs[0].flat("json")})
        except (TypeError, KeyError, ValueError):
            return False

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

    def _reason(self, error: Exception) -> str:
        """Why a trial failed: in one line where its resources do not suffice, else with all that a programmer needs."""
        import torch

        if isinstance(error, NoRoom):
            return str(error)
        if isinstance(error, torch.OutOfMemoryError):
            share = share_of(self._gpus, torch.cuda.get_device_properties(0).total_memory)
            return f"the trial needs more memory than {share}; give it more with --gpus-per-trial, or a smaller --batch-size"
        return traceback.format_exc()

    def told(self, rows: "Sequence[Row]", seconds: float) -> dict[str, Any]:
        """The result of an epoch, by the rows of the seeds and the seconds that it took."""
        row = self._result(rows)
        self._seconds += seconds
        given_up = self._given_up(row)
        row[DONE] = row[DONE] or given_up
        cost = self._full_cost(row) if given_up else row["nudged_phases"]
        line = {
            "trial_id": self._config["trial"],
            **row,
            **({"nudged_phases_to_the_end": cost} if given_up else {}),
            **({"activations": self._activations()} if self._histograms else {}),
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
            DONE: row[DONE],
            TRAINING_ITERATION: row["epoch"],
            "notes": [self._notes.pop(0) for _ in range(len(self._notes))],
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
        return self._config["origin"] == "search" and 0 < self._patience <= self._lost and not row[DONE]

    def _full_cost(self, row: dict[str, Any]) -> float:
        """The nudged phases that training to the end would have taken: those that it took and those expected of the rest."""
        return float(row["nudged_phases"]) + float(np.mean([trainer.nudged_phases_ahead for trainer in self._trainers]))
