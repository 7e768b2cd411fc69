"""The thesis's tables: what is run, what is computed from it, how it is shown, and whole runs on small files in the official formats."""

import csv
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.thesis_figures import accuracy_figure, curves_figure
from analysis.thesis_report import main as report
from analysis.thesis_report import write_thesis_report
from analysis.thesis_tables import ThesisTable, caption, latex, markdown, pooled_deviation, read_table, shown_table
from hybridep.config import InvalidInput, TrialConfig
from hybridep.presets import ONE_SIDED, PRESETS, PROTOCOLS, STRATEGIES
from hybridep.study import study as running_study
from hybridep.study.description import as_json
from studies.thesis_tables import Args, plan

STUDIES = Path(__file__).resolve().parent.parent / "studies"
FASHION = Args(table="fashion-mnist")
UPDATES = {"mnist": 469, "fashion-mnist": 469, "cifar10": 391, "fashion-conv": 40}
OUTPUTS = ("table.csv", "table.md", "table.tex", "trials.csv", "curves.csv")
FIGURES = ("accuracy.png", "accuracy.pdf", "learning_curves.png", "learning_curves.pdf")


def written(
    folder: Path,
    args: Args,
    accuracy: Callable[[str, int], float] = lambda strategy, seed: 0.885,
    unfinished: Iterable[str] = (),
    updates: int | None = None,
    checksum: str = "c",
) -> Path:
    """A study folder as a run with these arguments leaves it, of invented results: `accuracy` is the final one of a strategy and seed.

    Accuracy grows linearly over the epochs, each update costs 30 free and 20 nudged steps, each epoch 2 seconds.
    """
    planned = plan(args)
    assert args.table is not None
    per_epoch = updates or math.ceil((args.train_samples or 128 * UPDATES[args.table]) / 128)
    description = {
        "format": 2,
        "kind": "thesis_tables",
        "arguments": as_json(args),
        "protocol": planned.protocol.flat("json"),
        "seeds": list(planned.seeds),
        "trials_planned": planned.trials,
        "dataset": {"name": planned.protocol.dataset, "checksum": checksum},
        "machine": {"cpu": "an abacus"},
        "ended": None,
    }
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps(description), encoding="utf-8")
    for trial in planned.fixed:
        config = planned.protocol.replace(**trial.overrides)
        cheap = config.policy.known_mean
        lines = []
        epochs = 1 if trial.name in unfinished else config.epochs
        for epoch in range(1, epochs + 1):
            done, reached = per_epoch * epoch, accuracy(trial.strategy, trial.seeds[0]) * epoch / config.epochs
            values = {
                "cheap_updates": round(cheap * done), "nudged_phases": round((2 - cheap) * done), "free_steps": 30.0 * done,
                "nudged_steps": 20.0 * done, "longest_cheap_run": round(cheap * done), "train_acc": reached, "val_acc": math.nan,
                "test_acc": reached, "train_loss": 0.1, "free_residual": 0.002 if epoch == 1 else 0.0, "saturation": 0.4,
                "collapsed": reached < 0.12, "epoch_seconds": 2.0,
            }  # fmt: skip
            row = {
                key: value for name, one in values.items() for key, value in ((name, one), (f"{name}_std", 0), (f"{name}_by_seed", [one]))
            }
            row |= {"trial_id": trial.name, "epoch": epoch, "updates": done, "p_std": cheap, "learning_rate": 0.05}
            lines.append(json.dumps({**row, "done": epoch == config.epochs, "config": trial.ray_config(planned.protocol)}))
        (folder / "ray" / trial.name).mkdir(parents=True)
        (folder / "ray" / trial.name / "result.json").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def table_of(*folders: Path) -> ThesisTable:
    return read_table(folders)[0]


def row(table: ThesisTable, strategy: str, policy: str | None = None) -> pd.Series:
    """The line of table.csv of a strategy."""
    rows = table.rows[(table.rows["strategy"] == strategy) & (table.rows["relaxation"] == (policy or table.policies[0]))]
    assert len(rows) == 1
    return rows.iloc[0]


# What is run


