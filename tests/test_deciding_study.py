"""Studies that decide: who takes part, which trials each round has, what survives a crash, and what the report says of it."""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.answer import answer
from analysis.figures import decision_figure
from analysis.findings import certainty, headline
from analysis.read import read_study
from hybridep.config import InvalidInput
from hybridep.presets import ONE_SIDED, PROTOCOLS, STRATEGIES
from hybridep.study import study as running_study
from hybridep.study.decide import begin, complete, line, next_round, preferred, record
from hybridep.study.folder import StudyFolder
from hybridep.study.plan import Deciding, Plan, PlannedTrial, controls
from hybridep.study.search import TrialSource
from studies import schedule_sweep
from tests.sweeps import TINY, refused, sweep
from tests.synthetic_study import THESIS, records, write_header, write_trial
from tests.test_schedule_sweep import result_rows, running, wait_for_rows

DIGITS = PROTOCOLS["digits"]
LESS = controls(DIGITS, STRATEGIES["centered"], (), [0.5])
SEEDS = tuple(range(10, 37))
DESCRIPTION = {
    "kind": "schedule_sweep", "arguments": {}, "protocol": DIGITS.flat("json"), "seeds": [0, 1], "dataset": {}, "trials_planned": 0
}  # fmt: skip
COST = {"centered": 1140.0, "centered_8_epochs": 608.0}
# Below centered, on top of what a seed gives to all: the last one is as good on some seeds and not on others.
LEVEL = {"centered": 0.0, "alternating": -0.001, "negative": -0.2, "centered_8_epochs": -0.03}


def deciding(*named: str, margins: tuple[float, ...] = (0.002,), seeds: int = 27) -> Deciding:
    overrides = {"centered": STRATEGIES["centered"], **{trial.strategy: trial.overrides for trial in LESS}}
    overrides |= {name: ONE_SIDED[name] for name in named}
    return Deciding(margins, (0.5,), SEEDS[:seeds], overrides, tuple(trial.strategy for trial in LESS), named)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StudyFolder]:
    made = StudyFolder.create(tmp_path / "study", DESCRIPTION)
    yield made
    made.close()


def accuracy(strategy: str, seed: int) -> float:
    """What a strategy reaches: luck of the seed that all share, and some of its own, the same each time."""
    own = sum(map(ord, strategy)) * 7919 + seed * 104729
    return 0.9 + 0.001 * (seed % 5) + LEVEL.get(strategy, 0.0) + 0.004 * ((own % 101) / 100 - 0.5) * (strategy != "centered")


def end(
    folder: StudyFolder, trial: PlannedTrial, reached: Callable[[str, int], float] = accuracy, collapsed: tuple[int, ...] = (), **more: Any
) -> None:
    """Put a trial on file as one that has ended."""
    files = folder.trial(trial.name)
    files.begin(trial.ray_config(DIGITS))
    cost = COST.get(trial.strategy, 570.0)
    by_seed = {
        "test_acc_by_seed": [reached(trial.strategy, seed) for seed in trial.seeds],
        "nudged_phases_by_seed": [cost] * len(trial.seeds),
        "collapsed_by_seed": [seed in collapsed for seed in trial.seeds],
    }
    row = {"epoch": 15, "done": True, "config": trial.ray_config(DIGITS), "nudged_phases": cost, "collapsed": float(any(collapsed))}
    mean = sum(by_seed["test_acc_by_seed"]) / len(trial.seeds)
    files.append(json.dumps({**row, **by_seed, "val_acc": mean, "val_acc_std": 0.0, **more}))


def rounds(folder: StudyFolder, asked: Deciding) -> list[dict[str, tuple[int, ...]]]:
    """Run a decision to its end: the seeds that each strategy got in each round."""
    given = []
    while trials := next_round(folder, asked)[0]:
        given.append({trial.strategy: trial.seeds for trial in trials})
        for trial in trials:
            assert trial.origin == "confirm"
            end(folder, trial)
    return given


