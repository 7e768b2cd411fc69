"""A pretended libnvidia-ml.so.1: answers through NVML's C interface, into the ctypes structures of nvidia-ml-py, for GPUs given as data."""

import ctypes
from dataclasses import dataclass, field

import pynvml
import pytest

GIB = 2**30


@dataclass
class Board:
    """What NVML answers for a GPU, or for a MIG slice, which has no `mig` of its own. An int instead of an answer is an error code."""

    uuid: str
    name: str
    memory: int
    mig: tuple[int, int] | int = pynvml.NVML_ERROR_NOT_SUPPORTED
    slices: dict[int, "Board"] = field(default_factory=dict)  # by the place that NVML counts up to 7
    memory_error: int = pynvml.NVML_SUCCESS


def a100(letter: str, profiles: dict[int, str] | None = None, mig: bool | None = None) -> Board:
    """An A100 with 40 GB; `profiles` are its slices by place, such as {0: "3g.20gb", 3: "1g.5gb"}."""
    memory = {"1g.5gb": 4864 * 2**20, "2g.10gb": 9984 * 2**20, "3g.20gb": 19968 * 2**20}
    name = "NVIDIA A100-SXM4-40GB"
    slices = {
        place: Board(f"MIG-{letter * 8}-0000-5000-8000-{place:012d}", f"{name} MIG {profile}", memory[profile])
        for place, profile in (profiles or {}).items()
    }
    on = int(bool(profiles) if mig is None else mig)
    return Board(f"GPU-{letter * 8}-0000-4000-8000-000000000000", name, 40960 * 2**20, (on, on), slices)


def geforce(letter: str) -> Board:
    """A GPU that knows no MIG."""
    return Board(f"GPU-{letter * 8}-1111-4000-8000-000000000000", "NVIDIA GeForce RTX 3090", 24576 * 2**20)


MIG_FUNCTIONS = ("nvmlDeviceGetMigMode", "nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMigDeviceHandleByIndex")


class Library:
    """The functions of the C library that nvidia-ml-py calls. A device handle is 16 × (1 + GPU) + (1 + place of the slice)."""

    def __init__(self, boards: list[Board], init: int, old_driver: bool) -> None:
        self.opened = 0
        self._boards = boards
        self._init = init
        self._old_driver = old_driver

    def __getattribute__(self, name):
        if name in MIG_FUNCTIONS and self._old_driver:
            raise AttributeError(name)  # as ctypes does for a symbol that a library has not
        return super().__getattribute__(name)

    def nvmlInitWithFlags(self, flags):
        self.opened += self._init == pynvml.NVML_SUCCESS
        return self._init

    def nvmlShutdown(self):
        self.opened -= 1
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetCount_v2(self, count):
        count._obj.value = len(self._boards)
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetHandleByIndex_v2(self, index, device):
        if index.value >= len(self._boards):
            return pynvml.NVML_ERROR_INVALID_ARGUMENT
        ctypes.c_void_p.from_buffer(device._obj).value = 16 * (1 + index.value)
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetName(self, handle, text, length):
        return self._text(text, length, self._board(handle).name)

    def nvmlDeviceGetUUID(self, handle, text, length):
        return self._text(text, length, self._board(handle).uuid)

    def nvmlDeviceGetMemoryInfo(self, handle, memory):
        board = self._board(handle)
        assert isinstance(memory._obj, pynvml.c_nvmlMemory_t)
        memory._obj.total, memory._obj.used, memory._obj.free = board.memory, GIB, board.memory - GIB
        return board.memory_error

    def nvmlDeviceGetMigMode(self, handle, current, pending):
        mode = self._board(handle).mig
        if isinstance(mode, int):
            return mode
        current._obj.value, pending._obj.value = mode
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetMaxMigDeviceCount(self, handle, count):
        count._obj.value = 7
        return pynvml.NVML_SUCCESS

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle, index, device):
        if index.value not in self._board(handle).slices:
            return pynvml.NVML_ERROR_NOT_FOUND
        ctypes.c_void_p.from_buffer(device._obj).value = ctypes.cast(handle, ctypes.c_void_p).value + 1 + index.value
        return pynvml.NVML_SUCCESS

    def _board(self, handle) -> Board:
        gpu, place = divmod(ctypes.cast(handle, ctypes.c_void_p).value, 16)
        board = self._boards[gpu - 1]
        return board.slices[place - 1] if place else board

    def _text(self, text, length, value):
        if len(value) >= length.value:
            return pynvml.NVML_ERROR_INSUFFICIENT_SIZE
        text.value = value.encode()
        return pynvml.NVML_SUCCESS


def pretend(
    monkeypatch: pytest.MonkeyPatch, *boards: Board, init: int = pynvml.NVML_SUCCESS, old_driver: bool = False, visible: str | None = None
) -> Library:
    """Make this process's NVML answer for these GPUs; `init` is what it says on start, `visible` is CUDA_VISIBLE_DEVICES."""
    library = Library(list(boards), init, old_driver)
    monkeypatch.setattr(pynvml, "nvmlLib", library)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    return library