@pytest.mark.parametrize("table", sorted(name for name, preset in PRESETS.items() if preset.published))
def test_a_table_runs_its_published_strategies_on_its_seeds_one_a_trial_under_its_protocol(table: str) -> None:
    planned = plan(Args(table=table))
    assert planned.protocol == PROTOCOLS[table]
    assert [(trial.strategy, trial.seeds) for trial in planned.fixed] == [
        (name, (seed,)) for seed in PRESETS[table].seeds for name in PRESETS[table].published
    ]
    for trial in planned.fixed:
        assert planned.protocol.replace(**trial.overrides) == PROTOCOLS[table].replace(**STRATEGIES[trial.strategy])


def test_the_collapse_bench_runs_nine_strategies_with_few_free_steps_and_with_the_free_phase_converged() -> None:
    planned = plan(Args(table="fashion-conv"))
    configs = [(trial, planned.protocol.replace(**trial.overrides)) for trial in planned.fixed]
    assert len(configs) == 9 * 2 * 3
    fixed = [config for _, config in configs if config.relaxation == "fixed"]
    converged = [config for _, config in configs if config.relaxation == "adaptive"]
    assert len(fixed) == len(converged)
    assert {(config.T1, config.T2, config.tolerance) for config in fixed} == {(30, 20, None)}
    assert {(config.T1, config.T2, config.tolerance) for config in converged} == {(300, 20, 1e-6)}
    assert {config.cheap.name for config in fixed} == {"standard", *ONE_SIDED}
    assert len({trial.name for trial, _ in configs}) == len(configs)
    # To whoever reads trials.csv, a strategy under another policy is another strategy.
    assert len({(trial.strategy, trial.seeds) for trial, _ in configs}) == len(configs)


def test_readings_of_what_the_thesis_leaves_open_are_options_that_reach_every_trial() -> None:
    reading: dict[str, Any] = {"inputs": "standardised", "init_gain": 0.75, "decay_epochs": 100}
    crops: dict[str, Any] = {"crops": "black"}
    for args, expected in (
        (Args(table="mnist", **reading), reading),
        (Args(table="cifar10", **reading, **crops), {**reading, **crops}),
    ):
        planned = plan(args)
        for trial in planned.fixed:
            config = planned.protocol.replace(**trial.overrides)
            assert {name: getattr(config.network if name == "init_gain" else config, name) for name in expected} == expected


def test_adaptive_takes_the_tolerance_that_is_given_and_keeps_the_step_limits() -> None:
    protocol = plan(replace(FASHION, relaxation=("adaptive",), tolerance=3e-4)).protocol
    assert (protocol.relaxation, protocol.tolerance, protocol.T1, protocol.T2) == ("adaptive", 3e-4, 120, 12)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ("", "--table '': must be one of mnist, fashion-mnist, cifar10, fashion-conv"),
        ("--table digits", "--table 'digits': must be one of"),
        ("--table mnist --strategies cosin", "--strategies 'cosin': must be one of standard"),
        ("--table mnist --strategies cosine cosine", "--strategies cosine cosine: must be different"),
        ("--table mnist --relaxation soon", "--relaxation 'soon': must be one of fixed, adaptive, converged"),
        ("--table mnist --start rest", "--start 'rest': must be one of zeros, last"),
        ("--table cifar10 --start last", "start last: must be zeros with augment"),
        ("--table mnist --relaxation fixed fixed", "--relaxation fixed fixed: must be different"),
        ("--table mnist --tolerance 0.1", "--tolerance 0.1: applies to --relaxation adaptive only"),
        ("--table mnist --relaxation adaptive --tolerance 0", "tolerance 0"),
        ("--table mnist --relaxation fixed adaptive --tolerance -1", "tolerance -1"),
        ("--table mnist --relaxation converged --T1 9", "--T1 9: applies to --relaxation fixed and adaptive only"),
        ("--table mnist --T1 0", "T1 0"),
        ("--table mnist --seeds 1 1", "--seeds 1 1: must be different numbers from 0"),
        ("--table mnist --seeds -1", "--seeds -1: must be different numbers from 0"),
        ("--table mnist --epochs 0", "--epochs 0: must be more than 0"),
        ("--table cifar10 --epochs 2", "--epochs 2: must be more than 2, for which the learning rates warm up"),
        ("--table mnist --train-samples 0", "train_samples 0"),
        ("--table mnist --test-samples 0", "test_samples 0"),
        ("--table mnist --init-gain -1", "init_gain -1.0"),
        ("--table mnist --stack 0", "--stack 0: must be 1 to"),
        ("--table mnist --inputs raw", "--inputs"),
        ("--table mnist --decay-epochs 0", "decay_epochs 0"),
        ("--table mnist --crops edge", "--crops edge: applies to --table cifar10 only"),
        ("--resume nowhere", "--resume nowhere: is not a study"),
    ],
)
def test_bad_input_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: str, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert running_study.main("thesis_tables", Args, plan, argv.split()) == 2
    shown = capsys.readouterr()
    assert re.fullmatch(r"error: [^\n]+\n", shown.err), shown.err
    assert complaint in shown.err
    assert list(tmp_path.iterdir()) == []