def test_rounds_are_paired_on_the_same_seeds_and_leave_out_what_is_clear(folder: StudyFolder) -> None:
    given = rounds(folder, deciding("alternating", "negative"))
    assert given[0] == dict.fromkeys(["centered", "alternating", "negative", "centered_8_epochs"], SEEDS[:5])
    assert given[1] == dict.fromkeys(["centered", "alternating"], SEEDS[5:8])  # the others are clearly worse
    assert all(set(one) == {"centered", "alternating"} and len({*one.values()}) == 1 for one in given[1:])
    course = next_round(folder, deciding("alternating", "negative"))[1]
    assert (course.needed, course.replies[0].said, course.replies[0].strategy) == (None, "yes", "alternating")
    assert sum(len(one["centered"]) for one in given) == course.replies[0].seeds


def test_the_budget_ends_what_cannot_be_decided_and_a_larger_one_goes_on(folder: StudyFolder) -> None:
    small = deciding("alternating", margins=(0.001,), seeds=8)
    assert [sum(map(len, one.values())) for one in rounds(folder, small)] == [15, 6]
    assert next_round(folder, small)[1].replies[0].said == "open"
    assert complete(folder, Plan(DIGITS, (0, 1), (), deciding=small))
    more = replace(small, seeds=SEEDS[:12])
    assert {trial.strategy: trial.seeds for trial in next_round(folder, more)[0]} == dict.fromkeys(["centered", "alternating"], SEEDS[8:12])
    assert not complete(folder, Plan(DIGITS, (0, 1), (), deciding=more))


def test_a_round_that_was_cut_short_goes_on_with_what_is_missing(folder: StudyFolder) -> None:
    asked = deciding("alternating", "negative")
    first, *others = next_round(folder, asked)[0]
    end(folder, first)
    folder.trial(others[0].name).begin(others[0].ray_config(DIGITS))
    half = {"epoch": 3, "done": False, "config": others[1].ray_config(DIGITS)}
    folder.trial(others[1].name).begin(half["config"])
    folder.trial(others[1].name).append(json.dumps(half))
    assert next_round(folder, asked)[0] == others


def test_seeds_that_confirmed_a_strategy_are_not_trained_again(folder: StudyFolder) -> None:
    end(folder, PlannedTrial("confirm-centered", "centered", "confirm", SEEDS[:3], STRATEGIES["centered"]))
    given = {trial.name: trial.seeds for trial in next_round(folder, deciding("alternating"))[0]}
    assert given["decide-centered-13"] == SEEDS[3:5] and given["decide-alternating-10"] == SEEDS[:5]


def test_a_strategy_whose_trial_failed_leaves_and_the_target_ends_it(folder: StudyFolder) -> None:
    asked = deciding("alternating", "random_sign")
    for trial in next_round(folder, asked)[0]:
        if trial.strategy == "random_sign":
            folder.trial(trial.name).begin(trial.ray_config(DIGITS))
            folder.trial(trial.name).fail("out of memory")
        else:
            end(folder, trial)
    trials, course = next_round(folder, asked)
    assert {trial.strategy for trial in trials} == {"centered", "alternating"}
    assert course.last("random_sign") is None
    centered = next(trial for trial in trials if trial.strategy == "centered")
    folder.trial(centered.name).begin(centered.ray_config(DIGITS))
    folder.trial(centered.name).fail("out of memory")
    end(folder, next(trial for trial in trials if trial.strategy == "alternating"))
    assert next_round(folder, asked)[0] == []


def test_an_accuracy_that_is_no_number_counts_as_a_collapse(folder: StudyFolder) -> None:
    asked = deciding("alternating")
    for trial in next_round(folder, asked)[0]:
        end(folder, trial, lambda name, seed: float("nan") if (name, seed) == ("alternating", 12) else accuracy(name, seed))
    trials, course = next_round(folder, asked)
    assert (trials, course.replies[0].said, course.standings[0].collapsed) == ([], "no", 1)


