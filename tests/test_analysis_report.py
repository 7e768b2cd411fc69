"""Reports: every number follows from trials.csv, claims rest on the right seeds, and awkward studies get a clear answer."""

import csv
import json
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.answer import answer
from analysis.describe import describe
from analysis.dominance import match
from analysis.figures import front_figure, seeds_figure
from analysis.findings import certainty, findings, headline
from analysis.front import Reference
from analysis.labels import Box, place
from analysis.layout import MOST_CURVES, accuracy_window
from analysis.payload import payload
from analysis.progress import compare_samplers, search_progress
from analysis.read import read_study
from analysis.report import Arguments, write_report
from analysis.report import main as report_main
from analysis.strategies import gather
from analysis.tables import shown_strategies
from hybridep.config import InvalidInput
from tests.synthetic_study import PROTOCOL, THESIS, records, write_header, write_study, write_trial

EPOCHS = 6
SEEDS = (0, 1, 2)
FRESH = (100, 101, 102)


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A study of 5 + 24 strategies on three seeds, with its report."""
    study = write_study(tmp_path_factory.mktemp("study") / "sweep", trials=24, epochs=EPOCHS, seeds=SEEDS)
    return study, write_report(study)


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def page_data(page: Path):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.S)[1])


def rows_of(study, strategy):
    return [row for row in read(study / "trials.csv") if row["strategy"] == strategy]


def test_a_report_has_all_its_files(reported):
    study, summary = reported
    for name in ("trials.csv", "curves.csv", "strategies.csv", "front.csv", "dominance.csv", "report.html"):
        assert (study / name).stat().st_size > 0, name
    for name in ("front", "front_relaxation_steps", "seeds", "curves", "p_std", "attainment", "causes", "heat_map", "hypervolume"):
        assert (study / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name
        assert (study / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF"), name
    for name in ("front", "dominance"):
        assert (study / "tables" / f"{name}.md").read_text().startswith("| ")
        assert r"\begin{tabular}" in (study / "tables" / f"{name}.tex").read_text()
    assert summary.page == study / "report.html"
    assert not list(study.rglob("*.partial"))


def test_importances_that_explain_nothing_are_left_out_with_the_reason(reported):
    study, summary = reported
    assert not (study / "figures" / "importances.png").exists()
    assert [why.partition(" (R² ")[0] for why in summary.answer.omitted] == [
        "Importance of parameters: left out, they explain too little of the accuracy"
    ]


def test_csv_files_have_the_agreed_columns(reported):
    study, _ = reported
    trials, curves = read(study / "trials.csv")[0], read(study / "curves.csv")[0]
    assert list(trials)[:4] == list(curves)[:4] == ["trial_id", "strategy", "origin", "seed"]
    assert {"family", "skew", "beta", "sizes", "nudged_phases", "relaxation_steps", "train_seconds", "test_acc", "status"} <= set(trials)
    assert set(PROTOCOL) <= set(trials)
    assert {"epoch", "p_std", "test_acc", "free_residual"} <= set(curves)
    assert trials["nudged_phases"] == str(45 * EPOCHS)


def test_the_front_is_what_no_strategy_beats_in_validation_accuracy_and_nudged_phases(reported):
    study, summary = reported
    trials = pd.read_csv(study / "trials.csv")
    means = trials.groupby("strategy")[["nudged_phases", "val_acc"]].mean()
    beaten = [
        ((means["nudged_phases"] <= cost) & (means["val_acc"] >= acc) & ((means["nudged_phases"] < cost) | (means["val_acc"] > acc))).any()
        for cost, acc in means.to_numpy()
    ]
    assert set(summary.front) == set(means.index[~np.array(beaten)])
    assert len(summary.front) >= 3
    assert [row["strategy"] for row in read(study / "front.csv")] == list(summary.front)


def test_every_number_of_the_front_follows_from_rows_of_trials_csv(reported):
    study, _ = reported
    for row in read(study / "front.csv"):
        own = rows_of(study, row["strategy"])
        assert row["trial_ids"].split() == list(dict.fromkeys(trial["trial_id"] for trial in own))
        for column in ("test_acc", "val_acc", "nudged_phases", "relaxation_steps", "train_seconds"):
            values = [float(trial[column]) for trial in own]
            assert float(row[column]) == pytest.approx(statistics.mean(values))
            assert float(row[f"{column}_std"]) == pytest.approx(statistics.stdev(values), abs=1e-12)
        interval = stats.ttest_1samp([float(trial["test_acc"]) for trial in own], 0).confidence_interval()
        assert (float(row["test_acc_low"]), float(row["test_acc_high"])) == pytest.approx((interval.low, min(interval.high, 1.0)))


def drawn(spec):
    """The points of a figure by strategy: all that have its name."""
    points = {}
    for trace in spec["data"]:
        for name, x, y in zip(trace.get("customdata", ()), trace["x"], trace["y"], strict=False):
            points.setdefault(name, []).append((x, y))
    return points


def test_every_point_of_the_page_follows_from_rows_of_trials_csv(reported):
    study, _ = reported
    trials = pd.read_csv(study / "trials.csv")
    for cost, figures in page_data(study / "report.html")["fronts"].items():
        points = drawn(figures["whole"])
        assert set(points) == set(trials["strategy"])
        for name, places in points.items():
            own = trials[trials["strategy"] == name]
            stable = own[own["collapsed"] == 0]
            # What collapsed on some seed is drawn seed by seed.
            expected = [(row[cost], 100 * row["val_acc"]) for _, row in stable.iterrows()]
            if len(stable) == len(own):
                expected = [(own[cost].mean(), 100 * own["val_acc"].mean())]
            for pair in expected:
                assert any(pair == pytest.approx(shown, rel=1e-4) for shown in places)


def test_the_line_of_the_front_goes_through_what_is_drawn_and_nothing_lies_above_it(reported):
    _, summary = reported
    spec = front_figure(summary.answer)
    line = next(trace for trace in spec["data"] if trace["name"] == "front")
    corners = set(zip(line["x"], line["y"], strict=True))
    points = drawn(spec)
    unstable = summary.answer.strategies.table["trained"] < summary.answer.strategies.table["n_seeds"]
    for name in summary.front:
        assert any(corner == pytest.approx(points[name][0], rel=1e-5) for corner in corners), name
    for name, places in points.items():
        for x, y in places if not unstable[name] else ():
            reached = max((height for cost, height in corners if cost <= x * (1 + 1e-5)), default=0)
            assert y <= reached * (1 + 1e-5), name


def test_a_name_that_must_be_shown_finds_a_place_in_the_whole_figure():
    area, crowd = Box(0, 0, 600, 400), [Box(0, 0, 600, 300), Box(0, 300, 400, 400)]
    near, anywhere = place([(50, 50), (50, 50)], ["near", "anywhere"], [72, np.inf], crowd, area)
    assert near is None
    assert anywhere is not None and anywhere.box.within(area)
    assert not anywhere.box.overlaps(np.array([box.edges for box in crowd]))


def test_what_lies_below_the_window_is_counted(tmp_path):
    study = write_study(tmp_path, trials=6, epochs=EPOCHS, seeds=SEEDS)
    for number in range(3):
        lines = collapse(records(f"c{number}", f"search-100{number}", "search", SEEDS, {"skew": 0.9 - 0.1 * number}, EPOCHS))
        write_trial(study, lines)
    spec = front_figure(answer(read_study(study)))
    counted = [trace for trace in spec["data"] if " below " in trace["name"]]
    assert [trace["name"].partition(" ")[0] for trace in counted] == ["3"]
    assert len(counted[0]["x"]) == 3


def test_seeds_that_collapsed_stand_alone_and_have_no_mean(tmp_path):
    study = write_study(tmp_path, trials=0, epochs=EPOCHS, seeds=SEEDS)
    lines = records("a1b2c_00004", "stochastic", "thesis", SEEDS, THESIS["stochastic"], EPOCHS)
    lines[-1] |= {"val_acc_by_seed": [0.9, 0.1, 0.88], "test_acc_by_seed": [0.9, 0.1, 0.88], "collapsed_by_seed": [False, True, False]}
    write_trial(study, lines)
    found = answer(read_study(study))
    points = drawn(front_figure(found))["stochastic"]
    assert {round(y) for _, y in points} == {90, 88}
    labels = [note["text"] for note in front_figure(found)["sizes"]["1200"]["annotations"]]
    assert "stochastic, 2 of 3 seeds trained" in labels
    rows = [trace for trace in seeds_figure(found)["data"] if trace.get("name") == "stochastic"]
    assert len(rows[0]["x"]) == 3 and rows[0]["marker"]["symbol"].count("triangle-left") == 1


def test_dominating_strategies_are_listed_with_their_paired_difference(reported):
    study, _ = reported
    rows = read(study / "dominance.csv")
    assert rows
    for row in rows:
        ours, theirs = rows_of(study, row["strategy"]), rows_of(study, row["thesis"])
        assert statistics.mean(float(r["nudged_phases"]) for r in ours) <= statistics.mean(float(r["nudged_phases"]) for r in theirs)
        assert statistics.mean(float(r["val_acc"]) for r in ours) >= statistics.mean(float(r["val_acc"]) for r in theirs)
        expected = stats.ttest_rel([float(r["val_acc"]) for r in ours], [float(r["val_acc"]) for r in theirs])
        assert (float(row["low"]), float(row["high"])) == pytest.approx(tuple(expected.confidence_interval()), abs=1e-12)
        assert row["pairs"] == "3"
    found = {(row["thesis"], row["strategy"]) for row in rows}
    means = pd.read_csv(study / "trials.csv").groupby("strategy")[["nudged_phases", "val_acc"]].mean()
    for thesis in THESIS:
        for other in means.index.difference(list(THESIS)):
            cheaper, better = means.loc[other] - means.loc[thesis]
            assert ((thesis, other) in found) == (cheaper <= 0 and better >= 0 and (cheaper < 0 or better > 0))


def test_the_report_in_the_terminal_names_the_thesis_and_the_front(reported):
    _, summary = reported
    for name in [*THESIS, *summary.front]:
        assert name.replace("_", " ") in summary.text


def test_a_report_made_twice_is_the_same(reported):
    study, _ = reported
    files = [path for path in study.rglob("*") if path.is_file() and "ray" not in path.parts]
    before = {path: path.read_bytes() for path in files}
    write_report(study)
    assert [path.name for path in files if path.read_bytes() != before[path]] == []


def test_a_study_is_analysed_from_its_tables_when_ray_files_are_gone(reported, tmp_path):
    study, summary = reported
    for name in ("study.json", "trials.csv", "curves.csv"):
        (tmp_path / name).write_bytes((study / name).read_bytes())
    again = write_report(tmp_path)
    assert again.front == summary.front
    assert again.text == summary.text
    for name in ("trials.csv", "curves.csv", "front.csv", "dominance.csv"):
        assert (tmp_path / name).read_bytes() == (study / name).read_bytes(), name


def test_claims_rest_on_confirmation_seeds_alone(tmp_path):
    study = write_study(tmp_path, trials=12, epochs=EPOCHS, seeds=SEEDS, confirm=(100, 101, 102, 103))
    found = answer(read_study(study))
    table = found.strategies.table
    trials = found.study.trials
    confirmed = set(trials.loc[trials["origin"] == "confirm", "strategy"])
    assert set(found.strategies.candidates.index) <= confirmed
    assert set(found.front) <= confirmed
    fresh = trials[(trials["strategy"] == "centered") & trials["seed"].isin([100, 101, 102, 103])]
    assert table.loc["centered", "test_acc"] == pytest.approx(fresh["test_acc"].mean())
    assert set(found.dominance["pairs"]) <= {4}
    assert any("seeds that the search never saw" in note for note in found.notes)
    unconfirmed = next(name for name in table.index if name not in confirmed)
    assert table.loc[unconfirmed, "n_seeds"] == 3


def without_validation(lines):
    return [{**line, "val_acc": float("nan"), "val_acc_by_seed": [float("nan")] * 3} for line in lines]


def test_without_validation_the_report_selects_by_test_accuracy_and_says_so(tmp_path):
    write_header(tmp_path, SEEDS, EPOCHS, 5)
    for number, (name, config) in enumerate(THESIS.items()):
        write_trial(tmp_path, without_validation(records(f"t{number}", name, "thesis", SEEDS, config, EPOCHS)))
    found = answer(read_study(tmp_path))
    assert found.strategies.metric == "test_acc"
    assert found.front
    assert "validation accuracy" not in " ".join([headline(found), *findings(found)])
    write_trial(tmp_path, without_validation(records("s1", "search-0001", "search", SEEDS, {"skew": 0.3}, EPOCHS)))
    assert any("selected by test accuracy" in note for note in answer(read_study(tmp_path)).notes)


def test_a_report_says_that_products_were_rounded(tmp_path):
    for precision, told in (("float32", False), ("tf32", True)):
        write_study(tmp_path / precision, trials=0, epochs=EPOCHS, seeds=SEEDS, protocol={"precision": precision})
        assert any("--precision tf32" in note for note in answer(read_study(tmp_path / precision)).notes) == told


def test_a_report_says_what_images_are_that_are_not_the_official_ones(tmp_path):
    for note, told in ((None, "Schedule sweep on digits"), ("a JPEG copy", "Schedule sweep on digits, a JPEG copy")):
        folder = write_study(tmp_path / str(note), trials=0, epochs=EPOCHS, seeds=SEEDS, arguments={"data_note": note})
        page = write_report(folder).page.read_text()
        assert re.search("<h1>(.*)</h1>", page)[1] == told
        assert ("not the official ones: a JPEG copy." in page) == (note is not None)


def collapse(lines):
    for line in lines:
        line |= {
            "test_acc_by_seed": [0.1] * 3,
            "val_acc_by_seed": [0.104] * 3,
            "train_acc_by_seed": [0.1] * 3,
            "collapsed_by_seed": [True] * 3,
        }
    return lines


def test_a_collapsed_strategy_is_on_no_front_however_cheap(tmp_path):
    study = write_study(tmp_path, trials=6, epochs=EPOCHS, seeds=SEEDS)
    write_trial(study, collapse(records("a1b2c_00000", "standard", "thesis", SEEDS, THESIS["standard"], EPOCHS)))
    found = answer(read_study(study))
    assert "standard" not in found.front
    assert "standard" in found.strategies.table.index
    assert accuracy_window(found).low > 0.5
    assert any("standard (0 of 3 seeds trained)" in sentence for sentence in certainty(found))


def test_a_strategy_that_collapsed_on_one_seed_is_on_no_front_unless_that_is_allowed(tmp_path):
    study = write_study(tmp_path, trials=0, epochs=EPOCHS, seeds=SEEDS)
    lines = records("s1", "search-0001", "search", SEEDS, {"skew": 0.9}, EPOCHS)
    lines[-1] |= {"test_acc_by_seed": [0.99, 0.1, 0.99], "val_acc_by_seed": [0.99, 0.1, 0.99], "collapsed_by_seed": [False, True, False]}
    write_trial(study, lines)
    found = answer(read_study(study))
    assert "search-0001" not in found.front and not found.strategies.table.loc["search-0001", "candidate"]
    assert any("search-0001 (2 of 3 seeds trained)" in sentence for sentence in certainty(found))
    shown = shown_strategies(found, ["search-0001"]).iloc[0]
    assert (shown["Validation accuracy (%)"], shown["95 % interval"]) == ("2 of 3 seeds trained", "–")
    assert answer(read_study(study), allow_collapse=True).strategies.table.loc["search-0001", "candidate"]


@pytest.mark.parametrize("confirm", [(), (100, 101, 102)])
def test_the_front_is_that_of_the_accuracy_that_is_shown(tmp_path, confirm):
    found = answer(read_study(write_study(tmp_path, trials=40, epochs=EPOCHS, seeds=SEEDS, confirm=confirm, control=True)))
    assert found.strategies.metric == ("test_acc" if confirm else "val_acc")
    table = found.strategies.candidates
    for name, row in table.iterrows():
        better = (table["nudged_phases"] <= row["nudged_phases"]) & (table["accuracy"] >= row["accuracy"])
        strictly = better & ((table["nudged_phases"] < row["nudged_phases"]) | (table["accuracy"] > row["accuracy"]))
        assert (name in found.front) == (not strictly.any())


@pytest.mark.parametrize(("level", "said"), [(0.90, "points less"), (0.999, "the saving is not shown to be more than training less")])
def test_a_saving_is_set_beside_training_less(tmp_path, level, said):
    study = write_study(tmp_path, trials=0, epochs=EPOCHS, seeds=SEEDS, control=True)
    found = records("s1", "search-0001", "search", SEEDS, {"skew": 0.98}, EPOCHS)
    control = records("b2c3d_00003", "centered_3_epochs", "control", SEEDS, {**THESIS["centered"], "epochs": 3}, 3)
    for lines, accuracy in ((found, 0.995), (control, level)):
        lines[-1] |= {"val_acc_by_seed": [accuracy - 0.001, accuracy, accuracy + 0.001]}
        write_trial(study, lines)
    summary = answer(read_study(study))
    assert summary.match is not None and summary.match.control is not None
    assert summary.match.control.strategy == "centered_3_epochs"
    assert summary.match.control.cost_share == pytest.approx(0.5)
    assert summary.match.table.iloc[0]["strategy"] == "search-0001"  # the control is no candidate
    assert said in headline(summary)
    assert "centered_3_epochs" not in set(summary.progress["search"])
    assert summary.progress["trials"].max() == 1  # the control was not searched


def test_an_interval_stays_within_what_accuracies_can_be(tmp_path):
    study = write_study(tmp_path, trials=0, epochs=EPOCHS, seeds=SEEDS)
    lines = records("a1b2c_00001", "centered", "thesis", SEEDS, THESIS["centered"], EPOCHS)
    lines[-1] |= {"val_acc_by_seed": [0.999, 0.2, 0.99]}
    write_trial(study, lines)
    row = gather(read_study(study)).table.loc["centered"]
    assert (row["accuracy_low"], row["accuracy_high"]) == (0.0, 1.0)


def test_a_trial_that_was_stopped_after_collapsing_counts_as_collapsed_not_as_cheap(tmp_path):
    study = write_study(tmp_path, trials=6, epochs=EPOCHS, seeds=SEEDS)
    lines = collapse(records("a1b2c_00000", "standard", "thesis", SEEDS, THESIS["standard"], 2))
    lines[-1]["done"] = True
    write_trial(study, lines)
    found = answer(read_study(study))
    row = found.strategies.table.loc["standard"]
    assert row["test_acc"] == pytest.approx(0.1)
    assert np.isnan(row["nudged_phases"])
    assert "standard" not in found.front
    assert any("1 stopped after collapsing" in note for note in found.notes)
    assert "standard" not in drawn(front_figure(found))  # a strategy without a cost has no place in it


def test_a_diverged_run_counts_as_guessing(tmp_path):
    study = write_study(tmp_path, trials=2, epochs=EPOCHS, seeds=SEEDS)
    lines = records("a1b2c_00001", "centered", "thesis", SEEDS, THESIS["centered"], EPOCHS)
    lines[-1]["test_acc_by_seed"][1] = float("nan")
    write_trial(study, lines)
    found = answer(read_study(study))
    left = [lines[-1]["test_acc_by_seed"][place] for place in (0, 2)]
    assert found.strategies.table.loc["centered", "test_acc"] == pytest.approx((sum(left) + 0.1) / 3)
    assert any("1 finished runs have no test accuracy" in note for note in found.notes)


def test_a_strategy_whose_seed_failed_is_no_candidate(tmp_path):
    study = write_study(tmp_path, trials=0, epochs=EPOCHS, seeds=(0, 1))
    write_trial(study, records("extra-0", "search-0000", "search", (0,), {"skew": 0.4}, EPOCHS))
    write_trial(study, records("extra-1", "search-0000", "search", (1,), {"skew": 0.4}, EPOCHS - 2))
    strategies = gather(read_study(study))
    assert strategies.table.loc["search-0000", "n_seeds"] == 1
    assert not strategies.table.loc["search-0000", "candidate"]


def test_a_study_without_a_finished_trial_gets_curves_and_a_sentence(tmp_path):
    write_header(tmp_path, SEEDS, EPOCHS, 2, ended=None)
    for number, name in enumerate(("centered", "cosine")):
        write_trial(tmp_path, records(f"t{number}", name, "thesis", SEEDS, THESIS[name], EPOCHS - 2))
    summary = write_report(tmp_path)
    assert summary.front == ()
    assert "There is no answer yet" in summary.text
    assert "2 of 2 trials did not train to the last epoch (2 running)" in summary.text
    assert len(read(tmp_path / "curves.csv")) == 2 * 3 * (EPOCHS - 2)
    assert read(tmp_path / "front.csv") == []
    assert set(page_data(tmp_path / "report.html")["curves"]) == {"centered", "cosine"}
    assert (tmp_path / "figures" / "curves.png").exists()
    assert not (tmp_path / "figures" / "front.png").exists()


def test_one_seed_gives_a_front_without_intervals(tmp_path):
    study = write_study(tmp_path, trials=4, epochs=EPOCHS, seeds=(3,))
    summary = write_report(study)
    assert summary.front
    assert "10 of 9" not in summary.text
    assert "9 of 9 strategies have one seed" in summary.text
    assert {row["test_acc_low"] for row in read(study / "front.csv")} == {""}
    assert {row["verdict"] for row in read(study / "dominance.csv")} <= {"one seed, no interval"}


def test_a_study_of_the_thesis_alone_is_reported(tmp_path):
    summary = write_report(write_study(tmp_path, trials=0, epochs=EPOCHS, seeds=SEEDS))
    assert set(summary.front) <= set(THESIS)
    assert read(tmp_path / "dominance.csv") == []


@pytest.mark.parametrize(
    ("level", "deviation", "expected"),
    [(0.0, 0.0005, "yes"), (-0.05, 0.0005, "no"), (-0.005, 0.02, "open")],
)
def test_matching_centered_is_answered_by_the_whole_interval(tmp_path, level, deviation, expected):
    study = write_study(tmp_path, trials=0, epochs=EPOCHS, seeds=SEEDS)
    for name in ("standard", "cosine", "stochastic"):  # the cheap ones of the thesis are no match
        write_trial(study, collapse(records(f"a1b2c_{list(THESIS).index(name):05d}", name, "thesis", SEEDS, THESIS[name], EPOCHS)))
    centered = records("x", "centered", "thesis", SEEDS, THESIS["centered"], EPOCHS)[-1]["val_acc_by_seed"]
    lines = records("s1", "search-0001", "search", SEEDS, {"skew": 0.6}, EPOCHS)
    noise = (-deviation, 0.0, deviation)
    lines[-1] |= {
        "val_acc_by_seed": [value + level + jitter for value, jitter in zip(centered, noise, strict=True)],
    }
    write_trial(study, lines)
    found = match(gather(read_study(study)))
    assert found is not None
    best = found.table.iloc[0]
    assert (best["strategy"], best["verdict"], found.answer) == ("search-0001", expected, expected)
    assert best["difference"] == pytest.approx(level)
    assert best["cost_share"] <= 0.755
    said = {"yes": "is as accurate as centered at", "no": "Nothing tried is as accurate", "open": "Not decided yet."}[expected]
    assert said in headline(answer(read_study(study)))


def test_the_search_chooses_what_fresh_seeds_test(tmp_path):
    study = write_study(tmp_path, trials=0, epochs=EPOCHS, seeds=SEEDS)
    confirmed = records("x", "centered", "thesis", FRESH, THESIS["centered"], EPOCHS)[-1]["test_acc_by_seed"]
    centered = records("x", "centered", "thesis", SEEDS, THESIS["centered"], EPOCHS)[-1]["val_acc_by_seed"]
    write_trial(study, records("c1", "centered", "confirm", FRESH, THESIS["centered"], EPOCHS))
    # In the search the first is as good as centered and the second is not; on fresh seeds it is the other way round.
    for number, (seen, level) in enumerate(((0.0, -0.05), (-0.3, 0.0))):
        name, config = f"search-000{number}", {"skew": 0.9 - 0.1 * number}
        lines = records(f"s{number}", name, "search", SEEDS, config, EPOCHS)
        lines[-1] |= {"val_acc_by_seed": [value + seen for value in centered]}
        write_trial(study, lines)
        fresh = records(f"f{number}", name, "confirm", FRESH, config, EPOCHS)
        fresh[-1] |= {"test_acc_by_seed": [value + level for value in confirmed]}
        write_trial(study, fresh)
    found = match(gather(read_study(study)))
    assert found is not None
    assert found.table["strategy"].tolist() == ["search-0000", "search-0001"]
    assert found.table["verdict"].tolist() == ["no", "yes"]
    assert found.answer == "open"


def test_nothing_is_compared_with_a_thesis_strategy_that_is_not_confirmed_yet(tmp_path):
    study = write_study(tmp_path, trials=8, epochs=EPOCHS, seeds=SEEDS, confirm=(100, 101, 102))
    assert set(gather(read_study(study)).rivals) == set(THESIS)
    for folder in (study / "ray").iterdir():
        if json.loads((folder / "result.json").read_text().splitlines()[-1])["config"]["strategy"] == "centered" and "c3d4e" in folder.name:
            shutil.rmtree(folder)
    found = answer(read_study(study))
    assert set(found.strategies.rivals) == set(THESIS) - {"centered"}
    assert "centered" not in set(found.dominance["thesis"])
    assert found.match is None
    assert "centered has not been confirmed on fresh seeds: nothing is compared with it." in found.notes


def test_large_studies_are_thinned_on_the_page_and_say_so(tmp_path):
    overrides = {f"search-{number:04d}": {"skew": round(number / 400, 4)} for number in range(300)}
    found = answer(read_study(write_study(tmp_path, epochs=2, seeds=(0, 1), overrides=overrides)))
    data = payload(found)
    assert len(data["hover"]) == 305
    assert len(data["curves"]) == MOST_CURVES
    assert {*THESIS, *found.front} <= set(data["curves"])


def test_studies_merged_compare_their_searches(tmp_path, capsys):
    folders = [
        write_study(tmp_path / name, trials=trials, epochs=EPOCHS, seeds=SEEDS, search_seed=number, arguments={"search": name[:3]})
        for number, (name, trials) in enumerate({"ran-1": 4, "tpe-1": 5, "tpe-2": 6}.items())
    ]
    report_main(Arguments(tuple(folders), out=tmp_path / "merged"))
    printed = " ".join(capsys.readouterr().out.split())  # wrapped where the paths' lengths have it
    assert "report.html" in printed
    assert re.search(r"Median hypervolume after 4 searched strategies", printed)
    assert re.search(r"tpe 0\.\d+ \(2 searches", printed)
    assert re.search(r"ran 0\.\d+ \(1 search", printed)
    searches = page_data(tmp_path / "merged" / "report.html")["figures"]["progress"]["data"]
    assert [(search["name"], search["x"][-1]) for search in searches][:3] == [("ran (ran-1)", 4), ("tpe (tpe-1)", 5), ("tpe (tpe-2)", 6)]
    assert {search["name"] for search in searches[3:]} == {"ran, median", "tpe, median"}
    trials = read(tmp_path / "merged" / "trials.csv")
    assert {row["study"] for row in trials} == {"ran-1", "tpe-1", "tpe-2"}
    assert all(row["trial_id"].startswith(f"{row['study']}/") for row in trials)
    assert len({row["trial_id"] for row in trials}) == sum(len(list((folder / "ray").iterdir())) for folder in folders)
    with pytest.raises(InvalidInput, match="--out must name a folder"):
        report_main(Arguments(tuple(folders)))
    with pytest.raises(InvalidInput, match="is a study itself"):
        report_main(Arguments(tuple(folders), out=folders[0]))


def test_strategies_that_were_given_up_or_diverged_count_as_tried(tmp_path):
    study = write_study(tmp_path, epochs=EPOCHS, seeds=SEEDS, overrides={})
    given_up = collapse(records("s1", "search-0001", "search", SEEDS, {"skew": 0.9}, 2))
    given_up[-1]["done"] = True
    diverged = records("s2", "search-0002", "search", SEEDS, {"skew": 0.8}, EPOCHS)
    for name in ("val_acc", "test_acc"):
        diverged[-1][f"{name}_by_seed"][0] = float("nan")
    running = records("s3", "search-0003", "search", SEEDS, {"skew": 0.5}, 2)
    for lines in (given_up, diverged, running):
        write_trial(study, lines)
    write_header(study, SEEDS, EPOCHS, 8, ended=None)
    progress = search_progress(read_study(study), "val_acc", Reference(1e4, 0.1))
    assert progress["trials"].tolist() == [0, 1, 2]
    assert progress["hypervolume"].nunique() == 1


@pytest.mark.parametrize("better", ["a", "b"])
def test_samplers_are_compared_at_the_trials_that_every_search_reached(better):
    values = {"a": [0.1, 0.5, 0.9], "b": [0.2, 0.4] if better == "a" else [0.2, 0.6]}
    progress = pd.DataFrame(
        [(name, name, trials, value) for name in values for trials, value in enumerate(values[name])],
        columns=["sampler", "search", "trials", "hypervolume"],
    )
    samplers = compare_samplers(progress)
    assert samplers[0].name == better
    assert [sampler.trials for sampler in samplers] == [1, 1]
    assert compare_samplers(progress[progress["sampler"] == "a"]) == ()


def test_a_users_mistake_is_one_line_and_exit_code_2(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "analysis.report", "absent"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parent.parent), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "error: absent: no such study folder\n"


@pytest.mark.parametrize(("studies", "told"), [((), "at least one study"), ((Path("."),), "is not a study")])
def test_nothing_to_report_on_is_told(tmp_path, monkeypatch, studies, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=told):
        report_main(Arguments(studies))
    assert list(tmp_path.iterdir()) == []


def test_analysis_imports_neither_torch_nor_ray():
    code = "import sys, analysis.report, analysis.merge; print([name for name in ('torch', 'ray', 'optuna') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"family": "constant", "skew": 1.0}, "always standard"),
        ({"family": "constant", "skew": 0.0, "draw": "spread", "epochs": 3}, "always centered, 3 epochs"),
        ({"family": "inverse_cosine", "skew": 0.25, "beta": 0.3}, "inverse cosine, mean p_std 0.25, β = 0.3"),
        ({"family": "linear", "skew": 0.5, "rising": True, "draw": "spread"}, "linear, mean p_std 0.5, rising, spread draws"),
        ({"family": "constant", "skew": 0.5, "cheap": "random_sign", "accurate": "centered"}, "p_std = 0.5, random sign and centered"),
        ({"family": "cyclic_cosine", "skew": 0.4, "cycles": 3.0, "per": "update"}, "cyclic cosine, mean p_std 0.4, 3 cycles, per update"),
        ({"family": "sawtooth", "skew": 0.4, "teeth": 3}, "sawtooth, mean p_std 0.4, teeth 3"),
        (
            {"family": "constant", "skew": 0.5, "relaxation": "adaptive", "tolerance": 1e-4},
            "p_std = 0.5, tolerance 0.0001, adaptive relaxation",
        ),
    ],
)
def test_strategies_are_described_by_what_sets_them_apart(config, words):
    assert describe(config, PROTOCOL) == words


def test_names_stand_beside_their_points_and_on_nothing():
    area = Box(0, 0, 400, 300)
    points = [(100.0 + 3 * number, 100.0 + 2 * number) for number in range(8)]
    dots = [Box.around(x, y, 10, 10) for x, y in points]
    spots = place(points, [f"strategy {number}" for number in range(8)], [np.inf] * 8, dots, area)
    assert None not in spots
    taken = np.array([dot.edges for dot in dots])
    for spot in spots:
        assert spot.box.within(area) and not spot.box.overlaps(taken)
        taken = np.vstack([taken, spot.box.edges])
    assert place(points[:1], ["strategy 0"], [5.0], dots, area) == [None]  # nothing so near is free


def test_runs_whose_energy_does_not_fall_are_told_with_the_reason(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", trials=0, epochs=EPOCHS, seeds=SEEDS)
    assert not any("energy" in note for note in gather(read_study(study)).notes)
    lines = records("b1b2c_00001", "steep", "search", SEEDS, {"family": "constant", "skew": 0.5}, EPOCHS)
    shares = [0.9, 0.2, 1.0]
    write_trial(study, [{**line, "energy_rises": 0.7, "energy_rises_by_seed": shares[: len(SEEDS)]} for line in lines])
    runs = sum(share > 0.5 for share in shares[: len(SEEDS)])
    (note,) = (note for note in gather(read_study(study)).notes if "energy" in note)
    assert note.startswith(f"{runs} run") and "take a smaller --step-size" in note
