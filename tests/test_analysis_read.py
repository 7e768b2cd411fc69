"""Reading study folders as studies, crashes, resumes and other versions leave them."""

import json

import pytest

from analysis.merge import read_studies
from analysis.read import read_study
from analysis.strategies import gather
from analysis.tables import write_csv
from hybridep.config import ADDED, InvalidInput
from tests.synthetic_study import PROTOCOL, THESIS, records, write_header, write_study, write_trial

EPOCHS = 4
SEEDS = (0, 1)


def write_one(study, changes=None, epochs=EPOCHS, strategy="cosine", trial_id="t1", **header):
    """A study of one trial; `changes` is a function on its lines. Returns the trial's result file."""
    write_header(study, SEEDS, EPOCHS, 1, **header)
    lines = records(trial_id, strategy, "thesis", SEEDS, THESIS.get(strategy, {}), epochs)
    return write_trial(study, changes(lines) if changes else lines)


def test_every_seed_of_every_trial_has_a_row_with_its_final_values(tmp_path):
    study = read_study(write_study(tmp_path, trials=3, epochs=EPOCHS, seeds=SEEDS))
    assert len(study.trials) == (5 + 3) * len(SEEDS)
    last = records("x", "cosine", "thesis", SEEDS, THESIS["cosine"], EPOCHS)[-1]
    row = study.trials[(study.trials["strategy"] == "cosine") & (study.trials["seed"] == 1)].iloc[0]
    assert row["test_acc"] == last["test_acc_by_seed"][1]
    assert row["nudged_phases"] == last["nudged_phases_by_seed"][1]
    assert row["relaxation_steps"] == last["free_steps_by_seed"][1] + last["nudged_steps_by_seed"][1]
    seconds = study.curves[(study.curves["strategy"] == "cosine") & (study.curves["seed"] == 1)]["epoch_seconds"]
    assert row["train_seconds"] == pytest.approx(seconds.sum())
    assert row["status"] == "complete"
    assert row["sizes"] == "64-128-10"
    assert row["family"] == "cosine"
    assert row["epochs"] == EPOCHS
    assert study.notes == ()


def test_rows_stand_in_the_order_of_the_thesis_then_of_the_search(tmp_path):
    overrides = {"search-0010": {"skew": 0.1}, "search-0002": {"skew": 0.2}, "random_sign": {"cheap": "random_sign"}}
    study = read_study(write_study(tmp_path, epochs=EPOCHS, seeds=(7, 3), overrides=overrides))
    strategies = list(dict.fromkeys(study.trials["strategy"]))
    assert strategies == ["standard", "centered", "cosine", "inverse_cosine", "stochastic", "random_sign", "search-0002", "search-0010"]
    assert study.trials["seed"].tolist()[:4] == [3, 7, 3, 7]
    assert list(dict.fromkeys(study.curves["strategy"])) == strategies
    one = study.curves[study.curves["strategy"] == "search-0002"]
    assert one["epoch"].tolist() == [1, 2, 3, 4] * 2


def test_a_torn_last_line_costs_only_its_epoch(tmp_path):
    path = write_one(tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    study = read_study(tmp_path)
    assert study.trials["epoch"].tolist() == [EPOCHS - 1] * 2
    assert any("1 result line was cut short" in note for note in study.notes)


def test_a_record_written_behind_a_torn_line_is_found(tmp_path):
    path = write_one(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1] + lines[2][:300] + lines[2] + lines[3])
    study = read_study(tmp_path)
    assert study.trials["epoch"].tolist() == [EPOCHS] * 2
    assert study.curves["epoch"].tolist() == [1, 2, 3, 4] * 2


@pytest.mark.parametrize(
    "damage", [b"\x00\xff\xfe", b"[1, 2]\n", b'"text"\n', b"{}\n", b'{"epoch": "three"}\n', b'{"epoch": -1}\n', b"\n\n"]
)
def test_lines_that_are_no_records_are_skipped(tmp_path, damage):
    path = write_one(tmp_path)
    path.write_bytes(damage + b"\n" + path.read_bytes() + damage)
    assert read_study(tmp_path).trials["epoch"].tolist() == [EPOCHS] * 2


def test_of_an_epoch_trained_twice_the_last_counts(tmp_path):
    def repeat(lines):
        again = json.loads(json.dumps(lines[2]))
        again["test_acc_by_seed"] = [0.123, 0.456]
        return [*lines, again]

    write_one(tmp_path, repeat)
    study = read_study(tmp_path)
    third = study.curves[study.curves["epoch"] == 3]
    assert third["test_acc"].tolist() == [0.123, 0.456]
    assert len(study.curves) == EPOCHS * 2
    assert study.trials["epoch"].tolist() == [EPOCHS] * 2