def searched(folder: StudyFolder, name: str, level: float, cost: float, origin: str = "search", collapsed: tuple[int, ...] = ()) -> None:
    trial = PlannedTrial(name, name, origin, (0, 1), {"family": "constant", "skew": 0.9})
    end(folder, trial, collapsed=collapsed, nudged_phases=cost, val_acc=level)


def test_the_search_chooses_two_for_each_share_among_those_that_trained(folder: StudyFolder) -> None:
    for name, level, cost in (("centered", 0.9, 1000), ("standard", 0.7, 500), ("cosine", 0.895, 750), ("inverse_cosine", 0.88, 752)):
        searched(folder, name, level, cost, "thesis")
    searched(folder, "centered_8_epochs", 0.95, 500, "control")
    for number, (level, cost) in enumerate([(0.85, 250), (0.89, 500), (0.8, 251), (0.7, 100), (0.99, 900)]):
        searched(folder, f"search-{number:04d}", level, cost)
    searched(folder, "search-0009", 0.97, 250, collapsed=(1,))
    asked = replace(deciding("alternating"), shares=(0.75, 0.5, 0.25))
    rows = {files.path.name: files.last() or {} for files in folder.begun()}
    assert preferred(rows, asked) == ["cosine", "search-0001", "search-0000", "search-0002"]
    assert record(folder, asked).contenders == ("alternating", "cosine", "search-0001", "search-0000", "search-0002")


def test_who_takes_part_stays_as_it_was_begun(folder: StudyFolder) -> None:
    searched(folder, "centered", 0.9, 1000, "thesis")
    searched(folder, "search-0001", 0.85, 500)
    asked = deciding()
    begin(folder, asked)
    searched(folder, "search-0002", 0.95, 500)
    assert record(folder, asked).contenders == ("search-0001",)
    assert {trial.strategy for trial in next_round(folder, asked)[0]} == {"centered", "search-0001", "centered_8_epochs"}
    kept = json.loads((folder.path / "study.json").read_text())["decision"]
    assert (kept["target"], kept["contenders"], kept["seeds"]) == ("centered", ["search-0001"], list(SEEDS))


def test_rounds_follow_one_another_while_tune_asks(folder: StudyFolder) -> None:
    asked = deciding("alternating", "negative")
    source = TrialSource(folder, (), later=lambda: next_round(folder, asked)[0])
    given: list[str] = []
    while isinstance(config := source.suggest(f"id-{len(given)}"), dict):
        given.append(config["trial"])
        end(folder, PlannedTrial(config["trial"], config["strategy"], "confirm", tuple(config["seeds"]), {}))
        source.on_trial_complete(f"id-{len(given) - 1}", {"done": True})
    assert config == "FINISHED"
    assert len(given) == len(set(given)) > 6
    assert next_round(folder, asked)[1].replies[0].said == "yes"


def test_where_a_decision_stands_is_told_in_a_line(folder: StudyFolder) -> None:
    asked = deciding("alternating", margins=(0.01, 0.0005))
    for trial in next_round(folder, asked)[0]:
        end(folder, trial)
    told = line(next_round(folder, asked)[1])
    assert told == "After 5 fresh seeds: within 1 of centered at 50 % yes; within 0.05 of centered at 50 % open. On to 8 with alternating."


