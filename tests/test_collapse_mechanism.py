"""`studies/collapse_mechanism.py`: what it measures at an update, on a small network, and how a run that was cut short goes on."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from analysis.mechanism import mechanism_figure, over_training, summary
from hybridep.config import TrialConfig
from hybridep.datasets import load
from hybridep.diagnostics import norm
from hybridep.presets import ONE_SIDED, STRATEGIES
from hybridep.trainer import Trainer
from studies import collapse_mechanism
from studies.collapse_mechanism import PROTOCOL, WatchedTrainer, main, watched

KNOWN = STRATEGIES | ONE_SIDED
SMALL = TrialConfig(train_samples=320, test_samples=100, T1=60, T2=20, beta=0.3, epochs=1, batch_size=32, seed=3)


def rows(strategy: str, config: TrialConfig = SMALL) -> pd.DataFrame:
    return pd.DataFrame(watched(config.replace(**KNOWN[strategy]), load("digits"), every=4))


def test_watching_changes_nothing_of_the_training() -> None:
    config = SMALL.replace(**KNOWN["alternating"])
    plain, seen = Trainer(config, load("digits")), WatchedTrainer(config, load("digits"), every=3)
    plain.train_epoch()
    seen.train_epoch()
    for own, other in zip(plain.network.parameters, seen.network.parameters, strict=True):
        assert torch.equal(own, other)


def test_two_updates_in_a_row_are_watched_and_compared() -> None:
    found = rows("standard")
    assert list(found["update"]) == [0, 1, 4, 5, 8, 9]
    assert list(found["bias_alignment"].notna()) == [False, True] * 3


def test_standards_error_is_the_first_order_bias_and_centered_has_none() -> None:
    standard, centered = rows("standard"), rows("centered")
    assert standard["error"].to_numpy() == pytest.approx(standard["bias"].to_numpy(), rel=1e-3)
    assert centered["error"].max() < 1e-4
    assert (centered["bias"] > 0.01).all()


def test_alternating_signs_cancel_a_part_of_the_bias_that_two_updates_have_in_common() -> None:
    alternating, standard = rows("alternating"), rows("standard")
    assert alternating["error"].to_numpy() == pytest.approx(alternating["bias"].to_numpy(), rel=1e-3)
    assert (alternating["error_of_pair"].dropna() < 0.9 * standard["error_of_pair"].dropna()).all()


def test_drift_is_what_free_steps_leave() -> None:
    hasty, patient = rows("centered", SMALL.replace(T1=2)), rows("centered", SMALL.replace(T1=200))
    assert patient["drift"].max() < 1e-3 < hasty["drift"].min()
    assert patient["free_residual"].max() < hasty["free_residual"].min()


def test_the_norm_is_that_of_the_weights_without_biases() -> None:
    trainer = WatchedTrainer(SMALL, load("digits"), every=100)
    expected = norm(trainer.network.parameters[0::2])
    trainer.train_epoch()
    assert trainer.found[0]["weight_norm"] == pytest.approx(expected)


def test_a_figure_has_a_curve_for_each_strategy_and_a_point_for_each_pair() -> None:
    found = pd.concat([rows(name).assign(strategy=name, seed=3) for name in ("standard", "alternating")], ignore_index=True)
    assert list(over_training(found).groupby("strategy").size()) == [3, 3]
    figure = mechanism_figure(found, "small")
    assert {len(axes.lines) for axes in figure.axes} == {2}
    assert summary(found).loc["alternating", "seeds"] == 1


@pytest.fixture
def run(official_files: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The study from its command line, on a small network and small files."""
    small = collapse_mechanism.PROTOCOLS[PROTOCOL].replace(channels=(2,), learning_rates=(0.1,), batch_size=16, test_samples=20, T1=8, T2=3)
    monkeypatch.setattr(collapse_mechanism, "PROTOCOLS", {PROTOCOL: small})
    files = official_files("fashion-mnist", train=64, test=20)
    usual = ["--data-dir", str(files.data_dir), "--epochs", "1", "--every", "2", "--train-samples", "64"]  # type: ignore[attr-defined]
    return lambda *options: main([*usual, *map(str, options)])


def test_a_run_that_was_cut_short_goes_on_with_what_it_finished(
    run: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, first, rest = (tmp_path / name for name in ("whole", "first", "rest"))
    both = ("--strategies", "standard", "centered")
    assert run(*both, "--seeds", 1, "--out", whole) == 0
    assert run("--strategies", "standard", "--seeds", 1, "--out", first) == 0
    trained = []
    again = collapse_mechanism.watched
    monkeypatch.setattr(collapse_mechanism, "watched", lambda config, *more: trained.append(config) or again(config, *more))
    assert run(*both, "--seeds", 1, "--resume", first, "--out", rest) == 0
    assert [config.policy.known_mean for config in trained] == [0.0]
    assert (rest / "mechanism.csv").read_text() == (whole / "mechanism.csv").read_text()
    assert (whole / "collapse_mechanism.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--strategies", "never"), "--strategies 'never': must be one of standard"),
        (("--every", 1), "--every 1"),
        (("--seeds", 1, 1), "--seeds 1 1"),
        (("--resume", "nowhere"), "--resume nowhere: holds no mechanism.csv"),
    ],
)
def test_mistakes_are_told_in_one_line(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path, options: tuple[object, ...], told: str
) -> None:
    assert run(*options, "--out", tmp_path / "s") == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert shown.count("\n") == 1


def test_a_run_of_other_arguments_is_not_gone_on_with(run: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("--strategies", "standard", "--seeds", 1, "--out", tmp_path / "s") == 0
    assert run("--strategies", "standard", "--seeds", 1, "--every", 3, "--resume", tmp_path / "s", "--out", tmp_path / "t") == 2
    assert "was begun with --every 2" in capsys.readouterr().err


def test_a_run_on_other_images_is_not_gone_on_with(
    run: Callable[..., int], official_files: Callable[..., object], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    one = ("--strategies", "standard", "--seeds", 1)
    assert run(*one, "--out", tmp_path / "s") == 0
    others = official_files("fashion-mnist", train=70, test=20)
    assert run(*one, "--data-dir", others.data_dir, "--resume", tmp_path / "s", "--out", tmp_path / "t") == 2  # type: ignore[attr-defined]
    assert "was begun on other images" in capsys.readouterr().err


def test_an_earlier_run_with_damaged_rows_is_told_in_one_line(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("--strategies", "standard", "--seeds", 1, "--out", tmp_path / "s") == 0
    (tmp_path / "s/mechanism.csv").write_text("update,bias\n1,2\n")
    capsys.readouterr()
    assert run("--strategies", "standard", "--seeds", 1, "--resume", tmp_path / "s", "--out", tmp_path / "t") == 2
    shown = capsys.readouterr().err
    assert "holds no mechanism.csv of an earlier run" in shown and shown.count("\n") == 1


@pytest.mark.parametrize("content", ["[]", "{}", '{"protocol": {}, "arguments": []}', "{"])
def test_an_earlier_run_with_a_damaged_description_is_told_in_one_line(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str
) -> None:
    (tmp_path / "study.json").write_text(content)
    (tmp_path / "mechanism.csv").write_text("strategy,seed\n")
    assert run("--resume", tmp_path, "--out", tmp_path / "s") == 2
    shown = capsys.readouterr().err
    assert "holds no mechanism.csv of an earlier run" in shown and shown.count("\n") == 1
