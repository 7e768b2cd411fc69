"""`Choosing`: on which device a study runs and how many trials share a GPU; said or measured when it begins, and kept in its study.json."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hybridep.cluster.machine import CUDA_CONTEXT_BYTES, cpus, gpus
from hybridep.cluster.status import NodeCapacity
from hybridep.config import InvalidInput
from hybridep.datasets import Dataset
from hybridep.probe import Sample
from hybridep.study import probing
from hybridep.study.devices import Choice, Gpu, choose, gpus_called, work
from hybridep.study.folder import StudyFolder
from hybridep.study.plan import Plan
from hybridep.study.resources import Resources, Share

# Trials that are tried on one GPU at a time.
AT_ONCE: Final = 4


class Choosing:
    """A choice under way. `begin` may be called before Ray has started; `settle` ends it, when Ray is there."""

    def __init__(self, folder: StudyFolder, plan: Plan, dataset: Dataset, resources: Resources) -> None:
        self._folder = folder
        self._plan = plan
        self._dataset = dataset
        self._resources = resources
        self._forced = "--precision tf32" if plan.protocol.precision == "tf32" else "--device gpu" if resources.device == "gpu" else ""
        self._probes: probing.Probes | None = None
        self._devices: tuple[str, ...] = ()

    def begin(self) -> None:
        """Start to measure where this machine's own GPUs are a choice: most of the time that it takes passes while Ray starts."""
        self._devices = self._resources.devices() if self._resources.ray_address is None and self._is_open else ()
        if self._devices:
            workers = self._workers(cpus() / len(self._devices))
            self._probes = probing.here(self._sample(), self._threads, self._devices[0], workers, not self._forced)

    def stop(self) -> None:
        """Give up what is being measured."""
        if self._probes:
            self._probes.stop()
            self._probes = None

    def settle(self, nodes: Sequence[NodeCapacity]) -> tuple[Resources, str]:
        """Resources that say what of a GPU each trial gets, and the sentence that tells it, empty where nothing was measured.

        InvalidInput where GPUs are asked for, or the study was begun on them, and the cluster has none.
        """
        resources, sentence = self._resources, ""
        kept = self._kept()
        if resources.gpus_per_trial is None:
            if resources.device == "cpu":
                share = 0.0
            elif not any(node.gpus >= 1 for node in nodes):
                self._refuse_none(kept)
                share = 0.0
            elif kept is not None:
                share = kept
            else:
                choice = self._measured(nodes)
                share, sentence = share_of(choice.workers), choice.sentence
            resources = replace(resources, gpus_per_trial=share)
        assert resources.gpus_per_trial is not None
        before = self._folder.description.get("device")
        if not isinstance(before, dict) or before.get("gpus_per_trial") != resources.gpus_per_trial:
            entry = {"gpus_per_trial": resources.gpus_per_trial, **({"chosen": sentence} if sentence else {})}
            self._folder.write(device=entry)
        return resources, sentence

    @property
    def _is_open(self) -> bool:
        return self._resources.gpus_per_trial is None and self._resources.device != "cpu" and self._kept() is None

    def _kept(self) -> float | None:
        """GPUs that each trial had so far, if the study was begun and nothing else is asked for now."""
        entry = self._folder.description.get("device")
        if entry is None:
            # Of a version in which each trial had a whole GPU where there was any.
            older = bool(self._folder.begun())
            return (1.0 if self._resources.ray_address is not None or self._resources.usable() else 0.0) if older else None
        share = entry.get("gpus_per_trial") if isinstance(entry, dict) else None
        if not isinstance(share, float | int) or not 0 <= share <= 1:
            raise InvalidInput(f"--resume {self._folder.place}: study.json is damaged (device)")
        return None if self._forced and not share else float(share)

    def _refuse_none(self, kept: float | None) -> None:
        if self._forced:
            raise InvalidInput(f"{self._forced}: no node of the Ray cluster has a GPU")
        if kept and "device" in self._folder.description:
            raise InvalidInput(f"--resume {self._folder.place}: was begun on GPUs, and there is none here; --device cpu goes on without")

    @property
    def _threads(self) -> int:
        return max(1, int(self._resources.cpus_per_trial or 1))

    def _workers(self, cores: float) -> int:
        """Trials to try on a GPU beside which there are so many CPU cores."""
        most = min(AT_ONCE, int(cores / self._threads), self._resources.max_concurrent or AT_ONCE, self._plan.trials or AT_ONCE)
        return max(1, most)

    def _sample(self) -> Sample:
        return Sample.of(self._plan.protocol, self._plan.seeds, self._dataset, self._folder.description.get("extensions", ()))

    def _measured(self, nodes: Sequence[NodeCapacity]) -> Choice:
        """What the probes say for this cluster."""
        if self._probes is None:
            cores = max(node.cpus / node.gpus for node in nodes if node.gpus >= 1)
            self._probes = probing.on_ray(self._sample(), self._threads, self._workers(cores), not self._forced)
        try:
            gpu, reason = None, ""
            name, number = self._first()
            try:
                gpu, found = self._probes.gpu()
                name = name or found
            except probing.NoAnswer as failed:
                reason = str(failed)
            if gpu is None and self._forced:
                raise InvalidInput(f"{self._forced}: no GPU can be used ({reason})")
            cpu = self._probes.cpu()
        finally:
            self.stop()
        total, count = sum(node.cpus for node in nodes), sum(int(node.gpus) for node in nodes)
        names = (f"{total:g} CPU core" + ("s" if total != 1 else ""), gpus_called(count, name, number))
        slots = self._slots(nodes, gpu) if gpu else {}
        return choose(work(self._plan), cpu, gpu, self._at_a_time(nodes, 0), slots, names, self._forced, reason)

    def _slots(self, nodes: Sequence[NodeCapacity], gpu: Gpu) -> dict[int, int]:
        """Trials at a time, by how many share a GPU: as many as there is memory and a core for."""
        least = self._resources.cpus_per_trial or 1.0
        sharing = range(1, min(gpu.at_once, gpu.room(CUDA_CONTEXT_BYTES)) + 1)
        shares = {workers: self._share(nodes, workers) for workers in sharing}
        return {workers: self._at_a_time(nodes, workers) for workers, share in shares.items() if workers == 1 or share.cpus >= least}

    def _at_a_time(self, nodes: Sequence[NodeCapacity], workers: int) -> int:
        slots = self._share(nodes, workers).slots(nodes)
        return min(slots, self._resources.max_concurrent or slots)

    def _share(self, nodes: Sequence[NodeCapacity], workers: int) -> Share:
        return replace(self._resources, device="auto", gpus_per_trial=share_of(workers)).share(nodes)

    def _first(self) -> tuple[str, int | None]:
        """What NVML calls the first device here, and its number in nvidia-smi if it is a whole GPU; elsewhere the probe tells."""
        for number, gpu in enumerate(gpus() if self._devices else ()):
            for device in (gpu, *(gpu.slices or ())):
                if device.uuid == self._devices[0]:
                    return device.name, number if device is gpu else None
        return "", None


def share_of(workers: int) -> float:
    """The part of a GPU that each of so many workers on it gets, rounded down to what Ray counts in; 0 for none."""
    return math.floor(1e4 / workers) / 1e4 if workers else 0.0