# From the command line


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ("--margins 2", "--margins: means nothing without --decide"),
        ("--decide-seeds 9", "--decide-seeds: means nothing without --decide"),
        ("--contenders alternating", "--contenders: means nothing without --decide"),
        ("--decide --margins -1", "--margins -1: must be different numbers from 0 to 100"),
        ("--decide --margins nan", "--margins nan: must be different numbers from 0 to 100"),
        ("--decide --margins 1 1", "--margins 1 1: must be different numbers from 0 to 100"),
        ("--decide --shares 0.5", "--shares 0.5: must be different numbers from 1 to 100"),
        ("--decide --shares 101", "--shares 101: must be different numbers from 1 to 100"),
        ("--decide --decide-seeds 4", "--decide-seeds 4: must be 5 to 1,000, the first round has as many"),
        ("--decide --contenders centered", "--contenders 'centered': must be one of standard, cosine"),
        ("--decide --contenders alternating alternating", "--contenders alternating alternating: must be different ones of"),
        ("--decide --search thesis", "--decide: means nothing to --search thesis; name strategies with --search none"),
        ("--search none", "--search none: trains nothing without --decide and --contenders"),
        ("--search none --decide", "--contenders (): must be different ones of standard"),
        ("--search none --decide --contenders alternating --trials 3", "--trials: means nothing to --search none"),
        ("--search none --decide --contenders alternating --cheap negative", "--cheap negative: means nothing to --search none"),
    ],
)
def test_what_makes_no_sense_of_a_decision_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: str, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert complaint in refused(capsys, *argv.split())
    assert not list(tmp_path.iterdir())


def test_what_is_decided_on_takes_part_with_the_controls_of_its_shares() -> None:
    args = schedule_sweep.Args(
        search="none", decide=True, contenders=("alternating", "alternating_half"), shares=(50.0, 20.0), decide_seeds=8
    )
    plan = schedule_sweep.plan(args)
    assert plan.deciding and (plan.trials, plan.search, plan.protocol.validation) == (0, None, 0)
    assert plan.deciding.seeds == (0, 1, 2, 3, 4, 5, 6, 7)
    assert plan.deciding.controls == ("centered_3_epochs", "centered_8_epochs")
    assert (plan.deciding.margins, plan.deciding.shares) == ((0.01, 0.005), (0.5, 0.2))
    after = schedule_sweep.plan(schedule_sweep.Args(decide=True))
    assert after.deciding and after.deciding.seeds == tuple(range(3, 30)) and after.fresh_seeds == ()
    assert schedule_sweep.plan(schedule_sweep.Args(decide=True, confirm=2)).fresh_seeds == (3, 4)