# What is computed


def test_mean_deviation_and_difference_are_those_of_the_seeds(tmp_path: Path) -> None:
    accuracies = dict(zip(PRESETS["fashion-mnist"].seeds, (0.885, 0.886, 0.887, 0.888, 0.889), strict=True))
    found = row(table_of(written(tmp_path / "s", FASHION, lambda strategy, seed: accuracies[seed])), "centered")
    assert found["test_acc"] == pytest.approx(0.887)
    assert found["test_acc_std"] == pytest.approx(math.sqrt(2.5) * 1e-3)
    assert [found[f"published_{column}"] for column in ("acc", "acc_std", "nudged_phases")] == pytest.approx([0.8873, 0.0017, 46_900])
    assert found["difference"] == pytest.approx(-0.0003)
    # Five seeds each: the pooled variance is the mean of both.
    assert found["difference_in_std"] == pytest.approx(-0.0003 / math.sqrt((2.5e-6 + 0.0017**2) / 2))
    assert (found["n_seeds"], found["seeds"]) == (5, "42 123 456 789 1337")


def test_costs_are_totals_of_a_training(tmp_path: Path) -> None:
    table = table_of(written(tmp_path / "s", FASHION))
    assert row(table, "standard")["nudged_phases"] == PRESETS["fashion-mnist"].published["standard"].nudged_phases == 50 * 469
    assert row(table, "centered")["nudged_phases"] == PRESETS["fashion-mnist"].published["centered"].nudged_phases
    assert row(table, "centered")["relaxation_steps"] == 50 * 469 * (30 + 20)
    assert row(table, "centered")["train_seconds"] == pytest.approx(100)


def test_a_single_seed_is_measured_by_the_published_deviation(tmp_path: Path) -> None:
    found = row(table_of(written(tmp_path / "s", replace(FASHION, seeds=(42,)), lambda strategy, seed: 0.8890)), "centered")
    assert math.isnan(found["test_acc_std"])
    assert found["difference_in_std"] == pytest.approx((0.8890 - 0.8873) / 0.0017)


@given(st.floats(0.001, 1), st.floats(0.001, 1), st.integers(1, 9), st.integers(1, 9))
def test_the_pooled_deviation_lies_between_both_and_needs_two_seeds(first: float, second: float, seeds: int, others: int) -> None:
    pooled = pooled_deviation(first if seeds > 1 else math.nan, seeds, second, others)
    counted = [deviation for deviation, n in ((first, seeds), (second, others)) if n > 1]
    if not counted:
        assert math.isnan(pooled)
    else:
        assert min(counted) * (1 - 1e-9) <= pooled <= max(counted) * (1 + 1e-9)


def test_the_collapse_bench_shows_residual_longest_run_and_collapsed_seeds_beside_each_accuracy(tmp_path: Path) -> None:
    def accuracy(strategy: str, seed: int) -> float:
        return 0.78 if strategy == "centered" or (strategy.endswith("(converged)") and seed != 2) else 0.1

    table = table_of(written(tmp_path / "s", Args(table="fashion-conv"), accuracy))
    assert table.policies == ("fixed, T1 = 30", "adaptive to 1e-6 within T1 = 300")
    assert list(table.rows["strategy"]) == [*STRATEGIES, *ONE_SIDED] * 2
    # Mean over eight epochs, of which the first had a residual.
    assert row(table, "standard")["free_residual"] == pytest.approx(0.002 / 8)
    assert row(table, "standard")["longest_cheap_run"] == 320
    assert row(table, "random_sign", table.policies[1])["collapsed_seeds"] == 1
    shown = shown_table(table)
    assert list(shown.columns[:6]) == ["Strategy", "Relaxation", "Test accuracy (%)", "Free residual", "Longest one-sided run", "At chance"]
    assert shown.iloc[0]["At chance"] == "3 of 3"
    assert shown.iloc[0]["Free residual"] == "2.5e-4"
    assert "Thesis: accuracy (%)" not in shown


