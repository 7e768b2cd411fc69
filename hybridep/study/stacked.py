"""Runs a study's fixed trials in this process, many networks at once as one stack, and writes down what they report as on Ray."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Final

import torch
from ray.tune.result import DONE

from hybridep.datasets import Dataset
from hybridep.durable import DurableTrial, device_fault
from hybridep.kernels import use_threads
from hybridep.stack import Stacks, shape_of
from hybridep.study.folder import StudyFolder
from hybridep.study.plan import Plan
from hybridep.study.progress import Progress
from hybridep.study.resources import Resources
from hybridep.study.tuning import StudyLog, StudyStopped
from hybridep.trainer import Trainer

# Checkpoints of many trials are written at once: each waits for the disk.
WRITERS: Final = 8


class TrialHere(DurableTrial):
    """A trial of a stack: in this process, on a given device, with the same images on it as the others."""

    def __init__(self, config: dict[str, Any], device: str, images: dict[str, Trainer], **parameters: Any) -> None:
        # Tune's own constructor wants a cluster.
        self.setup(config, **parameters)
        self._device = device
        self._images = images

    def _new_trainers(self) -> list[Trainer]:
        assert self._device is not None
        made = [Trainer(config, self._dataset, self._device, beside=self._images.get(shape_of(config))) for config in self._configs]
        self._images.setdefault(shape_of(self._configs[0]), made[0])
        return made

    @property
    def given(self) -> dict[str, Any]:
        return self._config

    @property
    def trainers(self) -> list[Trainer]:
        return self._trainers


def run_stacked(folder: StudyFolder, plan: Plan, dataset: Dataset, resources: Resources, progress: Progress) -> None:
    """Run until every fixed trial has ended, epoch by epoch of all. KeyboardInterrupt and StudyStopped leave a study to be resumed."""
    cpus_alone = resources.device == "cpu" or resources.gpus_per_trial == 0
    device = "cuda:0" if not cpus_alone and torch.cuda.is_available() else "cpu"
    use_threads(max(1, int(resources.cpus_per_trial or 1)))
    images: dict[str, Trainer] = {}
    trials = {
        planned.name: TrialHere(
            planned.ray_config(plan.protocol),
            device,
            images,
            protocol=plan.protocol.flat(),
            dataset=dataset,
            trials=folder.trials_place,
            patience=plan.patience,
            histograms=plan.histograms,
        )
        for planned in plan.fixed
        if not folder.trial(planned.name).ended
    }
    stacks = Stacks(plan.stack, progress.note)
    log = StudyLog(folder, progress, resources.time_budget, plan)
    with closing(log), ThreadPoolExecutor(WRITERS) as writers:
        for name, trial in list(trials.items()):
            log.begin(trial.given)
            # One after the other: the first brings the images that all of them use.
            if failed := _prepared(trial):
                log.result(name, failed)
                del trials[name]
        while trials:
            _epoch(trials, stacks, log)
            log.tick()
            for name, failed in zip(list(trials), writers.map(_prepared, trials.values()), strict=True):
                if failed is not None:
                    log.result(name, failed)
                    del trials[name]


def _stop_without_device(error: Exception) -> None:
    """StudyStopped where the GPU failed: all trials of this process have lost it."""
    if lost := device_fault(error):
        raise StudyStopped(f"the GPU is lost ({lost})") from None


def _prepared(trial: TrialHere) -> dict[str, Any] | None:
    """None, or the result of a trial that cannot go on."""
    try:
        trial.prepare()
    except Exception as error:
        _stop_without_device(error)
        return trial.failure(error)
    return None


def _epoch(trials: dict[str, TrialHere], stacks: Stacks, log: StudyLog) -> None:
    """Train an epoch of every trial and write it down; those that have ended are taken out."""
    started = time.perf_counter()
    try:
        rows = stacks.train_epoch([trainer for trial in trials.values() for trainer in trial.trainers])
    except torch.OutOfMemoryError:
        raise StudyStopped("one network alone needs more memory than the device has left; a smaller --batch-size needs less") from None
    except RuntimeError as error:
        _stop_without_device(error)
        raise
    seconds = (time.perf_counter() - started) / max(1, len(rows))
    for name, trial in list(trials.items()):
        own = [rows.pop(0) for _ in trial.trainers]
        result = trial.told(own, seconds * len(own))
        log.result(name, result)
        if result[DONE]:
            del trials[name]
