"""`studies/bias_order.py` from its command line: slopes that theory gives, the hybrid's floor, and mistakes told in one line."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

# As the interpreter does for a script of that folder.
from studies.bias_order import main

SMALL = ["--sizes", "64", "24", "10", "--samples", "4", "--trained", "1"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bias") / "study"
    assert main([*SMALL, "--out", str(folder)]) == 0
    return folder


def test_the_slopes_of_a_study_are_those_of_the_theory(small: Path) -> None:
    slopes = pd.read_csv(small / "slopes.csv").set_index("estimator")
    for estimator, theory, deviation in (
        ("standard", 1, 0.1),
        ("negative", 1, 0.1),
        ("random_sign", 2, 0.15),
        ("centered", 2, 0.15),
        ("second_order", 2, 0.15),
        ("fourth_order", 4, 0.4),
    ):
        assert slopes.loc[estimator, "theory"] == theory
        assert slopes.loc[estimator, "order"] == pytest.approx(theory, abs=deviation)


def test_only_values_clear_of_rounding_within_a_decade_are_fitted(small: Path) -> None:
    curves = pd.read_csv(small / "bias.csv")
    slopes = pd.read_csv(small / "slopes.csv").set_index("estimator")
    fitted = curves[curves["fitted"]]
    assert (fitted["bias"] >= 100 * fitted["noise"]).all()
    for estimator, own in fitted.groupby("estimator"):
        assert len(own) == slopes.loc[estimator, "points"]
        assert own["beta"].max() <= 10.001 * own["beta"].min()
    # The fourth-order rule reaches rounding within the sweep, and its fit stays above.
    assert (curves[(curves["estimator"] == "fourth_order") & (curves["beta"] < 1e-3)]["bias"] < 1e-9).all()
    assert slopes.loc["fourth_order", "low"] > 1e-3


def test_the_hybrid_has_a_linear_regime_and_a_floor_that_meet_where_p_is_about_beta(small: Path) -> None:
    regimes = pd.read_csv(small / "regimes.csv").set_index("beta")
    assert list(regimes.index) == [0.001, 0.01, 0.1]
    assert regimes["crossing_over_beta"].between(0.3, 3).all()
    assert regimes.loc[[0.001, 0.01], "slope_above"].to_numpy() == pytest.approx(1, abs=0.1)
    assert regimes["lowest_p_over_floor"].to_numpy() == pytest.approx(1, abs=0.05)
    hybrid = pd.read_csv(small / "hybrid.csv")
    # Eq. 12: the two parts bound the sum, whichever way they point.
    assert (hybrid["bias"] <= 1.001 * (hybrid["cheap_part"] + hybrid["floor"])).all()
    assert np.allclose(hybrid.groupby("beta")["floor"].std(), 0)


def test_a_study_says_how_close_centered_comes_and_what_it_ran(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert (
        main([*SMALL, "--estimators", "centered", "--hybrid-betas", "0.01", "--beta-range", "1e-3", "0.1", "--out", str(tmp_path / "s")])
        == 0
    )
    out = capsys.readouterr().out
    difference = re.search(r"Centered EP at β = 0.001 differs from BPTT by (\S+) of its norm", out)
    assert difference is not None
    assert float(difference[1]) < 1e-4
    assert "after 1 epochs" not in out
    assert "after 1 epoch, 4 samples" in out
    study = json.loads((tmp_path / "s" / "study.json").read_text())
    assert (study["kind"], study["protocol"]["sizes"], study["seeds"]) == ("bias_order", [64, 24, 10], [0])
    assert study["ended"] >= study["started"]


def test_a_study_leaves_its_figure_as_png_and_pdf(small: Path) -> None:
    assert (small / "bias_order.png").read_bytes().startswith(b"\x89PNG")
    assert (small / "bias_order.pdf").read_bytes().startswith(b"%PDF")


def test_convolutional_networks_follow_the_same_orders(tmp_path: Path) -> None:
    network = "--protocol fashion-conv --channels 4 --activation tanh --pooling average --learning-rates 0.05"
    data = "--dataset digits --train-samples 64 --test-samples 100 --trained 0 --samples 3"
    sweep = f"--beta-range 1e-4 0.3 --estimators standard centered fourth_order --out {tmp_path / 's'}"
    assert main(f"{network} {data} {sweep}".split()) == 0
    assert pd.read_csv(tmp_path / "s" / "slopes.csv")["order"].to_numpy() == pytest.approx([1, 2, 4], abs=0.1)


def test_hopfield_networks_follow_the_same_orders(tmp_path: Path) -> None:
    network = "--network graph --sizes 16 12 10 --skip x:y h1:y --lateral h1 --dynamics energy --activation tanh"
    data = "--train-samples 64 --test-samples 100 --trained 0 --samples 3"
    sweep = f"--beta-range 1e-4 0.3 --estimators standard centered fourth_order --out {tmp_path / 's'}"
    assert main(f"{network} {data} {sweep}".split()) == 0
    assert pd.read_csv(tmp_path / "s" / "slopes.csv")["order"].to_numpy() == pytest.approx([1, 2, 4], abs=0.1)


def test_phases_that_never_rest_are_told_and_not_fitted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    # Max pooling under an odd activation: for some samples the pooling choices of a step undo those of the step before.
    network = "--protocol fashion-conv --channels 4 8 --activation tanh --pooling max --learning-rates 0.05 --init-gain 1"
    data = "--dataset digits --train-samples 64 --test-samples 100 --trained 0 --samples 8"
    assert main(f"{network} {data} --estimators standard centered --out {tmp_path / 's'}".split()) == 0
    out = capsys.readouterr().out
    assert out.count("too few values clear of rounding") == 2
    assert "(phases not at rest)" in out
    curves = pd.read_csv(tmp_path / "s" / "bias.csv")
    assert not curves["at_rest"].any()
    assert not curves["fitted"].any()
    assert (tmp_path / "s" / "bias_order.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "letters"], "--dataset 'letters': must be one of digits, mnist, fashion-mnist, cifar10"),
        (["--protocol", "table-9"], "--protocol 'table-9': must be one of digits, mnist, "),
        (["--estimators", "third_order"], "--estimators 'third_order': must be one of standard, negative, "),
        (["--estimators", "centered", "centered"], "--estimators centered centered: must be different ones of "),
        (["--beta-range", "0", "1"], "--beta-range 0 1: must be two values from 1e-12 to 1e+06, the lower first"),
        (["--beta-range", "1", "0.1"], "--beta-range 1 0.1: must be two values from 1e-12 to 1e+06, the lower first"),
        (["--beta-range", "nan", "1"], "--beta-range nan 1: must be two values from 1e-12 to 1e+06, the lower first"),
        (["--hybrid-betas", "0.1", "-0.2"], "--hybrid-betas -0.2: must be 1e-12 to 1e+06"),
        (["--hybrid-betas", "inf"], "--hybrid-betas inf: must be 1e-12"),
        (["--trained", "-1"], "--trained -1: must be 0 to "),
        (["--trained", "9", "--epochs", "3"], "--trained 9: must be 0 to 3, the epochs of the protocol"),
        (["--samples", "0"], "--samples 0: must be 1 to 1437, the images to train on"),
        (["--samples", "2000"], "--samples 2000: must be 1 to 1437, the images to train on"),
        (["--seed", "-2"], "--seed -2: must be 0 to 9,007,199,254,740,991"),
        (["--threads", "0"], "--threads 0: must be 1 to 1,024"),
        (["--activation", "hard_sigmoid"], "--activation hard_sigmoid: must be tanh or sigmoid, "),
        (["--sizes", "64", "10"], "sizes 64-10 must name the input, at least one hidden layer and the output"),
        (["--sizes", "63", "8", "10"], "sizes 63-8-10 starts with 63, but digits has 64 pixels"),
        (["--train-samples", "5000"], "train_samples 5000: must be 1 to 1437, "),
        (["--beta", "-1"], "beta -1.0: "),
        (["--samples", "many"], ""),
        (["--no-such-option"], ""),
        (["--data-dir", "/nowhere", "--dataset", "mnist"], "mnist"),
    ],
)
def test_a_mistake_is_one_line_before_any_work(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", lambda *_, **__: pytest.fail("downloads"))
    assert main([*arguments, "--out", str(tmp_path / "study")]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert printed.out == ""
    assert not (tmp_path / "study").exists()


def test_a_folder_that_holds_something_is_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: --out {tmp_path}: is not empty; choose a folder that is empty or does not exist yet\n"
    assert main(["--out", str(tmp_path / "notes.txt")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
