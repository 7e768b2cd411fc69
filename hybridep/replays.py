"""`Replays`: device work that recurs with the same shapes, captured once as a CUDA graph and replayed; on other devices it just runs."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class _Graph:
    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    outputs: list[Tensor]


class Replays:
    """Work on tensors, by key: whatever the work reads, but its inputs, stays where it is and is written in place.

    A graph has inputs and outputs of its own. Inputs are copied there, also from the CPU, unless they are outputs of another graph of
    these; outputs hold until the same key runs again. Inside captured work, without `captures`, and where the device is no GPU, work is
    simply called.
    Graphs take memory of the device, which PyTorch's allocator counts like any other.
    """

    def __init__(self, device: torch.device | str, captures: bool = True) -> None:
        self.device = torch.device(device)
        self.captures = captures and self.device.type == "cuda"
        self._graphs: dict[Hashable, _Graph] = {}
        self._outputs: set[int] = set()
        self._inside = not self.captures

    def __call__(
        self, key: Hashable, work: Callable[..., list[Tensor]], *inputs: Tensor, writes: Callable[[], Sequence[Tensor]] = tuple
    ) -> list[Tensor]:
        """The outputs of work(*inputs); `key` names all that its kernels depend on, shapes too.

        `writes` gives the tensors that it changes in place: capturing takes a trial run, after which they are set back.
        """
        if self.device.type == "cpu":
            return work(*inputs)
        if self._inside:
            return work(*(given.to(self.device, non_blocking=True) for given in inputs))
        found = self._graphs.get(key)
        if found is None:
            found = self._graphs[key] = self._capture(work, inputs, writes())
        for own, given in zip(found.inputs, inputs, strict=True):
            if own is not given:
                own.copy_(given, non_blocking=True)
        found.graph.replay()
        return found.outputs

    def forget(self) -> None:
        """Drop all graphs: what they read in place has moved."""
        self._graphs.clear()
        self._outputs.clear()

    def _capture(self, work: Callable[..., list[Tensor]], inputs: Sequence[Tensor], writes: Sequence[Tensor]) -> _Graph:
        own = [given if id(given) in self._outputs else self._copy(given) for given in inputs]
        before = [tensor.clone() for tensor in writes]
        self._inside = True
        try:
            # The trial run: libraries make their handles and workspaces at the first call, which no graph can hold.
            side = torch.cuda.Stream(self.device)
            side.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(side):
                work(*own)
            torch.cuda.current_stream(self.device).wait_stream(side)
            for tensor, value in zip(writes, before, strict=True):
                tensor.copy_(value)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                outputs = work(*own)
        finally:
            self._inside = False
        self._outputs.update(id(tensor) for tensor in outputs)
        return _Graph(graph, own, outputs)

    def _copy(self, given: Tensor) -> Tensor:
        return torch.empty_like(given, device=self.device).copy_(given)

    def __getstate__(self) -> dict[str, object]:
        return {"device": self.device, "captures": self.captures}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(**state)  # type: ignore[misc]
