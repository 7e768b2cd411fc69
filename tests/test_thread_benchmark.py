"""The comparison of trials together with trials in turn, on digits at sizes that take seconds. Times are never asserted."""

from pathlib import Path

import pandas as pd
import pytest

from studies import thread_benchmark


@pytest.mark.skipif(thread_benchmark.os.cpu_count() == 1, reason="needs two CPUs")
def test_both_arrangements_train_the_same_trials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    options = f"--protocol digits --cpus 2 --train-samples 32 --rounds 1 --out {out}"
    assert thread_benchmark.main(options.split()) == 0
    table = pd.read_csv(out / "results.csv")
    assert (table["round"] == 1).all()
    assert sorted(table["arrangement"]) == [thread_benchmark.IN_TURN, thread_benchmark.TOGETHER]
    accuracies = table.pivot(index="round", columns="arrangement", values="test_acc")
    # Sums over other numbers of threads round otherwise, which may turn the odd prediction.
    assert (accuracies[thread_benchmark.IN_TURN] - accuracies[thread_benchmark.TOGETHER]).abs().max() < 0.03
    assert "digits: an epoch of 2 trials" in capsys.readouterr().out
    assert (out / "study.json").exists()


def test_the_advantage_is_the_median_over_rounds() -> None:
    rows = [("mnist", number, thread_benchmark.TOGETHER, 2.0) for number in (1, 2, 3)]
    rows += [("mnist", number, thread_benchmark.IN_TURN, seconds) for number, seconds in ((1, 2.0), (2, 4.0), (3, 40.0))]
    results = pd.DataFrame(rows, columns=["protocol", "round", "arrangement", "seconds"])
    assert thread_benchmark.advantage(results).to_dict() == {"mnist": 2.0}


@pytest.mark.parametrize(
    "options",
    [
        ["--protocol", "svhn"],
        ["--protocol"],
        ["--rounds", "0"],
        ["--cpus", "1"],
        ["--cpus", "100000"],
        ["--train-samples", "0"],
        ["--train-samples", "99999999"],
        ["--relaxation", "none"],
    ],
    ids=lambda options: options[0],
)
def test_a_mistake_is_told_in_one_line(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert thread_benchmark.main([*options, "--out", str(tmp_path / "out")]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: ")
    assert complaint.count("\n") == 1
    assert options[0] in complaint
    assert not (tmp_path / "out").exists()