def test_missing_values_and_missing_columns_are_nan(tmp_path):
    def lose(lines):
        for line in lines:
            line["val_acc_by_seed"] = [float("nan"), None]
            del line["saturation"], line["saturation_by_seed"]
        return lines

    write_one(tmp_path, lose)
    trials = read_study(tmp_path).trials
    assert trials["val_acc"].isna().all()
    assert trials["saturation"].isna().all()
    assert trials["test_acc"].notna().all()


def test_status_tells_finished_running_failed_and_collapsed_apart(tmp_path):
    write_header(tmp_path, SEEDS, EPOCHS, 6, ended=None)

    def add(trial_id, epochs, collapses=(), done=False):
        lines = records(trial_id, trial_id, "search", SEEDS, THESIS["cosine"], epochs, collapses)
        lines[-1]["done"] = done
        return write_trial(tmp_path, lines)

    add("complete", EPOCHS)
    add("running", EPOCHS - 1)
    add("half", EPOCHS, collapses=SEEDS[:1])
    add("stopped", EPOCHS, collapses=SEEDS, done=True).write_text(
        "".join(json.dumps(line | {"epoch": number + 1}) + "\n" for number, line in enumerate(_collapsed_early()))
    )
    add("failed", EPOCHS - 2).with_name("error.txt").write_text("out of memory")
    (tmp_path / "ray" / "never").mkdir()
    broken = tmp_path / "ray" / "broken"
    broken.mkdir()
    (broken / "error.txt").write_text("out of memory")
    study = read_study(tmp_path)
    status = study.trials.groupby("strategy")["status"].agg(list).to_dict()
    assert status["complete"] == ["complete"] * 2
    assert status["running"] == ["running"] * 2
    assert status["half"] == ["collapsed", "complete"]
    assert status["stopped"] == ["collapsed"] * 2
    assert status["failed"] == ["failed"] * 2
    assert "1 trial failed before the first epoch ended (broken)." in study.notes
    assert "1 trial has no finished epoch yet (never)." in study.notes


def _collapsed_early():
    """Two lines of a trial that its stopper ended because both seeds had collapsed."""
    lines = records("stopped", "stopped", "search", SEEDS, THESIS["cosine"], 2)
    for line in lines:
        line["collapsed_by_seed"] = [True, True]
    lines[-1]["done"] = True
    return lines


def test_a_study_that_has_ended_has_no_running_trials(tmp_path):
    write_one(tmp_path, epochs=EPOCHS - 1, ended="2026-07-01T10:02:31+00:00")
    assert read_study(tmp_path).trials["status"].tolist() == ["failed"] * 2


def test_a_trial_whose_lines_do_not_fit_together_is_left_out(tmp_path):
    write_study(tmp_path, trials=0, epochs=EPOCHS, seeds=SEEDS)
    lines = records("t9", "search-0009", "search", SEEDS, {}, EPOCHS)
    lines[1]["test_acc_by_seed"] = [0.5]
    write_trial(tmp_path, lines)
    study = read_study(tmp_path)
    assert "search-0009" not in set(study.trials["strategy"])
    assert any("1 trial has results that do not fit together" in note and "trial_t9" in note for note in study.notes)


@pytest.mark.parametrize(
    "override", [{"beta": "x"}, {"beta": 0}, {"skew": [1]}, {"T1": True}, {"epochs": -1}, {"sizes": []}, {"T2": 1e300}]
)
def test_a_trial_whose_configuration_makes_no_sense_is_left_out(tmp_path, override):
    write_study(tmp_path, trials=0, epochs=EPOCHS, seeds=SEEDS)
    lines = records("t9", "search-0009", "search", SEEDS, {}, EPOCHS)
    lines[-1]["config"] |= override
    write_trial(tmp_path, lines)
    study = read_study(tmp_path)
    assert "search-0009" not in set(study.trials["strategy"])
    assert any("trial_t9" in note for note in study.notes)


@pytest.mark.parametrize("entry", [{"arguments": [1]}, {"dataset": "digits"}, {"protocol": None}, {"git": 3, "versions": []}])
def test_entries_of_study_json_may_be_of_another_kind(tmp_path, entry):
    write_one(tmp_path, **entry)
    assert read_study(tmp_path).trials["status"].tolist() == ["complete"] * 2


