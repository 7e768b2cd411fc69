"""The matrix products and convolutions of a network update: their arithmetic, and how fast each backend of this machine runs them."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, cast
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from hybridep.architectures import Convolutional, FullyConnected
from hybridep.config import TrialConfig

ROUNDS = 15
SHORTEST_ROUND = 2e-3  # seconds; a backend is called as often as it takes to last so long


@dataclass(frozen=True)
class Operation:
    """Something that every step of the dynamics does, and the ways in which it can be done; `flops` is 0 for an activation."""

    name: str
    flops: float
    backends: dict[str, Callable[[], object]] = field(repr=False)


@dataclass(frozen=True)
class Rate:
    """The fastest of `ROUNDS` runs of an operation on one backend."""

    operation: Operation
    backend: str
    seconds: float


def flops_per_step(config: TrialConfig) -> float:
    """Multiplications and additions of one update of every layer of one sample, from the layers below and above.

    The input's connection does not count: what it contributes is constant while a network relaxes.
    """
    shapes = config.layer_shapes()[1:]
    macs = 0
    for below, above in pairwise(shapes):
        if len(above) == 3:
            own = cast(Convolutional, config.network)
            macs += above[0] * below[0] * own.kernel**2 * math.prod(_convolved(own, below))
        else:
            macs += torch.Size(below).numel() * above[0]
    return 2 * 2 * macs


def operations(config: TrialConfig, n: int) -> list[Operation]:
    """The products of one step on a batch of n, upwards and downwards, then the activation where that is costly."""
    if isinstance(config.network, FullyConnected):
        odd, even = sum(config.network.sizes[1::2]), sum(config.network.sizes[2::2])
        found = [_gemm(n, even, odd), _gemm(n, odd, even)]
        return [*found, _tanh(n, odd)] if config.network.activation == "tanh" else found
    found = []
    for below, above in pairwise(config.layer_shapes()[1:]):
        if len(above) == 3:
            found += _convolutions(cast(Convolutional, config.network), n, below, above[0])
        else:
            units = torch.Size(below).numel()
            found += [_gemm(n, units, above[0]), _gemm(n, above[0], units)]
    return found


def _convolved(own: Convolutional, below: tuple[int, ...]) -> list[int]:
    """Height and width of what a convolution makes of maps [channels, height, width]."""
    return [(side + 2 * own.padding - own.kernel) // own.stride + 1 for side in below[1:]]


def _gemm(n: int, inner: int, units: int) -> Operation:
    x, weight, out = torch.randn(n, inner), torch.randn(inner, units), torch.empty(n, units)
    turned = weight.T.contiguous().T
    arrays, turned_array = (x.numpy(), weight.numpy(), out.numpy()), turned.numpy()
    backends: dict[str, Callable[[], object]] = {
        "torch.mm": lambda: torch.mm(x, weight, out=out),
        "torch.mm, transposed weight": lambda: torch.mm(x, turned, out=out),
        "numpy.matmul": lambda: np.matmul(arrays[0], arrays[1], out=arrays[2]),
        "numpy.matmul, transposed weight": lambda: np.matmul(arrays[0], turned_array, out=arrays[2]),
    }
    return Operation(f"{n}×{inner} · {inner}×{units}", 2.0 * n * inner * units, backends)


def _tanh(n: int, units: int) -> Operation:
    x, out = torch.randn(n, units), torch.empty(n, units)
    array, out_array = x.numpy(), out.numpy()
    backends = {"torch.tanh": lambda: torch.tanh(x, out=out), "numpy.tanh": lambda: np.tanh(array, out=out_array)}
    return Operation(f"tanh {n}×{units}", 0.0, backends)


def _convolutions(own: Convolutional, n: int, below: tuple[int, ...], maps: int) -> Iterator[Operation]:
    """The convolution [n, *below] → maps and its transpose."""
    height, width = _convolved(own, below)
    weight = torch.randn(maps, below[0], own.kernel, own.kernel)
    s, spread = torch.randn(n, *below), torch.randn(n, maps, height, width)
    rest = [side - (size - 1) * own.stride + 2 * own.padding - own.kernel for size, side in zip((height, width), below[1:], strict=True)]
    flops = 2.0 * n * maps * below[0] * own.kernel**2 * height * width
    layouts = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}

    def up(layout: torch.memory_format) -> Callable[[], object]:
        a, w = s.contiguous(memory_format=layout), weight.contiguous(memory_format=layout)
        return lambda: F.conv2d(a, w, stride=own.stride, padding=own.padding)

    def down(layout: torch.memory_format) -> Callable[[], object]:
        a, w = spread.contiguous(memory_format=layout), weight.contiguous(memory_format=layout)
        return lambda: F.conv_transpose2d(a, w, stride=own.stride, padding=own.padding, output_padding=rest)

    name = f"{own.kernel}×{own.kernel} on {n}×{below[0]}×{below[1]}×{below[2]} to {maps} maps"
    yield Operation(f"convolution {name}", flops, {f"conv2d, {title}": up(layout) for title, layout in layouts.items()})
    transposes = {f"conv_transpose2d, {title}": down(layout) for title, layout in layouts.items()}
    if own.stride == 1:
        # The transpose of a convolution with stride 1 is one with the kernel turned round.
        turned = weight.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
        a = spread.contiguous(memory_format=torch.channels_last)
        transposes["conv2d, turned kernel, channels last"] = lambda: F.conv2d(a, turned, padding=own.kernel - 1 - own.padding)
    yield Operation(f"transpose of convolution {name}", flops, transposes)


@torch.no_grad()
def measure(found: list[Operation]) -> list[Rate]:
    """Time every backend of every operation, in turns, so that noise hits all alike."""
    runs = [(operation, backend, call) for operation in found for backend, call in operation.backends.items()]
    counts = [max(1, round(SHORTEST_ROUND / max(_seconds(call, 2), 1e-7))) for _, _, call in runs]
    rounds = [[_seconds(call, count) for (_, _, call), count in zip(runs, counts, strict=True)] for _ in range(ROUNDS)]
    fastest = [min(seconds) for seconds in zip(*rounds, strict=True)]
    return [Rate(operation, backend, seconds) for (operation, backend, _), seconds in zip(runs, fastest, strict=True)]


def _seconds(call: Callable[[], object], count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - started) / count


def best_gflops(rates: list[Rate]) -> float:
    """Arithmetic of a step's products over the time that they take when each runs on its fastest backend."""
    slowest_first = sorted((rate for rate in rates if rate.operation.flops), key=lambda rate: -rate.seconds)
    fastest = {rate.operation.name: rate for rate in slowest_first}.values()
    return sum(rate.operation.flops for rate in fastest) / sum(rate.seconds for rate in fastest) / 1e9


PRODUCTS = ("mm", "matmul", "linear", "conv")


class _ProductClock(TorchFunctionMode):
    """Counts the CPU seconds of this thread in PyTorch's and NumPy's matrix products and convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def timed(self, product: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        started = time.thread_time()
        result = product(*args, **kwargs)
        self.seconds += time.thread_time() - started
        return result

    def __torch_function__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        name = getattr(function, "__name__", "")
        call = partial(self.timed, function) if any(product in name for product in PRODUCTS) else function
        return call(*args, **(kwargs or {}))


@torch.no_grad()
def share_in_products(work: Callable[[], object], rounds: int = 5) -> float:
    """Fraction of the time of `work` that is spent in matrix products and convolutions, by the CPU time of this thread."""
    shares = []
    matmul = np.matmul
    work()
    for _ in range(rounds):
        started = time.thread_time()
        work()
        total = time.thread_time() - started
        clock = _ProductClock()
        with mock.patch.object(np, "matmul", partial(clock.timed, matmul)), clock:
            work()
        shares.append(clock.seconds / total)
    return float(np.median(shares))