DECIDE = ("--search", "none", "--decide", "--contenders", "alternating", "--margins", "90", "0", "--shares", "50")
DECIDE += ("--decide-seeds", "8", "--epochs", "2", *TINY)


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A study of one strategy against centered that nothing disturbed, and what it printed."""
    study = tmp_path_factory.mktemp("decided") / "study"
    process = running(*DECIDE, "--out", str(study))
    shown, complaint = process.communicate(timeout=300)
    assert (process.returncode, complaint) == (0, "")
    return study, shown


def test_a_decision_is_run_and_answered(decided: tuple[Path, str]) -> None:
    study, shown = decided
    assert shown.startswith(f"{study}: alternating against centered, 2 epochs, in rounds of fresh seeds\n")
    assert "After 5 fresh seeds: within 90 of centered at 50 % yes; within 0 of centered at 50 % " in shown
    found = json.loads((study / "decision.json").read_text())
    assert (found["target"], found["contenders"], found["budget"], found["confidence"]) == ("centered", ["alternating"], 8, 0.95)
    assert [(row["margin"], row["share"]) for row in found["answers"]] == [(0.9, 0.5), (0.0, 0.5)]
    assert (found["answers"][0]["answer"], found["answers"][0]["strategy"], found["answers"][0]["cost_share"]) == (
        "yes",
        "alternating",
        0.5,
    )
    with open(study / "decision.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert next(row["seeds"] for row in rows if row["strategy"] == "alternating") == "5"
    # Paired by hand, from the trials' own rows.
    last = {name: trial[-1] for name, trial in result_rows(study).items()}
    ours, theirs = (last[f"decide-{name}-0"]["test_acc_by_seed"] for name in ("alternating", "centered"))
    assert float(rows[0]["difference"]) == pytest.approx(sum(ours) / 5 - sum(theirs) / 5)


def test_the_report_of_a_decision_shows_its_course(decided: tuple[Path, str]) -> None:
    study, shown = decided
    assert "Within 90 points of centered: yes at 50 % of its nudged phases (alternating: " in " ".join(shown.split())
    page = (study / "report.html").read_text()
    assert "What was decided" in page and 'id="decision"' in page
    assert (study / "figures" / "decision.png").read_bytes().startswith(b"\x89PNG")
    assert (study / "tables" / "answers.md").read_text().startswith("| Within (points) |")
    assert r"\begin{tabular}" in (study / "tables" / "decision.tex").read_text()
    assert not (study / "matching.csv").exists()


def test_a_decision_that_was_killed_ends_with_the_same_answers(decided: tuple[Path, str], tmp_path: Path) -> None:
    study = tmp_path / "study"
    process = running(*DECIDE, "--out", str(study))
    wait_for_rows(process, study, 3)
    process.kill()
    process.communicate()
    process = running("--resume", str(study))
    _, complaint = process.communicate(timeout=300)
    assert (process.returncode, complaint) == (0, "")
    for name in ("decision.json", "decision.csv"):
        assert (study / name).read_text() == (decided[0] / name).read_text()


def test_a_decision_is_continued_with_more_seeds_and_other_margins_but_not_with_fewer_or_others(
    decided: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--resume", str(decided[0])]
    args = running_study.read_arguments("schedule_sweep", schedule_sweep.Args, [*argv, "--decide-seeds", "12", "--margins", "3"])
    assert (args.decide_seeds, args.margins) == (12, (3.0,))
    assert "--decide-seeds 6: must be at least 8, as the study was begun" in refused(capsys, *argv, "--decide-seeds", "6")
    assert "--contenders: cannot be changed when a study is continued" in refused(capsys, *argv, "--contenders", "negative")
    assert "--shares: cannot be changed when a study is continued" in refused(capsys, *argv, "--shares", "75")


@pytest.mark.parametrize("damage", [[], {"target": "centered"}, {"contenders": ["nobody"]}, {"seeds": "x"}])
def test_a_damaged_decision_is_told(decided: tuple[Path, str], capsys: pytest.CaptureFixture[str], damage: Any) -> None:
    path = decided[0] / "study.json"
    whole = path.read_text()
    content = json.loads(whole)
    content["decision"] = (
        {**content["decision"], **damage} if isinstance(damage, dict) and len(damage) == 1 and "target" not in damage else damage
    )
    path.write_text(json.dumps(content))
    try:
        assert sweep("--resume", str(decided[0])) == 2
        said = capsys.readouterr().err
        assert "study.json is damaged (decision: " in said and said.count("\n") == 1
    finally:
        path.write_text(whole)


def test_a_decision_may_follow_a_study_that_had_none(tmp_path: Path) -> None:
    from tests.sweeps import begun_in

    study = begun_in(tmp_path / "study", "--search", "random")
    argv = ["--resume", str(study), "--decide", "--shares", "50", "--contenders", "alternating"]
    plan = schedule_sweep.plan(running_study.read_arguments("schedule_sweep", schedule_sweep.Args, argv))
    assert plan.deciding and (plan.deciding.named, plan.deciding.shares) == (("alternating",), (0.5,))


# The report

EPOCHS = 3
FRESH = tuple(range(100, 108))


def decided_study(folder: Path, levels: dict[str, float], collapses: tuple[int, ...] = (), margins: tuple[float, ...] = (0.01,)) -> Path:
    """A study that decided on named strategies, each so far from centered on every seed but for a little."""
    kept = {"target": "centered", "contenders": [name for name in levels if not name.startswith("centered")], "seeds": list(FRESH)}
    kept |= {"controls": [name for name in levels if name.startswith("centered_")], "margins": list(margins), "shares": [0.75, 0.5]}
    write_header(folder, (0, 1), EPOCHS, 0, decision=kept)
    base = records("c", "centered", "confirm", FRESH, THESIS["centered"], EPOCHS)
    write_trial(folder, base)
    for number, (name, level) in enumerate(levels.items()):
        config = {**THESIS["centered"], "epochs": 2} if name.startswith("centered") else {"skew": 1.0, "cheap": name}
        lines = records(
            f"t{number}", name, "confirm", FRESH, {"family": "constant", **config}, 2 if name.startswith("centered") else EPOCHS
        )
        noise = [0.0004 * ((seed * 7 + number) % 5 - 2) for seed in FRESH]
        lines[-1]["test_acc_by_seed"] = [value + level + own for value, own in zip(base[-1]["test_acc_by_seed"], noise, strict=True)]
        lines[-1]["collapsed_by_seed"] = [seed in collapses and name != "centered_2_epochs" for seed in FRESH]
        write_trial(folder, lines)
    return folder


def test_a_headline_says_what_is_decided_and_what_training_less_gives(tmp_path: Path) -> None:
    found = answer(read_study(decided_study(tmp_path / "far", {"alternating": 0.0, "negative": -0.1, "centered_2_epochs": -0.05})))
    said = headline(found)
    assert said.startswith("Within 1 point of centered: yes at 50 % of its nudged phases (alternating: ")
    assert "Training less, centered for 67 % of its cost, does not (−5." in said
    assert found.match is None
    near = headline(answer(read_study(decided_study(tmp_path / "near", {"alternating": 0.0, "centered_2_epochs": 0.0}))))
    assert "Training less, centered for 67 % of its cost, comes that close, too" in near


def test_a_negative_answer_and_a_collapse_are_said_as_plainly(tmp_path: Path) -> None:
    worse = answer(read_study(decided_study(tmp_path / "worse", {"alternating": -0.1})))
    assert headline(worse) == "Within 1 point of centered: no at 50 % and 75 %."
    lost = answer(read_study(decided_study(tmp_path / "lost", {"alternating": 0.0}, collapses=(101,))))
    assert headline(lost) == "Within 1 point of centered: no at 50 % and 75 %."
    assert any(said.startswith("Collapsed, and so left out whatever its mean: alternating (1 of 5 seeds).") for said in certainty(lost))


def test_the_figure_of_the_course_has_every_look_and_margin(tmp_path: Path) -> None:
    found = answer(read_study(decided_study(tmp_path / "study", {"alternating": -0.0098, "negative": -0.1, "centered_2_epochs": -0.05})))
    spec = decision_figure(found)
    assert spec is not None
    shown = {trace["name"]: trace for trace in spec["data"] if "name" in trace}
    assert set(shown) == {"alternating", "negative", "centered 2 epochs"}
    assert len(shown["alternating"]["x"]) == 2 and shown["negative"]["marker"]["symbol"] == ["triangle-down"]
    lines = [trace["y"][0] for trace in spec["data"] if trace["mode"] == "lines"]
    assert lines == [0.0, -1.0]
    table = found.decision.table if found.decision else None
    assert table is not None and [*table["seeds"][table["strategy"] == "alternating"]] == [5, 8]


def test_a_report_without_a_decision_has_no_trace_of_one(tmp_path: Path) -> None:
    found = answer(read_study(decided_study(tmp_path / "study", {"alternating": 0.0})))
    assert found.decision
    path = tmp_path / "study" / "study.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "decision": None}))
    plain = answer(read_study(tmp_path / "study"))
    assert plain.decision is None and decision_figure(plain) is None
    path.write_text(json.dumps({**content, "decision": {"seeds": 3}}))
    damaged = answer(read_study(tmp_path / "study"))
    assert damaged.decision is None and any("study.json is damaged (decision: " in note for note in damaged.notes)


def test_a_record_that_names_an_unknown_strategy_is_refused(folder: StudyFolder) -> None:
    begin(folder, deciding("alternating"))
    with pytest.raises(InvalidInput, match="no trial has the strategy 'alternating'"):
        next_round(folder, deciding())