def test_a_damaged_field_of_the_protocol_is_told_and_ignored(tmp_path):
    write_one(tmp_path, protocol={**PROTOCOL, "epochs": EPOCHS, "T1": "thirty"})
    study = read_study(tmp_path)
    assert "study.json is damaged: T1 'thirty' is no number that training could use, it is ignored." in study.notes
    assert "T1" not in study.trials


@pytest.mark.parametrize("number", [float("inf"), 1e308, 1.5, -3])
def test_numbers_that_cannot_be_accuracies_are_none(tmp_path, number):
    def overwrite(lines):
        lines[-1]["test_acc_by_seed"] = [number, 0.5]
        return lines

    write_one(tmp_path, overwrite)
    assert read_study(tmp_path).trials["test_acc"].fillna(-1).tolist() == [-1, 0.5]


def test_one_seed_may_come_without_lists(tmp_path):
    write_header(tmp_path, (5,), EPOCHS, 1)
    lines = records("t1", "cosine", "thesis", (5,), THESIS["cosine"], EPOCHS)
    means = [{name: value for name, value in line.items() if not name.endswith("_by_seed")} for line in lines]
    write_trial(tmp_path, means)
    trials = read_study(tmp_path).trials
    assert trials["seed"].tolist() == [5]
    assert trials["test_acc"].tolist() == [lines[-1]["test_acc"]]


def test_means_over_several_seeds_do_not_stand_for_a_seed(tmp_path):
    def drop(lines):
        return [{name: value for name, value in line.items() if name != "test_acc_by_seed"} for line in lines]

    write_one(tmp_path, drop)
    assert read_study(tmp_path).trials["test_acc"].isna().all()


def test_another_format_is_told_and_read_as_far_as_it_goes(tmp_path):
    write_one(tmp_path, format=7)
    study = read_study(tmp_path)
    assert any("format 7" in note and "format 2" in note for note in study.notes)
    assert len(study.trials) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\udcff"])
def test_trials_speak_for_themselves_where_study_json_is_damaged(tmp_path, content):
    write_one(tmp_path)
    (tmp_path / "study.json").write_bytes(content.encode(errors="surrogateescape"))
    study = read_study(tmp_path)
    assert any("study.json is damaged" in note for note in study.notes)
    assert study.trials["family"].tolist() == ["cosine"] * 2
    assert study.trials["status"].tolist() == ["complete"] * 2
    assert "trial" not in study.trials


def test_what_trials_override_makes_up_a_strategy_whatever_it_is(tmp_path):
    overrides = {"search-0001": {"momentum": 0.5, "teeth": 3}, "search-0002": {"skew": 0.5, "beta": 1.0}}
    study = read_study(write_study(tmp_path, epochs=EPOCHS, seeds=SEEDS, overrides=overrides, control=True))
    assert set(study.strategy_fields) == {"family", "skew", "momentum", "teeth", "epochs"}  # β is the protocol's own, and so says nothing
    rows = study.trials.drop_duplicates("strategy").set_index("strategy")
    assert rows.loc["search-0001", ["momentum", "teeth"]].tolist() == [0.5, 3]
    assert (rows.loc["centered_2_epochs", "epochs"], rows.loc["centered_2_epochs", "status"]) == (2, "complete")


def test_strategies_are_made_of_the_same_fields_when_only_the_tables_are_left(tmp_path):
    written = write_study(tmp_path / "whole", trials=6, epochs=EPOCHS, seeds=SEEDS, control=True)
    whole = read_study(written)
    (tmp_path / "tables").mkdir()
    write_csv(whole.trials, tmp_path / "tables" / "trials.csv")
    write_csv(whole.curves, tmp_path / "tables" / "curves.csv")
    (tmp_path / "tables" / "study.json").write_bytes((written / "study.json").read_bytes())
    assert read_study(tmp_path / "tables").strategy_fields == whole.strategy_fields != []


def test_a_column_may_be_shared_or_have_a_value_for_each_seed(tmp_path):
    def by_seed(lines):
        return [{**line, "p_std": 0.5, "p_std_by_seed": [0.25, 0.75], "agreement_by_seed": [0.9, float("nan")]} for line in lines]

    write_one(tmp_path / "new", by_seed)
    write_one(tmp_path / "old")
    assert read_study(tmp_path / "new").trials["p_std"].tolist() == [0.25, 0.75]
    assert read_study(tmp_path / "new").trials["agreement"].fillna(-1).tolist() == [0.9, -1]
    assert read_study(tmp_path / "old").trials["p_std"].nunique() == 1
    assert read_study(tmp_path / "old").trials["agreement"].isna().all()


