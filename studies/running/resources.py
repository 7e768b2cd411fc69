"""`Resources`: where trials run and what each may use. Checked before Ray is imported, as far as that can be."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hybridep.cluster.access import Address, ray_environment, resolve, token
from hybridep.config import InvalidInput


@dataclass(frozen=True)
class Resources:
    """Given on the command line, beside a study's own arguments."""

    ray_address: str | None = None
    """A running Ray cluster, host:port or auto; a cluster of this process alone if not given."""
    cpus_per_trial: float = 1.0
    """CPUs, also threads, of each trial."""
    gpus_per_trial: float = 0.0
    """GPUs of each trial; a fraction lets trials share one."""
    max_concurrent: int | None = None
    """Trials at a time; as many as there is room for if not given."""
    time_budget: float | None = None
    """Seconds after which the study stops, to be continued with --resume."""

    def __post_init__(self) -> None:
        if not 0 < self.cpus_per_trial < float("inf"):
            raise InvalidInput(f"--cpus-per-trial {self.cpus_per_trial:g}: must be more than 0")
        if not 0 <= self.gpus_per_trial <= 1:
            raise InvalidInput(f"--gpus-per-trial {self.gpus_per_trial:g}: must be 0 to 1; a trial runs on one device")
        if self.max_concurrent is not None and self.max_concurrent < 1:
            raise InvalidInput(f"--max-concurrent {self.max_concurrent}: must be at least 1")
        if self.time_budget is not None and not 0 < self.time_budget < float("inf"):
            raise InvalidInput(f"--time-budget {self.time_budget:g}: must be more than 0 seconds")

    @property
    def cpus(self) -> int:
        """CPUs that this process may use."""
        return min(len(os.sched_getaffinity(0)), _cgroup_cpus() or 10**9)

    def prepare(self) -> None:
        """Check what can be checked without Ray, and set what Ray reads when it is imported; InvalidInput where a trial could never run."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # what Ray would print of dead workers, the study says in a line
        os.environ.setdefault("RAY_task_events_report_interval_ms", "0")  # a record of every call, for a dashboard that is not there
        if self.ray_address is not None:
            _prepare_client(self.ray_address)
            return
        # Listen on loopback alone. The name tells whom the variable was made for; it means the same on every system.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        if self.cpus_per_trial > self.cpus:
            raise InvalidInput(f"--cpus-per-trial {self.cpus_per_trial:g}: this machine has {self.cpus}")
        if self.gpus_per_trial:
            import torch

            found = torch.cuda.device_count()
            if self.gpus_per_trial > found:
                raise InvalidInput(f"--gpus-per-trial {self.gpus_per_trial:g}: this machine has {found or 'no GPU that PyTorch can use'}")

    def check(self, cluster: Mapping[str, float]) -> None:
        """InvalidInput where the cluster has too little for a single trial, which would wait for ever."""
        for option, kind, wanted in (("cpus", "CPU", self.cpus_per_trial), ("gpus", "GPU", self.gpus_per_trial)):
            if wanted > cluster.get(kind, 0):
                raise InvalidInput(f"--{option}-per-trial {wanted:g}: the Ray cluster has {cluster.get(kind, 0):g}")

    def slots(self, cluster: Mapping[str, float]) -> int:
        """Trials that the cluster can run at a time."""
        slots = cluster.get("CPU", 0) / self.cpus_per_trial
        if self.gpus_per_trial:
            slots = min(slots, cluster.get("GPU", 0) / self.gpus_per_trial)
        return int(slots + 1e-9)


def _cgroup_cpus() -> int | None:
    """The CPU quota of this container, rounded up, or None where there is none."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, -(-int(quota) // int(period)))


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
