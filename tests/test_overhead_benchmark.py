"""The overhead benchmark's arithmetic, on a study of which every second is known."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "studies"))

from overhead_benchmark import Args, Timeline, measured, plan
from running.folder import StudyFolder

from hybridep.config import InvalidInput

DESCRIPTION = {"kind": "overhead_benchmark", "arguments": {}, "protocol": {}, "seeds": [], "dataset": {}, "trials_planned": 6}


def test_time_is_shared_out_between_the_start_the_trials_and_what_lies_between_them(tmp_path: Path) -> None:
    """Two workers; each imports for its first trial, then trains two more of 2 s of work with 0.5 s of Tune before each."""
    folder = StudyFolder.create(tmp_path / "study", DESCRIPTION)
    for number in range(6):
        files = folder.trial(f"search-{number:04d}")
        files.begin({})
        row = {"trial_id": files.path.name, "pid": number % 2, "timestamp": 10 + number, "epoch_seconds_by_seed": [1.5, 0.5]}
        files.append(json.dumps(row))
    folder.close()
    marks = {"arguments and data": 1.0, "Ray started": 5.0, "first epoch reported": 10.0, "last trial ended": 15.0, "Ray stopped": 16.0}
    timeline = Timeline(marks, {100: 200.0, 200: 201.0, 300: 204.0})
    table = {quantity: value for quantity, value, _ in measured(folder, timeline, trials=6, slots=2)}
    assert table["until: Ray started"] == 4.0
    assert table["inside Trainer, all trials"] == 12.0
    assert table["workers' time outside Trainer, whole run"] == pytest.approx(1 - 12 / 32)
    assert table["workers' time outside Trainer, first to last report"] == pytest.approx(1 - 8 / 10)
    assert table["overhead of a trial, first to last report"] == pytest.approx(0.5)
    assert table["driver's growth a 100 trials, after the first 100"] == 2.0


def test_only_the_strategies_differ_between_its_trials() -> None:
    work = plan(Args(trials=5, search="fixed"))
    assert len(work.fixed) == 5
    assert len({trial.name for trial in work.fixed}) == 5
    assert work.protocol.epochs == 1


@pytest.mark.parametrize("args", [Args(trials=0), Args(search="luck"), Args(seeds=()), Args(seeds=(1, 1)), Args(dataset="imagenet")])
def test_bad_arguments_are_refused_in_one_line(args: Args) -> None:
    with pytest.raises(InvalidInput, match=r"^--[^\n]*$"):
        plan(args)
