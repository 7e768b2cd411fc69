"""`Probes`: what CPUs and a GPU take for a protocol, measured in processes of their own.

Here they run beside the import and start of Ray, on another cluster they are actors of it.
"""

import contextlib
import json
import math
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any, Final

from hybridep.cluster.machine import VISIBLE
from hybridep.probe import Probe, Sample, one_line
from hybridep.study.devices import Gpu, Timing

# Until PyTorch is imported and CUDA is ready; most of it passes while Ray starts.
START_SECONDS: Final = 30.0
# For one measurement; it takes `hybridep.probe.SECONDS` where its smallest piece is not longer.
ANSWER_SECONDS: Final = 6.0


class NoAnswer(Exception):
    """A probe cannot tell; the message says why in one line."""


class LocalProbe:
    """A `Probe` in a process of its own here, which sees the GPU with that UUID alone, or none. It is asked, and answers later."""

    def __init__(self, sample: Sample, device: str, threads: int, gpu: str = "") -> None:
        # It imports what this process imports, and is no part of what Ctrl-C interrupts.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hybridep.probe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**environment, VISIBLE: gpu},
            start_new_session=True,
        )
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._send(pickle.dumps((sample, device, threads)))

    def _send(self, content: bytes) -> None:
        assert self._process.stdin
        with contextlib.suppress(OSError):  # it has died, which its missing answer tells
            self._process.stdin.write(content)
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def ask(self, method: str) -> None:
        self._send(method.encode() + b"\n")

    def answer(self, seconds: float) -> dict[str, Any]:
        """What it found; NoAnswer where it fails or takes longer."""
        try:
            line = self._lines.get(timeout=max(0.0, seconds))
        except Empty:
            raise NoAnswer("the probe takes too long") from None
        found: dict[str, Any] = json.loads(line) if line else {"error": "the probe's process died"}
        if "error" in found:
            raise NoAnswer(found["error"])
        return found

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            with contextlib.suppress(OSError):  # what it did not read cannot be sent any more
                pipe.close()


class RayProbe:
    """A probe in an actor of the Ray cluster that this process is connected to; `options` are those of the actor."""

    def __init__(self, sample: Any, device: str, threads: int, **options: Any) -> None:
        import ray

        self._actor: Any = ray.remote(Probe).options(num_cpus=0, **options).remote(sample, device, threads)
        self._answer: Any = None

    def ask(self, method: str) -> None:
        self._answer = getattr(self._actor, method).remote()

    def answer(self, seconds: float) -> dict[str, Any]:
        import ray

        try:
            found: dict[str, Any] = ray.get(self._answer, timeout=max(0.0, seconds))
        except ray.exceptions.GetTimeoutError:
            raise NoAnswer("the probe takes too long, or nothing is free") from None
        except ray.exceptions.RayTaskError as error:
            raise NoAnswer(one_line(error.cause)) from None
        except ray.exceptions.RayError as error:
            raise NoAnswer(f"the probe's process died ({type(error).__name__})") from None
        return found

    def stop(self) -> None:
        import ray

        ray.kill(self._actor)


Measuring = LocalProbe | RayProbe


class Probes:
    """A probe of the CPUs, if they are a choice, and some that share a GPU. All begin at once. `after` is called when they have stopped."""

    def __init__(self, cpu: Measuring | None, sharing: Sequence[Measuring], after: Callable[[], None] = lambda: None) -> None:
        self._cpu = cpu
        self._sharing = sharing
        self._after = after
        self._end = time.monotonic() + START_SECONDS
        if cpu:
            cpu.ask("cpu")
        for one in sharing:
            one.ask("begin")

    def gpu(self) -> tuple[Gpu, str]:
        """What was measured on the GPU, and its name; NoAnswer where the first worker on it cannot tell."""
        begun = [self._begun(one) for one in self._sharing]
        first = begun[0]
        if isinstance(first, NoAnswer):
            raise first
        alone = _epoch(self._sharing[:1])
        together = [one for one, found in zip(self._sharing, begun, strict=True) if not isinstance(found, NoAnswer)]
        timing = Timing(alone, first["trial"], first["start"])
        gpu = Gpu(timing, memory=first["memory"], needed=first["needed"])
        with contextlib.suppress(NoAnswer):  # more than one do not fit
            if len(together) > 1:
                gpu = replace(gpu, at_once=len(together), shared_epoch=_epoch(together))
        return gpu, first["name"]

    def cpu(self) -> Timing | None:
        """What was measured on a CPU; None where that takes too long."""
        if self._cpu is None:
            return None
        try:
            return Timing(**self._cpu.answer(self._end - time.monotonic()))
        except NoAnswer:
            return None

    def _begun(self, one: Measuring) -> "dict[str, Any] | NoAnswer":
        try:
            return one.answer(self._end - time.monotonic())
        except NoAnswer as failed:
            return failed

    def stop(self) -> None:
        for one in (*self._sharing, self._cpu):
            if one:
                one.stop()
        self._after()


def _epoch(sharing: Sequence[Measuring]) -> float:
    """Seconds of an epoch in each of these at the same time, their mean."""
    for one in sharing:
        one.ask("epoch")
    return math.fsum(one.answer(ANSWER_SECONDS)["epoch"] for one in sharing) / len(sharing)


def here(sample: Sample, threads: int, gpu: str, workers: int, with_cpu: bool, device: str = "cuda:0") -> Probes:
    """Probes of this machine: so many on the GPU with that UUID, and one of its CPUs."""
    cpu = LocalProbe(sample, "cpu", threads) if with_cpu else None
    return Probes(cpu, [LocalProbe(sample, device, threads, gpu) for _ in range(workers)])


def on_ray(sample: Sample, threads: int, workers: int, with_cpu: bool, device: str = "cuda:0") -> Probes:
    """Probes of the Ray cluster that this process is connected to: so many on one of its GPUs, and one of some node's CPUs."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    # One bundle: its GPU is the one that all share.
    group = placement_group([{"GPU": 1}])
    beside = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)
    shared = ray.put(sample)
    sharing = [RayProbe(shared, device, threads, num_gpus=1 / workers, scheduling_strategy=beside) for _ in range(workers)]
    return Probes(RayProbe(shared, "cpu", threads) if with_cpu else None, sharing, lambda: remove_placement_group(group))
