"""`Resources`: where trials run and what each may use. Checked before Ray is imported, as far as that can be."""

import math
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from hybridep.cluster.access import Address, ray_environment, resolve, token
from hybridep.cluster.internals import LOOPBACK_SWITCH
from hybridep.cluster.machine import NO_DEVICES, VISIBLE, NoDriver, cpus, gpus, schedulable
from hybridep.cluster.status import NodeCapacity
from hybridep.config import InvalidInput, require_gpu
from hybridep.study.checks import MOST_TRIALS, require
from hybridep.study.command_line import Option

# Ray counts resources in this unit.
LEAST_SHARE: Final = 1e-4
MOST_CPUS: Final = 100_000
MOST_SECONDS: Final = 366 * 86_400
MEMORY_RANGE: Final = (1e-6, 1e6)  # GiB
SHORT_FOLDER: Final = "/tmp"
# What Linux allows, and the longest name that Ray gives to a socket below its folder.
MOST_SOCKET_BYTES: Final = 107
_SOCKET: Final = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"


@dataclass(frozen=True)
class Share:
    """What a trial gets: CPUs (also threads) and GPUs, a MIG slice counting as one."""

    cpus: float
    gpus: float

    def slots(self, nodes: Sequence[NodeCapacity]) -> int:
        """Trials that a cluster can run at a time. A trial is on one node and one device: what is left of several makes no room for one."""
        return sum(self._on_node(node) for node in nodes)

    def _on_node(self, node: NodeCapacity) -> int:
        slots = _whole(node.cpus / self.cpus)
        return min(slots, int(node.gpus) * _whole(1 / self.gpus)) if self.gpus else slots

    def __str__(self) -> str:
        return f"{self.cpus:g} CPUs" + (f" and {self.gpus:g} of a GPU" if self.gpus else "")


def _whole(ratio: float) -> int:
    """How often a share fits; 1 / (1 / 3) must be 3 however it was rounded."""
    return int(ratio + 1e-9)


