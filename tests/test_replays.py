"""`Replays` where there is no GPU: work is called as it is. What graphs do is tested on a GPU (`tests/test_gpu.py`)."""

import pickle

import torch
from torch import Tensor

from hybridep.replays import Replays


def test_without_a_gpu_work_runs_each_time_on_what_it_is_given() -> None:
    replays = Replays("cpu")
    total = torch.zeros(2)

    def work(x: Tensor) -> list[Tensor]:
        total.add_(x)
        return [total * 2]

    assert replays("add", work, torch.ones(2), writes=lambda: [total])[0].tolist() == [2, 2]
    assert replays("add", work, torch.full((2,), 3.0), writes=lambda: [total])[0].tolist() == [8, 8]


def test_graphs_are_left_behind_by_pickle() -> None:
    replays = pickle.loads(pickle.dumps(Replays("cpu")))
    assert replays("one", lambda: [torch.ones(1)])[0].tolist() == [1]
