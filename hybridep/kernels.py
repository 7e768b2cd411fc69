"""The dense arithmetic of the hot loop: an affine map into a given buffer, activations in place, and how many threads they may use.

On a CPU the products go to NumPy's OpenBLAS and tanh to NumPy's SIMD loops, on shared memory: same float32 accuracy as PyTorch's own,
up to ten times the speed for tanh and for thin matrices (`studies/relaxation_benchmark.py` measures it). Everywhere else PyTorch's run,
and so they do for products that are large enough to gain from several threads. The choice depends on the device, the shapes and the number
of threads alone, so that the same configuration gives the same numbers every time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar, cast

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

# cuDNN convolutions would use TF32 unasked: ten bits of a state are too few for the difference of two equilibria.
torch.backends.cudnn.allow_tf32 = False
# The same seed gives the same numbers again, convolutions too: no algorithm that adds in an order of its own.
torch.backends.cudnn.deterministic = True

Work = TypeVar("Work", bound=Callable[..., Any])

# NumPy's products take one thread: its pool's and PyTorch's, which both spin while they wait, would keep each other from the CPUs (an
# update of the fashion-mnist network took ten times as long on two). Large products are PyTorch's where it has several.
_ONE_THREAD: Final[dict[str, Any]] = {"limits": 1, "user_api": "blas"}
_blas_limits: list[threadpool_limits] = []


def use_threads(count: int) -> None:
    """Let this process use `count` CPU threads, PyTorch's, from here on; NumPy's products take one."""
    torch.set_num_threads(count)
    _blas_limits[:] = [threadpool_limits(**_ONE_THREAD)]


def numpy_on_one_thread(work: Work) -> Work:
    """A decorator: NumPy's products take one thread while `work` runs, also in a process that never called `use_threads`."""
    return cast(Work, threadpool_limits.wrap(**_ONE_THREAD)(work))


# From which size on PyTorch's product on two threads was faster than NumPy's on one, in multiplications and in columns of the result.
SHARED_PRODUCT: Final = 2**20
SHARED_COLUMNS: Final = 16


def affine(x: Tensor, weight: Tensor, drive: Tensor, out: Tensor) -> Tensor:
    """out ← x·weight + drive; x [n, a], weight [a, b], drive [n, b] or [b], none overlapping out."""
    if out.device.type == "cpu" and not (torch.get_num_threads() > 1 and _worth_sharing(out.shape[0], weight)):
        return _affine_on_one_thread(x, weight, drive, out)
    return torch.addmm(drive, x, weight, out=out)


def affine_each(x: Tensor, weight: Tensor, drive: Tensor, out: Tensor) -> Tensor:
    """`affine` for each network of a stack: x [networks, n, a], weight [networks, a, b], drive [networks, n, b] or [networks, 1, b].

    On a GPU in one batched product, whose sums round otherwise than those of one network alone.
    """
    if out.device.type != "cpu":
        return torch.baddbmm(drive, x, weight, out=out)
    for parts in zip(x, weight, drive, out, strict=True):
        affine(*parts)
    return out


def _worth_sharing(n: int, weight: Tensor) -> bool:
    return weight.shape[1] >= SHARED_COLUMNS and n * weight.numel() >= SHARED_PRODUCT


@np.errstate(over="ignore", invalid="ignore")  # a trial that overflows is a result, and torch says nothing of it either
def _affine_on_one_thread(x: Tensor, weight: Tensor, drive: Tensor, out: Tensor) -> Tensor:
    array = out.numpy()
    np.matmul(x.numpy(), weight.numpy(), out=array)
    np.add(array, drive.numpy(), out=array)
    return out


def flat(s: Tensor) -> Tensor:
    """[n, units]; image-like layers [n, channels, height, width] with their channels last, the order in which they lie in memory."""
    return s.permute(0, 2, 3, 1).flatten(1) if s.dim() == 4 else s


def units(s: Tensor) -> Tensor:
    """[n, units] in the order in which they lie in memory, whichever that is."""
    return s.flatten(1) if s.is_contiguous() else flat(s)


def unflat(units: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The reverse of `flat`, for layers of that shape without n."""
    if len(shape) < 3:
        return units
    channels, height, width = shape
    return units.view(-1, height, width, channels).permute(0, 3, 1, 2)


def laid_out(s: Tensor) -> Tensor:
    """Image-like layers [n, channels, height, width] as their device is fastest: channels last, on a GPU in float32 first."""
    return s.contiguous(memory_format=image_layout(s)) if s.dim() == 4 else s


def image_layout(like: Tensor) -> torch.memory_format:
    return torch.contiguous_format if like.is_cuda and like.dtype == torch.float32 else torch.channels_last


def take(block: Tensor, rows: Tensor) -> Tensor:
    """Some rows of a block; images stay laid out as they were. Indexing does the same, several times slower."""
    if block.is_cuda and block.is_contiguous():
        return block.index_select(0, rows)
    return unflat(flat(block).index_select(0, rows), tuple(block.shape[1:]))


@contextmanager
def tensor_cores(used: bool) -> Iterator[None]:
    """Within, products and convolutions on a GPU round their float32 factors to TF32, ten bits, if `used`; sums stay float32."""
    if not used:
        yield
        return
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def tanh_(x: Tensor) -> Tensor:
    if x.device.type != "cpu":
        return x.tanh_()
    array = x.numpy()
    np.tanh(array, out=array)
    return x


def sigmoid_(x: Tensor) -> Tensor:
    return x.sigmoid_()


def hard_sigmoid_(x: Tensor) -> Tensor:
    """½(1 + clamp(x − 1, −1, 1)), the one of the EP convolutional networks."""
    return x.mul_(0.5).clamp_(0, 1)


def unit_hard_sigmoid_(x: Tensor) -> Tensor:
    """clamp(x, 0, 1)."""
    return x.clamp_(0, 1)


def centered_hard_sigmoid_(x: Tensor) -> Tensor:
    """clamp(x, −½, ½)."""
    return x.clamp_(-0.5, 0.5)


# In-place function and the bounds of its values, by the name that TrialConfig.activation takes.
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], float, float]] = {
    "tanh": (tanh_, -1.0, 1.0),
    "sigmoid": (sigmoid_, 0.0, 1.0),
    "hard_sigmoid": (hard_sigmoid_, 0.0, 1.0),
    "unit_hard_sigmoid": (unit_hard_sigmoid_, 0.0, 1.0),
    "centered_hard_sigmoid": (centered_hard_sigmoid_, -0.5, 0.5),
}
