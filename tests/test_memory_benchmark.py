"""The measurement of memory, on digits. Its figures are asserted only as far as no noise reaches."""

import pytest

from studies import memory_benchmark


def test_a_trial_takes_more_than_a_worker_that_waits() -> None:
    config = memory_benchmark.configurations(memory_benchmark.Args(protocol=("digits",), updates=2, test_samples=50))["digits"]
    idle, peak, data = memory_benchmark.measure(config)
    # PyTorch alone takes a hundred mebibytes; a trial on digits takes little above it.
    assert 100 * 2**20 < idle < peak < idle + 2**30
    assert data == (1437 + 360) * (64 + 8)


@pytest.mark.parametrize(
    "options",
    [
        ["--protocol", "svhn"],
        ["--protocol"],
        ["--updates", "0"],
        ["--updates", "999999"],
        ["--test-samples", "0"],
        ["--relaxation", "none"],
    ],
    ids=" ".join,
)
def test_a_mistake_is_told_in_one_line(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert memory_benchmark.main(options) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: ")
    assert complaint.count("\n") == 1
    assert options[0] in complaint
