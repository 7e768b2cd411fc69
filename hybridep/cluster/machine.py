"""What this machine offers to trials: its CPUs, its GPUs and their MIG slices, as NVML lists them. Imports neither torch nor Ray."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hybridep.config import InvalidInput

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
# What CUDA and its libraries take of a device in each process, beside the tensors.
CUDA_CONTEXT_BYTES: Final = 512 * 2**20
# What CUDA_VISIBLE_DEVICES holds where no GPU may be used; the last is Slurm's.
NO_DEVICES: Final = ("", "-1", "NoDevFiles")


class NoDriver(InvalidInput):
    """This machine has no NVIDIA driver."""


class DriverFault(InvalidInput):
    """There is an NVIDIA driver, but it does not answer."""


@dataclass(frozen=True)
class Device:
    """A GPU or a MIG slice."""

    uuid: str
    name: str
    memory_bytes: int | None


@dataclass(frozen=True)
class Gpu(Device):
    """A GPU; `slices` is None where its MIG mode is off, and empty where it is on and no slice was made."""

    slices: tuple[Device, ...] | None = None

    @property
    def devices(self) -> tuple[str, ...]:
        """UUIDs of what trials can be given: the GPU, or its slices where it is in MIG mode, for then they alone compute."""
        return (self.uuid,) if self.slices is None else tuple(part.uuid for part in self.slices)


def cpus() -> int:
    """CPUs that this process may use: not those of the machine that a batch system or a container keeps from it."""
    return min(len(os.sched_getaffinity(0)), _cgroup_cpus() or 10**9)


def _cgroup_cpus() -> int | None:
    """The CPU quota of this container, rounded up, or None where there is none."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, -(-int(quota) // int(period)))


def gpus() -> list[Gpu]:
    """The GPUs of this machine, in the order of nvidia-smi; NoDriver or DriverFault in one line where they cannot be listed."""
    with _nvml() as nvml:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return [Gpu(*_description(nvml, handle), _slices(nvml, handle)) for handle in handles]


@contextmanager
def _nvml() -> Iterator[Any]:
    import pynvml  # part of nvidia-ml-py; most machines of a cluster's users have no use for it

    missing = {
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 is not installed",
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "its kernel module is not loaded",
    }
    try:
        pynvml.nvmlInit()
        try:
            yield pynvml
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        if error.value in missing:
            raise NoDriver(f"this machine has no NVIDIA driver ({missing[error.value]})") from None
        raise DriverFault(f"the NVIDIA driver does not answer ({error}); set {VISIBLE}= to go on without GPUs") from None


def _description(nvml: Any, handle: Any) -> tuple[str, str, int | None]:
    """UUID, name and memory in bytes of a GPU or slice."""
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle).total
    except nvml.NVMLError as error:
        # Of a GPU in MIG mode only root may ask it, and GPUs that share the CPU's memory have none of their own.
        if error.value not in (nvml.NVML_ERROR_NO_PERMISSION, nvml.NVML_ERROR_NOT_SUPPORTED):
            raise
        memory = None
    return nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle), memory


def _slices(nvml: Any, handle: Any) -> tuple[Device, ...] | None:
    try:
        mode, _ = nvml.nvmlDeviceGetMigMode(handle)
        most = nvml.nvmlDeviceGetMaxMigDeviceCount(handle)
    except nvml.NVMLError as error:
        # The GPU knows no MIG, or the driver is older than MIG.
        if error.value in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND):
            return None
        raise
    if mode != nvml.NVML_DEVICE_MIG_ENABLE:
        return None
    found = []
    for index in range(most):
        try:
            found.append(Device(*_description(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))))
        except nvml.NVMLError as error:
            if error.value != nvml.NVML_ERROR_NOT_FOUND:  # a place where no slice was made
                raise
    return tuple(found)


def schedulable() -> tuple[str, ...]:
    """UUIDs of the devices that Ray shall give to trials: all, or those that CUDA_VISIBLE_DEVICES names by number or UUID.

    A GPU in MIG mode stands for its slices, for CUDA would take the first of them alone. Empty on a machine without a driver.
    """
    visible = os.environ.get(VISIBLE)
    if visible in NO_DEVICES:
        return ()
    try:
        found = gpus()
    except NoDriver as error:
        if visible is None:
            return ()
        raise InvalidInput(f"{VISIBLE}={visible}: {error}; unset it to run on CPUs") from None
    if visible is None:
        return tuple(device for gpu in found for device in gpu.devices)
    chosen = [device for entry in visible.split(",") for device in _named(entry.strip(), found)]
    return tuple(dict.fromkeys(chosen))


def _named(entry: str, found: list[Gpu]) -> tuple[str, ...]:
    """The devices that an entry of CUDA_VISIBLE_DEVICES stands for. As in CUDA, the beginning of a UUID will do where no other has it."""
    if entry.isdecimal():
        matches = [gpu.devices for gpu in found[int(entry) : int(entry) + 1]]
    else:
        matches = [gpu.devices for gpu in found if entry and gpu.uuid.startswith(entry)]
        slices = [part.uuid for gpu in found for part in gpu.slices or ()]
        matches += [(uuid,) for uuid in slices if entry and uuid.startswith(entry)]
    if len(matches) != 1:
        numbers = f"0 to {len(found) - 1}" if len(found) > 1 else "0"
        allowed = f"must be {numbers} or a UUID of `python -m hybridep.cluster slices`" if found else "this machine has no GPU"
        raise InvalidInput(f"{VISIBLE}, entry {entry!r}: {allowed}")
    if not matches[0]:
        raise InvalidInput(f"{VISIBLE}, entry {entry!r}: is in MIG mode and has no slices; make some with `nvidia-smi mig -cgi ... -C`")
    return matches[0]