def test_trials_that_still_run_are_left_out_and_every_output_says_so(tmp_path: Path) -> None:
    table = table_of(written(tmp_path / "s", FASHION, unfinished=("fixed-cosine-1337", "fixed-cosine-789")))
    assert row(table, "cosine")["n_seeds"] == 3
    assert row(table, "standard")["n_seeds"] == 5
    assert table.departures == ("Shrunk run: 3 of 5 seeds (Cosine hybrid).",)
    assert "2 of 15 trials have not trained to their last epoch" in " ".join(caption(table))
    assert set(table.curves.groupby("strategy")["epoch"].count()) == {50}


def test_without_a_finished_trial_there_is_no_table(tmp_path: Path) -> None:
    args = replace(FASHION, strategies=("cosine",), seeds=(42,))
    with pytest.raises(InvalidInput, match="no trial has trained to its last epoch"):
        table_of(written(tmp_path / "s", args, unfinished=("fixed-cosine-42",)))


def test_policies_that_start_elsewhere_have_rows_of_their_own(tmp_path: Path) -> None:
    args = replace(FASHION, relaxation=("adaptive",), start=("zeros", "last"))
    table = table_of(written(tmp_path / "s", args, lambda strategy, seed: 0.886 if "last" in strategy else 0.887))
    zeros, last = table.policies
    assert (zeros, last) == ("adaptive to 2e-3 within T1 = 120", "adaptive to 2e-3 within T1 = 120, from the last epoch's equilibria")
    assert row(table, "cosine", zeros)["test_acc"] == pytest.approx(0.887)
    assert row(table, "cosine", last)["test_acc"] == pytest.approx(0.886)
    assert table.departures == ()


def test_studies_of_one_table_under_different_policies_make_one_table(tmp_path: Path) -> None:
    whole = written(tmp_path / "adaptive", replace(FASHION, relaxation=("adaptive",), tolerance=3e-4), lambda strategy, seed: 0.886)
    one_seed = written(tmp_path / "fixed", replace(FASHION, seeds=(42,)), lambda strategy, seed: 0.887)
    table = table_of(whole, one_seed)
    assert table.policies == ("fixed, T1 = 120", "adaptive to 3e-4 within T1 = 120")
    assert row(table, "cosine", "fixed, T1 = 120")["test_acc"] == pytest.approx(0.887)
    assert row(table, "cosine", "adaptive to 3e-4 within T1 = 120")["n_seeds"] == 5
    assert table.departures == ("Shrunk run: 1 of 5 seeds (fixed, T1 = 120).",)


@pytest.mark.parametrize(
    ("other", "checksum", "complaint"),
    [
        (replace(FASHION, seeds=(1,)), "c", "more than one has trials relaxed fixed, T1 = 120"),
        (Args(table="mnist"), "c", "have arguments with table fashion-mnist and mnist"),
        (replace(FASHION, relaxation=("adaptive",)), "d", "have dataset with checksum c and d"),
    ],
)
def test_studies_that_do_not_make_one_table_are_refused(tmp_path: Path, other: Args, checksum: str, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        table_of(written(tmp_path / "one", FASHION), written(tmp_path / "two", other, checksum=checksum))


def test_another_kind_of_study_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path / "s", FASHION)
    description = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**description, "kind": "schedule_sweep"}))
    assert report([str(folder)]) == 2
    assert re.fullmatch(r"error: [^\n]*schedule_sweep[^\n]*\n", capsys.readouterr().err)


# How far a run departs from the published protocol


