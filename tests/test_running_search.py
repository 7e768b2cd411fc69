"""Which trial comes next, and what is remembered of it: in order, after crashes, with every sampler."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hybridep.config import LABELS, InvalidInput
from hybridep.policies import FAMILIES
from hybridep.presets import PROTOCOLS, STRATEGIES
from hybridep.schedules import Constant
from hybridep.study.decide import confirmations
from hybridep.study.folder import StudyFolder
from hybridep.study.plan import Plan, PlannedTrial, SearchPlan
from hybridep.study.progress import Progress
from hybridep.study.search import SAMPLERS, InterruptibleLock, OptunaTrials, TrialSource, varying
from hybridep.study.tuning import OutOfTime, StudyLog, StudyStopped
from search_spaces import Limits, Space

DIGITS = PROTOCOLS["digits"]
SPACE = Space.named("schedule", Limits.around(DIGITS))
THESIS = [PlannedTrial(name, name, "thesis", (0, 1), strategy) for name, strategy in STRATEGIES.items()]
DESCRIPTION = {"kind": "schedule_sweep", "arguments": {}, "protocol": {}, "seeds": [], "dataset": {}, "trials_planned": 1}


def search(trials: int = 4, sampler: str = "random", space: Space = SPACE) -> SearchPlan:
    return SearchPlan(space, DIGITS, sampler, trials, (0, 1))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StudyFolder]:
    made = StudyFolder.create(tmp_path / "study", DESCRIPTION)
    yield made
    made.close()


class Tune:
    """Asks for trials and ends them, as Tune does."""

    def __init__(self, folder: StudyFolder, plan: SearchPlan | None = None, **options: Any) -> None:
        self.folder = folder
        self.source = TrialSource(folder, options.pop("fixed", THESIS), OptunaTrials(folder, plan) if plan else None, **options)
        self.given: dict[str, dict[str, Any]] = {}
        self.asked = 0

    def take(self) -> str:
        """The name of the next trial, FINISHED or None."""
        self.asked += 1
        config = self.source.suggest(f"id-{self.asked}")
        if not isinstance(config, dict):
            return str(config)
        assert config["trial"] not in self.given
        self.given[config["trial"]] = {**config, "id": f"id-{self.asked}"}
        self.folder.trial(config["trial"]).begin(config)
        return str(config["trial"])

    def write(self, name: str, accuracy: float = 0.5, cost: float = 100.0) -> dict[str, Any]:
        """Put the last epoch of a trial on file, and return what Tune would tell."""
        config = {key: value for key, value in self.given[name].items() if key != "id"}
        row = {"epoch": 15, "done": True, "val_acc": accuracy, "val_acc_std": 0.0, "nudged_phases": cost, "config": config}
        self.folder.trial(name).append(json.dumps(row))
        return row

    def end(self, name: str, accuracy: float = 0.5, cost: float = 100.0) -> None:
        self.source.on_trial_complete(self.given[name]["id"], self.write(name, accuracy, cost))

    def overrides(self, name: str) -> dict[str, Any]:
        return {key: value for key, value in self.given[name].items() if key not in ("id", *LABELS)}


def test_the_thesis_comes_first_then_the_search_then_the_end(folder: StudyFolder) -> None:
    tune = Tune(folder, search(2))
    names = [tune.take() for _ in range(7)]
    assert names == [*STRATEGIES, "search-0001", "search-0002"]
    assert tune.take() == "None"  # trials are running still
    for name in names:
        tune.end(name)
    assert tune.take() == "FINISHED"
    assert not tune.source.unfinished


def test_without_a_search_the_fixed_trials_are_all(folder: StudyFolder) -> None:
    tune = Tune(folder)
    for _ in THESIS:
        tune.end(tune.take())
    assert tune.take() == "FINISHED"


def test_no_more_trials_are_given_out_than_there_is_room_for(folder: StudyFolder) -> None:
    tune = Tune(folder, most=lambda: 2)
    first, _, third = tune.take(), tune.take(), tune.take()
    assert third == "None"
    tune.end(first)
    assert tune.take() == "cosine"


def test_a_trial_carries_the_overrides_of_its_strategy_alone(folder: StudyFolder) -> None:
    tune = Tune(folder, search(30))
    names = [tune.take() for _ in range(35)]
    assert tune.overrides("cosine") == STRATEGIES["cosine"]
    assert tune.given["cosine"]["description"] == "cosine, mean p_std 0.5"
    for name in names:
        DIGITS.replace(**tune.overrides(name))


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_trials_that_did_not_end_are_given_again_after_a_crash(folder: StudyFolder, sampler: str) -> None:
    before = Tune(folder, search(6, sampler))
    names = [before.take() for _ in range(8)]
    for name in ("standard", "cosine", "search-0002"):
        before.end(name)

    after = Tune(folder, search(6, sampler))
    again = [after.take() for _ in range(5)]
    assert again == [name for name in names if name not in ("standard", "cosine", "search-0002")]
    assert [after.overrides(name) for name in again] == [before.overrides(name) for name in again]
    assert [after.take() for _ in range(3)] == ["search-0004", "search-0005", "search-0006"]
    assert after.take() == "None"


def test_a_result_that_optuna_was_not_told_before_a_crash_is_told_after_it(folder: StudyFolder) -> None:
    before = Tune(folder, search(2))
    for _ in range(6):
        before.take()
    before.write("centered", 0.9, 1140)
    before.write("search-0001", 0.8, 700)
    after = Tune(folder, search(2))
    study = after.source._search.study
    told = {trial.user_attrs["trial"]: trial.values for trial in study.trials if trial.state.is_finished()}
    assert told == {"centered": [0.9, 1140], "search-0001": [0.8, 700]}
    assert [after.take() for _ in range(5)] == ["standard", "cosine", "inverse_cosine", "stochastic", "search-0002"]


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_a_crash_while_a_strategy_is_chosen_changes_nothing(folder: StudyFolder, tmp_path: Path, chosen: int) -> None:
    undisturbed = StudyFolder.create(tmp_path / "undisturbed", DESCRIPTION)
    whole = Tune(undisturbed, search(4), fixed=[])
    names = [whole.take() for _ in range(4)]
    undisturbed.close()

    class Died(Exception):
        """The driver is killed."""

    begun = Tune(folder, search(4), fixed=[])
    begun.take()

    def space(trial: Any) -> dict[str, Any]:
        if chosen > 0:
            trial.suggest_categorical("family", SPACE.limits.families)
        if chosen > 1:
            trial.suggest_float("skew", *SPACE.limits.skew)
        raise Died

    begun.source._search._plan = replace(begun.source._search._plan, space=space)  # type: ignore[arg-type]
    with pytest.raises(Died):
        begun.take()
    after = Tune(folder, search(4), fixed=[])
    assert [after.take() for _ in range(5)] == [*names, "None"]
    assert [after.overrides(name) for name in names] == [whole.overrides(name) for name in names]


def test_a_crash_while_a_fixed_strategy_is_noted_leaves_its_point_whole(folder: StudyFolder) -> None:
    study = Tune(folder, search(2)).source._search.study
    study.ask()
    Tune(folder, search(2)).take()
    points = [trial.system_attrs["fixed_params"] for trial in study.trials if trial.user_attrs["trial"] == "standard"]
    assert len(points) == 2
    assert points[0] == points[1] != {}


def test_a_search_goes_on_after_a_family_came_to_the_code(folder: StudyFolder) -> None:
    begun = Space.named("estimators", Limits.around(DIGITS))
    before = Tune(folder, search(12, "tpe", begun), fixed=[])
    for _ in range(5):
        before.end(before.take())
    known = dict(FAMILIES)
    try:

        class Sometimes(Constant, name="sometimes"):
            """A family that came to the code when the study had begun."""

        with pytest.raises(InvalidInput, match=r"^--resume \S+: this version has another search space than .*search-0001: Categorical"):
            Tune(folder, search(12, "tpe", Space.named("estimators", Limits.around(DIGITS))), fixed=[])
        same = Limits.around(DIGITS).choosing(begun.limits.choices)
        after = Tune(folder, search(12, "tpe", Space.named("estimators", same)), fixed=[])
        for _ in range(7):
            after.end(after.take())
        assert after.take() == "FINISHED"
    finally:
        FAMILIES.restore(known)


def test_a_failed_trial_is_tried_again_when_the_study_goes_on(folder: StudyFolder) -> None:
    before = Tune(folder, search(1), fixed=[])
    before.take()
    folder.trial("search-0001").error.write_text("out of memory")
    before.source.on_trial_complete("id-1", {"done": True, "failed": "out of memory"})
    assert before.take() == "FINISHED"

    folder.recover()
    after = Tune(folder, search(1), fixed=[])
    assert after.take() == "search-0001"
    assert after.overrides("search-0001") == before.overrides("search-0001")


def test_a_random_search_does_not_depend_on_where_it_was_stopped(folder: StudyFolder, tmp_path: Path) -> None:
    whole = Tune(folder, search(8))
    names = [whole.take() for _ in range(13)]
    stopped = StudyFolder.create(tmp_path / "stopped", DESCRIPTION)
    for _ in range(4):
        tune = Tune(stopped, search(8))
        for name in [tune.take() for _ in range(4)]:
            if name != "None":
                assert tune.overrides(name) == whole.overrides(name)
                tune.end(name)
    assert {files.path.name for files in stopped.begun()} == set(names)
    stopped.close()


def test_fixed_strategies_outside_the_space_run_all_the_same(folder: StudyFolder) -> None:
    narrow = Space.named("schedule", Limits.around(DIGITS, families=("cosine",), skew=(0.4, 0.6)))
    tune = Tune(folder, search(1, space=narrow))
    names = [tune.take() for _ in range(6)]
    assert set(names) == {*STRATEGIES, "search-0001"}
    for name in names:
        tune.end(name)
    known = [trial.user_attrs["trial"] for trial in tune.source._search.study.trials]
    assert known == ["cosine", "search-0001"]


def test_what_varies_is_what_strategies_set_differently_and_what_a_search_may_draw() -> None:
    assert varying(Plan(DIGITS, (0, 1), THESIS)) == {"family": True, "skew": True}
    found = varying(Plan(DIGITS, (0, 1), THESIS, search(space=Space.named("signs", Limits.around(DIGITS)))))
    assert found.items() >= {"family": True, "draw": True, "cheap": True, "accurate": True, "rising": False}.items()
    assert not {"beta", "T1", "epochs", "seed"} & found.keys()
    adaptive = Space.named("schedule", Limits.around(DIGITS, families=("linear", "agreement")))
    assert varying(Plan(DIGITS, (0, 1), (), search(space=adaptive)))["skew"] is False


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_searches_every_piece(folder: StudyFolder, sampler: str) -> None:
    space = Space.named("schedule+nudge+relaxation", Limits.around(DIGITS))
    tune = Tune(folder, search(16, sampler, space))
    for number in range(21):
        name = tune.take()
        DIGITS.replace(**tune.overrides(name))
        tune.end(name, accuracy=0.1 + number / 50, cost=1000 + 37 * (number % 5))
    assert tune.take() == "FINISHED"
    assert len({json.dumps(tune.overrides(name)) for name in tune.given}) == 21


def test_a_sampler_that_starts_again_does_not_repeat_itself(folder: StudyFolder) -> None:
    seen = []
    for _ in range(3):
        tune = Tune(folder, search(30, "tpe"), fixed=[])
        for name in [tune.take() for _ in range(3)]:
            seen.append(json.dumps(tune.overrides(name)))
            tune.end(name)
    assert len(set(seen)) == 9


def test_confirmation_follows_when_everything_else_has_ended(folder: StudyFolder) -> None:
    plan = Plan(DIGITS, (0, 1), THESIS, search(2), fresh_seeds=(2, 3, 4))
    tune = Tune(folder, plan.search, later=lambda: confirmations(folder, plan))
    names = [tune.take() for _ in range(7)]
    for name, (accuracy, cost) in zip(
        names, [(0.4, 570), (0.95, 1140), (0.5, 850), (0.6, 850), (0.9, 850), (0.94, 700), (0.2, 900)], strict=True
    ):
        assert tune.take() == "None"
        tune.end(name, accuracy, cost)
    confirmed = [tune.take() for _ in range(6)]
    assert sorted(confirmed) == sorted([*(f"confirm-{name}" for name in STRATEGIES), "confirm-search-0001"])
    for name in confirmed:
        assert tune.given[name]["seeds"] == [2, 3, 4]
        assert tune.given[name]["origin"] == "confirm"
        assert tune.overrides(name) == tune.overrides(name.removeprefix("confirm-"))
        tune.end(name)
    assert tune.take() == "FINISHED"

    more = replace(plan, fresh_seeds=(2, 3, 4, 5, 6))
    tune = Tune(folder, more.search, later=lambda: confirmations(folder, more))
    added = [tune.take() for _ in range(6)]
    assert sorted(added) == sorted(f"{name}-5" for name in confirmed)
    tune.end(added[0])
    assert [tune.given[name]["seeds"] for name in added] == [[5, 6]] * 6
    assert {(trial.name, trial.seeds) for trial in confirmations(folder, more)} == {
        *((name, (2, 3, 4)) for name in confirmed),
        *((f"{name}-5", (5, 6)) for name in confirmed),
    }


def test_a_journal_that_a_crash_cut_is_mended(folder: StudyFolder) -> None:
    tune = Tune(folder, search(2))
    tune.take()
    with open(folder.optuna_journal, "ab") as file:
        file.write(b'{"op_code":5,"wor')
    folder.optuna_journal.with_name("optuna.log.lock").symlink_to("optuna.log")  # left by a killed driver
    assert Tune(folder, search(2)).take() == "standard"


@pytest.mark.parametrize("line", ["not json", "{}", '{"op_code": 99}', "[]"])
def test_a_journal_that_is_damaged_is_told_in_one_line(folder: StudyFolder, line: str) -> None:
    Tune(folder, search(2)).take()
    folder.optuna_journal.write_text(line + "\n" + folder.optuna_journal.read_text())
    with pytest.raises(InvalidInput, match=r"optuna\.log is damaged \([^\n]*\)$"):
        OptunaTrials(folder, search(2))


def test_a_trial_whose_process_keeps_dying_stops_the_study(folder: StudyFolder) -> None:
    log = StudyLog(folder, Progress(1, 15))
    errors = folder.path / "error.txt"
    errors.write_text("Failure # 4 (occurred at noon)\nearlier\nFailure # 5 (occurred at noon)\nkilled by the kernel:\nout of memory\n")
    trial: Any = SimpleNamespace(config={"trial": "cosine"}, error_file=str(errors))
    log.on_trial_start(0, [], trial)
    for _ in range(4):
        log.on_trial_recover(0, [], trial)
    with pytest.raises(
        StudyStopped, match=r"^the process of trial cosine died 5 times in the same epoch: killed by the kernel: out of memory$"
    ):
        log.on_trial_recover(0, [], trial)


def test_deaths_in_different_epochs_do_not_stop_it(folder: StudyFolder, row: Callable[[int], str]) -> None:
    log = StudyLog(folder, Progress(1, 15))
    trial: Any = SimpleNamespace(config={"trial": "cosine"}, error_file=None)
    log.on_trial_start(0, [], trial)
    for epoch in range(1, 10):
        log.on_trial_recover(0, [], trial)
        log.on_trial_result(0, [], trial, {"line": row(epoch), "done": False})
    assert (folder.trial("cosine").last() or {})["epoch"] == 9
    log.close()


@pytest.fixture
def row() -> Callable[[int], str]:
    """A line of result.json."""
    columns = (
        "val_acc",
        "test_acc",
        "train_acc",
        "train_loss",
        "nudged_phases",
        "relaxation_steps",
        "epoch_seconds",
        "p_std",
        "free_steps",
    )
    columns += ("longest_cheap_run", "learning_rate", "free_residual", "saturation", "collapsed", "nudged_steps")
    config = {"trial": "cosine", "strategy": "cosine", "origin": "thesis", "seeds": [0]}
    return lambda epoch: json.dumps({**dict.fromkeys(columns, 0.5), "epoch": epoch, "done": False, "config": config})


def test_the_time_budget_stops_the_study(folder: StudyFolder) -> None:
    log = StudyLog(folder, Progress(1, 15), time_budget=-1.0)
    with pytest.raises(OutOfTime):
        log.on_step_end(0, [])


def test_a_failed_trial_leaves_its_error_and_the_others_go_on(folder: StudyFolder) -> None:
    progress = Progress(2, 15)
    log = StudyLog(folder, progress)
    trial: Any = SimpleNamespace(config={"trial": "cosine"})
    log.on_trial_start(0, [], trial)
    log.on_trial_result(0, [], trial, {"failed": "Traceback\nRuntimeError: fire", "done": True})
    assert folder.trial("cosine").error.read_text() == "Traceback\nRuntimeError: fire\n"
    assert (progress.done, progress.failed, progress.running) == (1, 1, set())


def test_a_full_disk_stops_the_study(folder: StudyFolder) -> None:
    log = StudyLog(folder, Progress(2, 15))
    trial: Any = SimpleNamespace(config={"trial": "cosine"})
    log.on_trial_start(0, [], trial)
    with pytest.raises(StudyStopped, match=r"^trial cosine could not write its checkpoint: OSError: No space left on device$"):
        log.on_trial_result(0, [], trial, {"failed": "OSError: No space left on device", "storage": True, "done": True})
    (folder.trials / "centered").write_text("a file where a folder should be")
    with pytest.raises(StudyStopped, match=r"^the study folder cannot be written: File exists"):
        log.on_trial_start(0, [], SimpleNamespace(config={"trial": "centered"}))


@pytest.mark.parametrize("call", ["symlink", "rename", "unlink"])
def test_an_interrupt_in_the_lock_of_the_journal_stays_an_interrupt(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = InterruptibleLock(str(tmp_path / "optuna.log"))
    real = getattr(os, call)

    def interrupted(*arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(os, call, real)
        real(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, call, interrupted)
    with pytest.raises(KeyboardInterrupt):
        assert lock.acquire() and lock.release() is None
    monkeypatch.undo()
    lock = InterruptibleLock(str(tmp_path / "optuna.log"))
    assert lock.acquire()


def test_the_driver_leaves_pytorch_to_its_workers(tmp_path: Path) -> None:
    program = "import sys, hybridep.study as s, studies.schedule_sweep as own; "
    program += "print(s.main('schedule_sweep', own.Args, own.plan, sys.argv[1:], lambda folder: None), 'torch' in sys.modules)"
    options = "--search thesis --sizes 64 16 10 --T1 8 --T2 4 --train-samples 300 --seeds 0 --epochs 1 --max-concurrent 2 --out"
    command = [sys.executable, "-c", program, *options.split(), str(tmp_path / "s")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False", done.stdout + done.stderr