def test_a_description_of_the_platform_goes_before_one_made_here(tmp_path):
    def describe(lines):
        return [{**line, "config": {**line["config"], "description": "as it was planned"}} for line in lines]

    write_one(tmp_path, describe)
    assert gather(read_study(tmp_path)).table["description"].tolist() == ["as it was planned"]


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (lambda folder: folder / "absent", "no such study folder"),
        (lambda folder: folder, "is not a study"),
        (lambda folder: write_header(folder, SEEDS, EPOCHS, 1) or folder, "holds no results"),
        (lambda folder: write_header(folder, SEEDS, EPOCHS, 1) or (folder / "ray").mkdir() or folder, "no trial has finished an epoch"),
    ],
)
def test_a_folder_without_results_is_told_in_one_line(tmp_path, prepare, told):
    with pytest.raises(InvalidInput, match=told) as mistake:
        read_study(prepare(tmp_path))
    assert "\n" not in str(mistake.value)


def test_studies_of_one_protocol_merge_and_keep_their_strategies_apart(tmp_path):
    one = write_study(tmp_path / "one", trials=3, epochs=EPOCHS, seeds=(0, 1), search_seed=1)
    two = write_study(tmp_path / "two", trials=3, epochs=EPOCHS, seeds=(2, 3), search_seed=2)
    study = read_studies([one, two])
    assert study.name == "one + two"
    cosine = study.trials[study.trials["strategy"] == "cosine"]
    assert cosine["seed"].tolist() == [0, 1, 2, 3]
    assert {"search-0000 (one)", "search-0000 (two)"} <= set(study.trials["strategy"])
    assert study.trials["strategy"].tolist()[:4] == ["standard"] * 4


def test_a_seed_that_two_studies_share_counts_once(tmp_path):
    folders = [write_study(tmp_path / name, trials=1, epochs=EPOCHS, seeds=(0, 1)) for name in ("one", "two")]
    study = read_studies(folders)
    assert any("12 rows repeat" in note for note in study.notes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"protocol": {"T1": 5}}, "two has T1 5, one has 30"),
        ({"protocol": {"learning_rates": [0.1, 0.2]}}, "two has learning_rates 0.1-0.2, one has 0.05"),
        ({"dataset": {"name": "digits", "checksum": "other"}}, "different data"),
    ],
)
def test_studies_of_different_protocols_or_data_do_not_merge(tmp_path, changes, told):
    one = write_study(tmp_path / "one", trials=0, epochs=EPOCHS, seeds=SEEDS)
    two = write_study(tmp_path / "two", trials=0, epochs=EPOCHS, seeds=SEEDS, **changes)
    with pytest.raises(InvalidInput, match=told):
        read_studies([one, two])


def test_a_study_of_a_version_that_knew_fewer_fields_merges_with_one_that_knows_them(tmp_path):
    folders = [
        write_study(tmp_path / name, trials=0, epochs=EPOCHS, seeds=SEEDS, protocol=new) for name, new in (("one", {}), ("two", ADDED))
    ]
    study = read_studies(folders)
    assert set(study.trials["precision"]) == {"float32"}
    assert "precision" not in study.strategy_fields
    write_study(tmp_path / "three", trials=0, epochs=EPOCHS, seeds=SEEDS, protocol={"precision": "tf32"})
    with pytest.raises(InvalidInput, match="three has precision tf32, one has float32"):
        read_studies([folders[0], tmp_path / "three"])


def test_protocols_may_differ_in_what_the_thesis_strategies_set_themselves(tmp_path):
    folders = [
        write_study(tmp_path / name, trials=1, epochs=EPOCHS, seeds=(0, 1), protocol={"family": family}, search_seed=number)
        for number, (name, family) in enumerate({"one": "constant", "two": "cosine"}.items())
    ]
    assert len(set(read_studies(folders).trials["strategy"])) == 5 + 2


def test_the_generated_protocol_has_the_fields_of_a_trial():
    from hybridep.config import TrialConfig

    # A field that it lacks is new, and must stand in ADDED: old studies could not be continued without.
    assert set(PROTOCOL) | {"test_samples", *ADDED} >= set(TrialConfig().flat())
    assert {name: TrialConfig.model_fields[name].default for name in ADDED} == ADDED
