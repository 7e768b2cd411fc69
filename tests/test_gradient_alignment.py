"""`studies/gradient_alignment.py` from its command line: Figure 4's numbers on small runs, and mistakes told in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.alignment import summarise

# As the interpreter does for a script of that folder.
from studies import gradient_alignment
from studies.gradient_alignment import Args, caption, main, plan

SMALL = ["--sizes", "64", "24", "10", "--beta", "0.2", "--samples", "16", "--train-samples", "320", "--epochs", "3"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alignment") / "study"
    assert main([*SMALL, "--estimators", "standard", "centered", "random_sign", "--seeds", "3", "5", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def rows(small: Path) -> pd.DataFrame:
    return pd.read_csv(small / "alignment.csv", dtype={"layer": str})


def test_each_seed_checkpoint_and_layer_has_a_row(rows: pd.DataFrame) -> None:
    keys = ["seed", "epoch", "phases", "estimator", "layer"]
    assert not rows.duplicated(keys).any()
    assert len(rows) == 2 * 4 * 2 * 3 * 3
    assert sorted(rows["epoch"].unique()) == [0, 1, 2, 3]
    assert set(rows["layer"]) == {"all", "1", "2"}
    assert rows.loc[rows["epoch"] > 0, "test_acc"].between(0, 1).all()


def test_centered_is_nearer_to_bptt_than_standard_where_beta_alone_is_to_blame(rows: pd.DataFrame) -> None:
    at_rest = rows[(rows["phases"] == "at rest") & (rows["layer"] == "all")].set_index(["seed", "epoch"])
    centered, standard = (at_rest[at_rest["estimator"] == name] for name in ("centered", "standard"))
    assert (centered["relative_error"] < standard["relative_error"]).all()
    assert (centered["cosine"] > 0.99).all()
    assert (at_rest["nudged_unconverged"] == 0).all()


def test_bptt_goes_back_far_enough(rows: pd.DataFrame) -> None:
    assert (rows["bptt_change"] < 0.01).all()
    assert (rows["bptt_steps"] >= 8).all()


def test_the_summary_holds_means_and_deviations_over_seeds(small: Path, rows: pd.DataFrame) -> None:
    summary = pd.read_csv(small / "summary.csv", dtype={"layer": str}).set_index(["phases", "estimator", "layer", "epoch"])
    for key in (("protocol", "standard", "all", 3), ("at rest", "centered", "2", 0)):
        own = rows[np.logical_and.reduce([rows[name] == value for name, value in zip(summary.index.names, key, strict=True)])]
        assert summary.loc[key, "cosine"] == pytest.approx(own["cosine"].mean())
        assert summary.loc[key, "relative_error_std"] == pytest.approx(own["relative_error"].std(ddof=1))
        assert summary.loc[key, "seeds"] == 2
    assert (summarise(rows[rows["seed"] == 3])["cosine_std"] == 0).all()


def test_a_shortened_run_says_so_everywhere(small: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = "3 of 50 epochs, 320 of 1,437 training images, 2 of 3 seeds"
    study = json.loads((small / "study.json").read_text())
    assert study["shortened"] == words
    assert study["protocol"]["skew"] == 1.0
    assert main([*SMALL, "--seeds", "3", "5", "--checkpoints", "3", "--out", str(tmp_path / "s")]) == 0
    assert f"Shortened run: {words}." in capsys.readouterr().out
    # The text of a PDF is compressed; that the figure is given the words is told by what draws it.
    args = Args(seeds=(3, 5))
    assert "Shortened run: 2 of 3 seeds" in caption(args, plan(args))
    assert "Shortened" not in caption(Args(), plan(Args()))


def test_a_full_run_has_the_twelve_checkpoints_of_the_thesis(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compared: list[Any] = []
    compare = gradient_alignment.compare
    monkeypatch.setattr(gradient_alignment, "compare", lambda *given: compared.append(given) or compare(*given))
    assert (
        main(
            [
                "--sizes",
                "64",
                "8",
                "10",
                "--beta",
                "0.2",
                "--samples",
                "4",
                "--train-samples",
                "64",
                "--seeds",
                "0",
                "--out",
                str(tmp_path / "s"),
            ]
        )
        == 0
    )
    found = pd.read_csv(tmp_path / "s" / "alignment.csv")
    assert sorted(found["epoch"].unique()) == [0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50]
    assert len(compared) == 12
    # The same batch at every checkpoint.
    assert all((x is compared[0][3]) and (target is compared[0][4]) for _, _, _, x, target in compared)


def test_the_network_is_trained_by_the_strategy_that_is_named(small: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    assert (
        main([*SMALL, "--estimators", "standard", "centered", "--strategy", "centered", "--seeds", "3", "--out", str(tmp_path / "s")]) == 0
    )
    others = pd.read_csv(tmp_path / "s" / "alignment.csv", dtype={"layer": str})
    keys = ["epoch", "phases", "estimator", "layer"]
    mine = rows[(rows["seed"] == 3) & (rows["estimator"] != "random_sign")].set_index(keys)["cosine"]
    both = pd.concat([mine, others.set_index(keys)["cosine"]], axis=1, keys=["standard", "centered"])
    at_start = both.index.get_level_values("epoch") == 0
    assert (both[at_start]["standard"] == both[at_start]["centered"]).all()
    assert (both[~at_start]["standard"] != both[~at_start]["centered"]).all()


def test_too_few_given_steps_are_kept_and_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([*SMALL, "--bptt-steps", "2", "--checkpoints", "0", "--seeds", "1", "--out", str(tmp_path / "s")]) == 0
    found = pd.read_csv(tmp_path / "s" / "alignment.csv")
    assert (found["bptt_steps"] == 2).all()
    assert (found["bptt_change"] > 0.01).all()
    assert "That is 1 % or more" in capsys.readouterr().out


def test_lost_weights_end_a_seed_with_a_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = [*SMALL, "--learning-rates", "1e38", "--seeds", "1", "--out", str(tmp_path / "s")]
    with np.errstate(all="ignore"):
        assert main(arguments) == 0
    assert "seed 1: the weights are lost after epoch 1" in capsys.readouterr().out
    assert set(pd.read_csv(tmp_path / "s" / "alignment.csv")["epoch"]) == {0}


def test_a_run_that_was_cut_short_goes_on_with_the_seeds_that_it_finished(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = ["--estimators", "standard", "centered", "random_sign"]
    assert main([*SMALL, *three, "--seeds", "3", "--out", str(tmp_path / "first")]) == 0
    trained = []
    again = gradient_alignment.checkpoint_rows
    monkeypatch.setattr(
        gradient_alignment, "checkpoint_rows", lambda args, plan, seed, dataset: trained.append(seed) or again(args, plan, seed, dataset)
    )
    assert main([*SMALL, *three, "--seeds", "3", "5", "--resume", str(tmp_path / "first"), "--out", str(tmp_path / "rest")]) == 0
    assert trained == [5]
    for name in ("alignment.csv", "summary.csv"):
        both = (pd.read_csv(folder / name, dtype={"layer": str}) for folder in (tmp_path / "rest", small))
        pd.testing.assert_frame_equal(*both, rtol=1e-12)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (["--estimators", "standard", "centered"], "with --estimators standard centered random_sign"),
        (["--checkpoints", "0", "3"], "with --checkpoints 0 1 2 3 5 7 10 15 20 30 40 50"),
        (["--beta", "0.3"], "with --beta 0.2"),
        (["--samples", "8"], "with --samples 16"),
        (["--bptt-steps", "64"], "without --bptt-steps"),
        (["--protocol", "mnist", "--dataset", "fashion-mnist"], "on other images"),
    ],
)
def test_a_run_with_other_arguments_is_not_gone_on_with(
    small: Path, tmp_path: Path, official_files: Callable[..., Any], capsys: pytest.CaptureFixture[str], other: list[str], named: str
) -> None:
    files = official_files("fashion-mnist", train=320, test=20).data_dir if "--dataset" in other else None
    given = [*SMALL, *(["--data-dir", str(files), "--sizes", "784", "24", "10"] if files else []), "--seeds", "3", "5"]
    if "--estimators" not in other:
        given += ["--estimators", "standard", "centered", "random_sign"]
    assert main([*given, *other, "--resume", str(small), "--out", str(tmp_path / "s")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"--resume {small}: was begun {named}, " in told


@pytest.mark.parametrize(
    "protocol",
    [
        "--protocol mnist --sizes 784 16 10 --T1 20 --T2 5",
        "--protocol fashion-conv --channels 4 6 --train-samples 24 --test-samples 10 --batch-size 8 --T1 10 --T2 5",
    ],
    ids=["mlp", "conv"],
)
def test_files_of_fashion_mnist_serve_every_protocol(protocol: str, official_files: Callable[..., Any], tmp_path: Path) -> None:
    files = official_files("fashion-mnist", layout="plain", compressed=True, train=24, test=10)
    out = tmp_path / "study"
    run = f"{protocol} --dataset fashion-mnist --data-dir {files.data_dir} --out {out} --epochs 1 --samples 4 --seeds 1 --beta 0.001"
    assert main(run.split()) == 0
    found = pd.read_csv(out / "alignment.csv")
    assert set(found["epoch"]) == {0, 1}
    # At the first weights every phase comes to rest, and so small a β crosses few bounds of the hard sigmoid.
    start = found[(found["epoch"] == 0) & (found["phases"] == "at rest") & (found["layer"] == "all") & (found["estimator"] == "centered")]
    assert (start["cosine"] > 0.99).all()
    assert json.loads((out / "study.json").read_text())["dataset"]["name"] == "fashion-mnist"


def test_a_study_leaves_its_figure_as_png_and_pdf(small: Path) -> None:
    assert (small / "gradient_alignment.png").read_bytes().startswith(b"\x89PNG")
    assert (small / "gradient_alignment.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "letters"], "--dataset 'letters': must be one of digits, mnist, fashion-mnist, cifar10"),
        (["--protocol", "table-9"], "--protocol 'table-9': must be one of digits, mnist, "),
        (["--estimators", "fifth_order"], "--estimators 'fifth_order': must be one of standard, negative, "),
        (["--estimators", "standard", "standard"], "--estimators standard standard: must be different ones of "),
        (["--strategy", "annealed"], "--strategy 'annealed': must be one of standard, centered, cosine, "),
        (["--checkpoints", "0", "-1"], "--checkpoints -1: must be 0 to 10,000"),
        (["--bptt-steps", "0"], "--bptt-steps 0: must be 1 to 10,000"),
        (["--samples", "0"], "--samples 0: must be 1 to 1437, the images to train on"),
        (["--samples", "60", "--train-samples", "50"], "--samples 60: must be 1 to 50, the images to train on"),
        (["--seeds", "1", "1"], "--seeds 1 1: must be different numbers from 0"),
        (["--seeds", "-1"], "--seeds -1: must be different numbers from 0"),
        (["--threads", "0"], "--threads 0: must be 1 to 1,024"),
        (["--beta", "0"], "beta 0.0: "),
        (["--epochs", "0"], "epochs 0: "),
        (["--protocol", "fashion-conv", "--channels", "4", "4", "4", "4"], "convolution 4"),
        (["--resume", "nowhere"], "--resume nowhere: holds no alignment.csv of an earlier run"),
        (["--bptt-steps", "few"], ""),
    ],
)
def test_a_mistake_is_one_line_before_any_work(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*arguments, "--out", str(tmp_path / "study")]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert printed.out == ""
    assert not (tmp_path / "study").exists()
