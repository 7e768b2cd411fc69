"""The chaos benchmark's comparison, on rows that were written by hand."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from studies.chaos_benchmark import SEEDS, Args, compared, main, plan

Rows = dict[str, list[dict[str, Any]]]


def write(study: Path, trials: Rows) -> Path:
    for name, rows in trials.items():
        (study / "ray" / name).mkdir(parents=True)
        (study / "ray" / name / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return study


CALM: Rows = {name: [{"epoch": epoch, "test_acc": 0.1 * epoch, "pid": 1, "timestamp": 7} for epoch in (1, 2, 3)] for name in ("a", "b")}


def test_repeated_epochs_are_counted_and_the_clock_is_not_compared(tmp_path: Path) -> None:
    again = {name: [{**row, "pid": 2, "timestamp": 9} for row in rows] for name, rows in CALM.items()}
    again["a"][1:1] = [again["a"][0], again["a"][0]]
    found = compared(write(tmp_path / "calm", CALM), write(tmp_path / "disturbed", again), Counter(worker=3))
    assert (found["trials"], found["trials_equal"], found["epochs"]) == (2, 2, 6)
    assert (found["epochs_trained_again"], found["most_often_again"], found["kills"]) == (2, 2, {"worker": 3})


@pytest.mark.parametrize(
    "spoilt",
    [
        {"a": CALM["a"]},
        {**CALM, "b": CALM["b"][:2]},
        {**CALM, "b": [*CALM["b"][:2], {**CALM["b"][2], "test_acc": 0.3 + 1e-16}]},
        {**CALM, "b": [*CALM["b"], {**CALM["b"][0], "test_acc": 0.5}]},
    ],
)
def test_a_lost_or_different_row_is_found(tmp_path: Path, spoilt: Rows) -> None:
    found = compared(write(tmp_path / "calm", CALM), write(tmp_path / "disturbed", spoilt), Counter())
    assert found["trials_equal"] == 1


def test_every_strategy_of_the_thesis_has_a_trial_on_each_seed() -> None:
    trials = plan(Args()).fixed
    assert len({(trial.strategy, trial.seeds) for trial in trials}) == 5 * len(SEEDS) == len({trial.name for trial in trials})


def test_bad_arguments_are_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.json").write_text("{}")
    for argv, complaint in (
        (["--kills", "3"], "--kills 3: must be 4 to 100,000"),
        (["--epochs", "0"], "epochs 0:"),
        (["--out", str(tmp_path)], "--out"),
        (["--out", "s3://bucket/chaos"], "--out s3://bucket/chaos: must be a folder"),
        (["--resume", "results"], "--resume results: means nothing to this command"),
        (["--max-concurrent", "1"], "--max-concurrent 1: means nothing to this command"),
    ):
        assert main(argv) == 2
        shown = capsys.readouterr()
        assert shown.err.startswith(f"error: {complaint}")
        assert shown.err.count("\n") == 1