@pytest.mark.parametrize(
    ("args", "updates", "told"),
    [
        (FASHION, None, ()),
        (replace(FASHION, epochs=2), None, ("Shrunk run: 2 of 50 epochs.",)),
        (replace(FASHION, train_samples=1280), None, ("Shrunk run: 1,280 of 60,000 training images.",)),
        (replace(FASHION, test_samples=500), None, ("Shrunk run: 500 of 10,000 test images.",)),
        (replace(FASHION, seeds=(42, 123)), None, ("Shrunk run: 2 of 5 seeds.",)),
        (FASHION, 3, ("Shrunk run: 3 of 469 updates an epoch.",)),
        (
            replace(FASHION, epochs=3, train_samples=640, seeds=(42,)),
            None,
            ("Shrunk run: 3 of 50 epochs, 640 of 60,000 training images, 1 of 5 seeds.",),
        ),
        (replace(FASHION, init_gain=1.0), None, ("Changed protocol: init_gain 1.0 instead of 0.5.",)),
        (replace(FASHION, precision="tf32"), None, ("Changed protocol: precision tf32 instead of float32.",)),
        (replace(FASHION, inputs="unit"), None, ("Changed protocol: inputs unit instead of standardised.",)),
        (replace(FASHION, decay_epochs=100), None, ("Changed protocol: decay_epochs 100 instead of None.",)),
        (replace(FASHION, T1=60), None, ("Changed protocol: T1 60 instead of 120.",)),
        (replace(FASHION, epochs=60), None, ("Changed protocol: epochs 60 instead of 50.",)),
        (replace(FASHION, seeds=(42, 123, 456, 789, 7)), None, ("Changed protocol: seeds 7 instead of the protocol's own.",)),
        (Args(table="fashion-conv", seeds=(1, 2, 3, 4)), None, ("Changed protocol: seeds 4 beside the protocol's own.",)),
        (Args(table="cifar10", epochs=5), None, ("Shrunk run: 5 of 50 epochs.",)),
        (
            Args(table="cifar10", epochs=5, crops="black", data_note="a JPEG copy of the images"),
            None,
            ("Shrunk run: 5 of 50 epochs.", "Changed protocol: a JPEG copy of the images, crops black instead of edge."),
        ),
        (Args(table="fashion-conv"), None, ()),
    ],
)
def test_a_table_says_how_it_departs_from_the_published_protocol(
    tmp_path: Path, args: Args, updates: int | None, told: tuple[str, ...]
) -> None:
    assert table_of(written(tmp_path / "s", args, updates=updates)).departures == told


def test_a_study_from_before_a_field_had_its_standing_value(tmp_path: Path) -> None:
    folder = written(tmp_path / "s", FASHION)
    for file in [folder / "study.json", *folder.glob("ray/*/result.json")]:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for held in lines:
            for values in (held.get("protocol"), held.get("config")):
                for field in ("inputs", "crops", "decay_epochs"):
                    (values or {}).pop(field, None)
        file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert table_of(folder).departures == ()


def test_every_output_of_a_shrunk_run_says_so(tmp_path: Path) -> None:
    folder = written(tmp_path / "s", replace(FASHION, epochs=2))
    said = "2 of 50 epochs"
    assert said in write_thesis_report([folder], folder)
    for name in OUTPUTS:
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        if name.endswith(".csv"):
            assert all(said in line for line in lines[1:]), name
        else:
            assert said in " ".join(lines), name
    for name in FIGURES:
        assert (folder / "figures" / name).stat().st_size > 1000
    table = table_of(folder)
    for figure in (accuracy_figure(table), curves_figure(table)):
        assert said in figure.get_suptitle().replace("\n", " ")


def test_a_whole_run_says_nothing_of_the_kind(tmp_path: Path) -> None:
    folder = written(tmp_path / "s", FASHION)
    shown = write_thesis_report([folder], folder)
    assert "hrunk" not in shown + (folder / "table.md").read_text() + (folder / "table.tex").read_text()


# How it is shown


def test_what_the_thesis_did_not_publish_is_an_em_dash(tmp_path: Path) -> None:
    args = replace(FASHION, strategies=("standard", "stochastic"))
    table = table_of(written(tmp_path / "s", args))
    shown = shown_table(table).set_index("Strategy")
    comparisons = ["Thesis: accuracy (%)", "Difference (points)", "Difference (std)", "Thesis: nudged phases"]
    assert list(shown.loc["Stochastic hybrid", comparisons]) == ["—"] * 4
    assert "—" not in set(shown.loc["Standard EP"])
    line = next(line for line in markdown(table, shown_table(table)).splitlines() if line.startswith("| Stochastic"))
    assert line.count(" — |") == 4
    assert latex(table, shown_table(table)).count("& ---") == 4
    assert math.isnan(row(table, "stochastic")["published_acc"])