@dataclass(frozen=True)
class Resources:
    """Given on the command line, beside a study's own arguments."""

    ray_address: Annotated[str | None, Option("resources", otherwise="a cluster of this process alone")] = None
    """A running Ray cluster, host:port or auto."""
    cpus_per_trial: Annotated[float | None, Option("resources", otherwise="1, or less where a node has more devices than CPUs")] = None
    """CPUs, also threads, of each trial."""
    device: Annotated[Literal["auto", "cpu", "gpu"], Option("resources")] = "auto"
    """What trials run on. auto: where there are GPUs, a few updates are timed as the study begins, and what ends it sooner is taken; a
    study that is continued keeps it."""
    gpus_per_trial: Annotated[float | None, Option("resources", otherwise="as --device comes to")] = None
    """GPUs of each trial: 0 for CPUs alone, a fraction lets trials share one. If given, it decides alone."""
    max_concurrent: Annotated[int | None, Option("resources", otherwise="as many as there is room for")] = None
    """Trials at a time."""
    time_budget: Annotated[float | None, Option("resources", otherwise="none")] = None
    """Seconds after which the study stops, to be continued with --resume."""
    start_memory: Annotated[float, Option("resources")] = 4.0
    """GiB that a trial may keep its images' last equilibria in, where free phases start from them (start last)."""

    def __post_init__(self) -> None:
        if self.cpus_per_trial is not None:
            require("cpus-per-trial", self.cpus_per_trial, LEAST_SHARE, MOST_CPUS)
        if self.gpus_per_trial is not None and self.gpus_per_trial != 0:
            require("gpus-per-trial", self.gpus_per_trial, LEAST_SHARE, 1, "or 0; a trial runs on one device")
            if self.device == "cpu":
                raise InvalidInput(f"--gpus-per-trial {self.gpus_per_trial:g}: must be 0 or left out with --device cpu")
        if self.device == "gpu" and self.gpus_per_trial == 0:
            raise InvalidInput("--device gpu: trials would run on CPUs alone with --gpus-per-trial 0, leave one of them out")
        if self.max_concurrent is not None:
            require("max-concurrent", self.max_concurrent, 1, MOST_TRIALS)
        require("start-memory", self.start_memory, *MEMORY_RANGE, "in GiB")
        if self.time_budget is not None and not 0 < self.time_budget <= MOST_SECONDS:
            raise InvalidInput(f"--time-budget {self.time_budget:g}: must be more than 0 seconds and at most {MOST_SECONDS:,}, a year")

    def prepare(self, precision: str = "float32") -> None:
        """Check what can be checked without Ray, and set what Ray reads when it is imported; InvalidInput where a trial could never run, or
        not with this precision.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # what Ray would print of dead workers, the study says in a line
        os.environ.setdefault("RAY_task_events_report_interval_ms", "0")  # a record of every call, for a dashboard that is not there
        if self.gpus_per_trial == 0 or self.device == "cpu":
            require_gpu(precision, f"trials run on CPUs alone, {'--device cpu' if self.device == 'cpu' else '--gpus-per-trial 0'}")
        if self.ray_address is not None:
            _prepare_client(self.ray_address)
            return
        shorten_ray_folder()
        os.environ[LOOPBACK_SWITCH] = "0"
        if self.cpus_per_trial is not None and self.cpus_per_trial > cpus():
            raise InvalidInput(f"--cpus-per-trial {self.cpus_per_trial:g}: this machine has {cpus()}")
        self.devices()  # a driver that does not answer is told now
        asked = f"--gpus-per-trial {self.gpus_per_trial:g}" if self.gpus_per_trial else "--device gpu" if self.device == "gpu" else ""
        if (asked or precision != "float32") and not self.usable():
            if not asked:
                require_gpu(precision, self._without_gpu())
            raise InvalidInput(f"{asked}: {self._without_gpu()}")

    def devices(self) -> tuple[str, ...]:
        """UUIDs of the GPUs and MIG slices of this machine that trials may be given; none where they shall use CPUs alone."""
        return () if self.gpus_per_trial == 0 or self.device == "cpu" else schedulable()

    def usable(self) -> bool:
        """Whether there are such devices and PyTorch can use them: its build may be for CPUs, or for another driver."""
        if not self.devices():
            return False
        import torch  # takes seconds: only where there is something to ask about

        return torch.cuda.is_available()

    def _without_gpu(self) -> str:
        """That this machine has no GPU for trials, and what was looked for."""
        visible = os.environ.get(VISIBLE)
        if found := self.devices():
            import torch

            built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for CPUs alone"
            reason = f"the driver has {', '.join(found)}, PyTorch {torch.__version__} is {built}"
        elif visible in NO_DEVICES:
            reason = f"{VISIBLE}={visible} hides all"
        else:
            try:
                reason = "its GPUs are in MIG mode and have no slices" if gpus() else "the NVIDIA driver knows of none"
            except NoDriver as missing:
                reason = str(missing)
        return f"this machine has no GPU that PyTorch can use ({reason})"

    def show_devices(self) -> int:
        """Make these devices, by UUID and no others, visible to a Ray of this process and to its workers; how many they are."""
        devices = self.devices()
        os.environ.update({VISIBLE: ",".join(devices), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
        return len(devices)

    def share(self, nodes: Sequence[NodeCapacity]) -> Share:
        """What each trial gets on this cluster; InvalidInput where no node has as much, for a trial would wait for ever."""
        share = 0.0 if self.device == "cpu" else self.gpus_per_trial
        if share is None:
            share = 1.0 if any(node.gpus >= 1 for node in nodes) else 0.0
        found = Share(self._cpus_beside(share, nodes), share)
        if not found.slots(nodes):
            self._refuse(found, nodes)
        return found

    def _cpus_beside(self, gpus: float, nodes: Sequence[NodeCapacity]) -> float:
        if self.cpus_per_trial is not None:
            return self.cpus_per_trial
        # Of a node with seven slices and four CPUs all slices shall be used. Rounded down to what Ray counts in.
        scarce = [node.cpus / (int(node.gpus) * _whole(1 / gpus)) for node in nodes if gpus and node.gpus >= 1 and node.cpus > 0]
        return max(LEAST_SHARE, math.floor(min([1.0, *scarce]) * 1e4) / 1e4)

    def _refuse(self, share: Share, nodes: Sequence[NodeCapacity]) -> None:
        most_cpus = max((node.cpus for node in nodes), default=0.0)
        most_gpus = max((node.gpus for node in nodes), default=0.0)
        if share.cpus > most_cpus:
            raise InvalidInput(f"--cpus-per-trial {share.cpus:g}: the largest node of the Ray cluster has {most_cpus:g}")
        if share.gpus > most_gpus:
            raise InvalidInput(f"--gpus-per-trial {share.gpus:g}: no node of the Ray cluster has a GPU")
        raise InvalidInput(f"--cpus-per-trial {share.cpus:g}: no node of the Ray cluster has that many beside a GPU; a trial takes {share}")


def ray_folder() -> Path:
    """Where a Ray cluster of this process keeps its files; the last session's logs are in session_latest/logs below it."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or SHORT_FOLDER, "ray")


def shorten_ray_folder() -> None:
    """Send Ray's files to /tmp where temporary folders have so long a path that its sockets would not fit, as in a job's own folder.

    InvalidInput where /tmp cannot be used.
    """
    longest = MOST_SOCKET_BYTES - len(_SOCKET)
    folder = ray_folder()
    if len(os.fsencode(folder)) <= longest and folder.is_absolute():
        return
    if not os.access(SHORT_FOLDER, os.W_OK | os.X_OK):
        raise InvalidInput(
            f"RAY_TMPDIR {folder.parent}: is not an absolute path of at most {longest - len('/ray')} bytes, for Ray puts sockets below it,"
            f" and {SHORT_FOLDER} cannot be written; set RAY_TMPDIR to a folder with a short path"
        )
    os.environ["RAY_TMPDIR"] = SHORT_FOLDER


def _prepare_client(text: str) -> None:
    """Check that something answers there, and set what Ray wants of a client: loopback for a cluster there, a token if there is one."""
    if text == "auto":
        return
    address = Address.parse(text, "--ray-address")
    host = resolve(address.host, "--ray-address")
    try:
        socket.create_connection((host, address.port), timeout=5).close()
    except OSError as error:
        raise InvalidInput(f"--ray-address {text}: no Ray cluster answers there ({error.strerror or error})") from None
    for name, value in ray_environment(host).items():
        if name != "RAY_AUTH_MODE" or token() is not None:
            os.environ.setdefault(name, value)
