"""The benchmark of updates on a GPU, as far as a CPU reaches."""

import pytest
import torch

from studies.gpu_benchmark import configuration, main, measured


def test_the_same_run_gives_the_same_weights_again_also_after_it_was_saved() -> None:
    found = measured(configuration("fashion-conv", "adaptive", "float32", updates=1), device="cpu")
    assert found["equal_again"] and found["equal_resumed"] and found["equal_uncaptured"]
    assert found["furthest"] == 0
    assert found["captured_ms"] > 0
    assert found["any_algorithm_ms"] > 0
    assert torch.backends.cudnn.deterministic


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--updates", "0"], "--updates 0: must be 1 to 100"),
        (["--protocol", "imagenet"], "imagenet"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "needs a GPU" in capsys.readouterr().err