def test_the_markdown_table_shows_both_means_their_difference_and_the_costs(tmp_path: Path) -> None:
    accuracies = dict(zip(PRESETS["fashion-mnist"].seeds, (0.885, 0.886, 0.887, 0.888, 0.889), strict=True))
    table = table_of(written(tmp_path / "s", FASHION, lambda strategy, seed: accuracies[seed]))
    text = markdown(table, shown_table(table))
    assert "| Centered EP | 88.70 ± 0.16 | 88.73 ± 0.17 | −0.03 | −0.18 | 46.9 k | 46.9 k | 1.17 M | 100 | 5 |" in text
    assert "in standard deviations over seeds, pooled over both" in text
    assert "Relaxation: fixed, T1 = 120; nudged phases T2 = 12." in text


def test_the_latex_table_is_a_float_with_as_many_cells_in_every_line(tmp_path: Path) -> None:
    table = table_of(written(tmp_path / "s", Args(table="fashion-conv"), lambda strategy, seed: 0.7))
    text = latex(table, shown_table(table))
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + 2 * 9
    assert len({line.count(" & ") for line in lines}) == 1
    assert not re.search(r"(?<!\\)[%_#]", body)
    assert text.count(r"\begin{") == text.count(r"\end{")


def test_the_csv_table_reads_back_in_full_precision(tmp_path: Path) -> None:
    folder = written(tmp_path / "s", FASHION, lambda strategy, seed: 0.88 + seed / 1e6 / 3)
    write_thesis_report([folder], folder)
    with open(folder / "table.csv", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [float(line["test_acc"]) for line in read] == list(table_of(folder).rows["test_acc"])
    assert [line["strategy"] for line in read] == ["standard", "centered", "cosine"]


# Figures


def test_bars_stand_at_the_means_of_ours_and_of_the_thesis(tmp_path: Path) -> None:
    table = table_of(written(tmp_path / "s", FASHION, lambda strategy, seed: 0.88))
    (axes,) = accuracy_figure(table).axes
    tops = [patch.get_y() + patch.get_height() for patch in axes.patches]
    assert tops == pytest.approx([88.0] * 3 + [88.60, 88.73, 88.62])
    assert "axis from" in axes.get_ylabel()


def test_bars_start_at_zero_where_a_strategy_collapses(tmp_path: Path) -> None:
    table = table_of(written(tmp_path / "s", Args(table="cifar10"), lambda strategy, seed: 0.8 if strategy == "centered" else 0.1))
    (axes,) = accuracy_figure(table).axes
    assert axes.get_ylim()[0] == 0
    assert len(axes.patches) == 10


@pytest.mark.parametrize(
    ("args", "titles"),
    [
        (Args(table="cifar10"), ["Cosine hybrid (std → cep)", "Inverse cosine hybrid (cep → std)", "Stochastic hybrid (fixed 50/50)"]),
        (FASHION, ["Cosine hybrid (std → cep)"]),
        (replace(FASHION, strategies=("standard", "centered")), [""]),
    ],
)
def test_each_hybrid_has_a_panel_with_standard_and_centered_for_reference(tmp_path: Path, args: Args, titles: list[str]) -> None:
    figure = curves_figure(table_of(written(tmp_path / "s", args, lambda strategy, seed: 0.8 - seed / 1e5)))
    assert [axes.get_title() for axes in figure.axes] == titles
    for axes in figure.axes:
        assert {"Standard EP", "Centered EP"} <= {line.get_label() for line in axes.lines}
        assert len(axes.collections) == len(axes.lines)  # a band for each curve
        for line in axes.lines:
            assert list(line.get_xdata()) == list(range(1, 51))


def test_each_policy_has_a_row_of_panels(tmp_path: Path) -> None:
    figure = curves_figure(table_of(written(tmp_path / "s", Args(table="fashion-conv"), lambda strategy, seed: 0.7)))
    titles = [axes.get_title() for axes in figure.axes]
    assert len(titles) == 2 * 4
    assert all("fixed, T1 = 30" in title for title in titles[:4])
    assert all("within T1 = 300" in title for title in titles[4:])
    names = {line.get_label() for line in figure.axes[3].lines}
    assert names == {"Standard EP", "Centered EP", "Alternating EP", "Split sign EP", "Random sign EP", "Negative EP"}


# Whole runs


def ran(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    """The study from the command line, in a process of its own."""
    return subprocess.run(
        [sys.executable, str(STUDIES / "thesis_tables.py"), *map(str, argv)], capture_output=True, text=True, timeout=600, check=False
    )


def lines(folder: Path) -> dict[str, str]:
    return {path.parent.name: path.read_text() for path in (folder / "ray").glob("*/result.json")}


def test_mnist_runs_from_its_files_to_its_table_and_resuming_a_finished_study_writes_the_outputs_anew(
    tmp_path: Path, official_files: Callable[..., object]
) -> None:
    files = official_files("mnist", layout="plain", compressed=True, train=256, test=50)
    study = tmp_path / "study"
    # Noise all over the image is nothing that inputs in [0, 1] can learn in four updates.
    reading = ("--inputs", "standardised", "--init-gain", 0.5)
    done = ran("--table", "mnist", "--data-dir", files.data_dir, "--epochs", 2, "--seeds", 42, 123, "--T1", 20, *reading, "--out", study)
    assert done.returncode == 0, done.stderr
    assert "Shrunk run: 2 of 50 epochs" in done.stdout
    with open(study / "table.csv", encoding="utf-8") as file:
        rows = {row["strategy"]: row for row in csv.DictReader(file)}
    assert list(rows) == list(STRATEGIES)
    assert {row["n_seeds"] for row in rows.values()} == {"2"}
    assert (float(rows["standard"]["nudged_phases"]), float(rows["centered"]["nudged_phases"])) == (4, 8)
    assert float(rows["centered"]["relaxation_steps"]) == 4 * 20 + 8 * 20
    assert float(rows["centered"]["test_acc"]) > 0.2  # classes are easy to tell apart; chance is 0.1
    assert rows["cosine"]["shrunk"] == "2 of 50 epochs, 2 of 469 updates an epoch, 2 of 5 seeds"
    assert rows["cosine"]["changed"] == "inputs standardised instead of unit, init_gain 0.5 instead of 1.0, T1 20 instead of 100"
    description = json.loads((study / "study.json").read_text())
    assert (description["kind"], description["trials_planned"], description["seeds"]) == ("thesis_tables", 10, [42, 123])
    assert TrialConfig(**description["protocol"]) == PROTOCOLS["mnist"].replace(epochs=2, T1=20, inputs="standardised", init_gain=0.5)

    before = lines(study)
    written_outputs = [study / name for name in OUTPUTS] + [study / "figures" / name for name in FIGURES]
    contents = {path: path.read_bytes() for path in written_outputs}
    for path in written_outputs:
        path.unlink()
    again = ran("--resume", study)
    assert again.returncode == 0, again.stderr
    assert lines(study) == before
    assert {path: path.read_bytes() for path in written_outputs} == contents


def test_cifar10_runs_from_its_files_to_its_table(tmp_path: Path, official_files: Callable[..., object]) -> None:
    files = official_files("cifar10", layout="archive", train=30, test=20)
    study = tmp_path / "study"
    done = ran("--table", "cifar10", "--data-dir", files.data_dir, "--epochs", 3, "--seeds", 42, "--T1", 6, "--out", study)
    assert done.returncode == 0, done.stderr
    with open(study / "table.csv", encoding="utf-8") as file:
        rows = {row["strategy"]: row for row in csv.DictReader(file)}
    assert list(rows) == list(STRATEGIES)
    assert {row["shrunk"] for row in rows.values()} == {"3 of 50 epochs, 1 of 391 updates an epoch, 1 of 3 seeds"}
    assert float(rows["centered"]["published_acc"]) == 0.8335
    assert "| Centered EP |" in (study / "table.md").read_text()
    for name in FIGURES:
        assert (study / "figures" / name).exists()


@pytest.mark.parametrize("table", ["hopfield-mnist", "hopfield-conv"])
def test_a_table_that_the_thesis_has_not_runs_its_five_and_those_of_one_phase_on_three_seeds(table):
    planned = plan(Args(table=table))
    assert planned.protocol == PROTOCOLS[table] and planned.protocol.network.name == "graph"
    assert [(trial.strategy, trial.seeds) for trial in planned.fixed] == [
        (name, (seed,)) for seed in PRESETS[table].seeds for name in STRATEGIES | ONE_SIDED
    ]
