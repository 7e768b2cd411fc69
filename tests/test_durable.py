"""One strategy as Ray trains it: rows over seeds, checkpoints that survive anything, processes that are used again."""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybridep.checkpoints import Checkpoints
from hybridep.config import ADDED
from hybridep.durable import DurableTrial
from hybridep.trainable import over_seeds
from tests.trials import CENTERED, COSINE, PROTOCOL, begin_in, rows

Begin = Callable[..., DurableTrial]


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    """Starts a trial in its folder."""
    return functools.partial(begin_in, tmp_path)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6))
def test_columns_are_means_over_seeds_with_their_deviation(values: list[float]) -> None:
    merged = over_seeds([{"epoch": 2, "learning_rate": 0.5, "test_acc": value} for value in values])
    assert (merged["epoch"], merged["learning_rate"]) == (2, 0.5)
    assert merged["test_acc"] == pytest.approx(np.mean(values))
    assert merged["test_acc_std"] == pytest.approx(np.std(values, ddof=1))
    assert merged["test_acc_by_seed"] == values
    assert "learning_rate_by_seed" not in merged


def test_one_seed_has_no_deviation() -> None:
    merged = over_seeds([{"epoch": 1, "test_acc": 0.25, "collapsed": True}])
    assert merged == {
        "epoch": 1,
        "test_acc": 0.25,
        "test_acc_std": 0.0,
        "test_acc_by_seed": [0.25],
        "collapsed": 1.0,
        "collapsed_std": 0.0,
        "collapsed_by_seed": [True],
    }


def test_a_loss_that_overflowed_is_reported_like_any_other() -> None:
    merged = over_seeds([{"epoch": 1, "train_loss": float("inf")}, {"epoch": 1, "train_loss": 1.0}])
    assert merged["train_loss"] == float("inf")
    assert np.isnan(merged["train_loss_std"])


def test_a_trial_reports_every_epoch_of_its_strategy_on_its_seeds(begin: Begin) -> None:
    reported = rows(begin(), 4)
    assert [row["epoch"] for row in reported] == [1, 2, 3, 4]
    assert [row["done"] for row in reported] == [False, False, False, True]
    assert all(row["trial_id"] == "cosine" and row["config"] == COSINE for row in reported)
    assert reported[0]["p_std"] == 1.0
    assert reported[0]["nudged_phases_by_seed"] == [5, 5]
    assert len(reported[0]["val_acc_by_seed"]) == 2
    assert reported[-1]["relaxation_steps"] == reported[-1]["free_steps"] + reported[-1]["nudged_steps"]


def test_tune_is_sent_the_objectives_and_little_else(begin: Begin) -> None:
    result = begin().step()
    assert {name for name, value in result.items() if isinstance(value, float)} == {"val_acc", "nudged_phases", "epoch_seconds"}
    assert result["done"] is False
    assert result["training_iteration"] == 1


def test_histograms_of_activations_are_reported_on_request_and_change_nothing_else(begin: Begin, tmp_path: Path) -> None:
    plain, asked = begin(), begin()
    asked._histograms = True
    row = json.loads(asked.step()["line"])
    activations = row["activations"]
    assert (activations["lowest"], activations["highest"]) == (-1.0, 1.0)
    samples = 256
    for layers in activations["counts_by_seed"]:
        assert [sum(counts) for counts in layers] == [16 * samples, 10 * samples]
    assert len(activations["counts_by_seed"]) == 2
    assert len(json.dumps(activations)) < 1500
    without = json.loads(plain.step()["line"])
    assert "activations" not in without
    assert without["test_acc_by_seed"] == row["test_acc_by_seed"]


@pytest.mark.parametrize("stopped_after", [1, 2, 3])
def test_a_trial_that_goes_on_elsewhere_gives_the_numbers_of_one_that_never_stopped(
    begin: Begin, tmp_path: Path, stopped_after: int
) -> None:
    whole = rows(begin(), 4)
    Checkpoints.of(str(tmp_path), "cosine").drop()
    before = rows(begin(), stopped_after)
    after = rows(begin(), 4 - stopped_after + 1)
    # The last epoch had been reported but its checkpoint not asked for yet: it is trained once more.
    assert after[0] == before[-1]
    assert before + after[1:] == whole


@pytest.mark.parametrize(
    ("change", "found"), [(lambda config: [config.pop(name) for name in ADDED], 3), (lambda config: config.update(precision="tf32"), 2)]
)
def test_a_checkpoint_of_a_version_that_knew_fewer_fields_is_taken_and_one_of_another_value_is_not(
    begin: Begin, tmp_path: Path, change: Callable[[dict[str, Any]], object], found: int
) -> None:
    before = rows(begin(), 3)
    checkpoints = Checkpoints.of(str(tmp_path), "cosine")
    state = checkpoints.read(2)
    assert state is not None
    config = json.loads(state["identity"]["config"])
    change(config)
    state["identity"]["config"] = json.dumps(config)
    checkpoints.write(2, state)
    assert rows(begin(), 1) == [before[found - 1]]


def test_a_checkpoint_follows_when_the_next_epoch_is_asked_for(begin: Begin, tmp_path: Path) -> None:
    trial = begin()
    for epoch in (1, 2, 3, 4):
        trial.step()
        assert next(iter(Checkpoints.of(str(tmp_path), "cosine").epochs()), 0) == epoch - 1


def test_old_checkpoints_are_removed(begin: Begin, tmp_path: Path) -> None:
    rows(begin(), 4)
    assert Checkpoints.of(str(tmp_path), "cosine").epochs() == [3, 2]


def test_time_goes_on_where_it_was(begin: Begin) -> None:
    trial = begin()
    for _ in range(3):
        last = json.loads(trial.step()["line"])
    assert json.loads(begin().step()["line"])["time_total_s"] > last["time_total_s"] / 2


def test_a_process_that_is_used_again_gives_the_numbers_of_a_fresh_one(begin: Begin, tmp_path: Path) -> None:
    fresh = rows(begin(CENTERED), 2)
    Checkpoints.of(str(tmp_path), "centered").drop()
    used = begin(COSINE)
    rows(used, 2)
    assert used.reset_config(dict(CENTERED))
    assert rows(used, 2) == fresh


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cosine").mkdir()
    checkpoints = Checkpoints.of(str(tmp_path), "cosine")
    checkpoints.write(1, {"weights": torch.ones(3)})

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.write(2, {"weights": torch.zeros(3)})
    assert [path.name for path in (tmp_path / "cosine").iterdir()] == ["checkpoint-000001.pt"]
    state = checkpoints.read(1)
    assert state is not None
    assert torch.equal(state["weights"], torch.ones(3))


def test_a_checkpoint_that_cannot_be_written_is_told_as_a_matter_of_storage(begin: Begin, tmp_path: Path) -> None:
    trial = begin()
    trial.step()
    (tmp_path / "cosine").rmdir()
    result = trial.step()
    assert result["storage"]
    assert "No such file or directory" in result["failed"]
    assert "\n" not in result["failed"]


def test_an_error_in_training_is_reported_and_not_raised(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object) -> None:
        raise RuntimeError("the network is on fire")

    monkeypatch.setattr("hybridep.trainer.Trainer.train_epoch", broken)
    result = begin().step()
    assert result["done"]
    assert "the network is on fire" in result["failed"]
    assert "storage" not in result


def test_a_configuration_that_is_no_good_is_reported_and_not_raised(begin: Begin) -> None:
    result = begin({**COSINE, "skew": 1.5}).step()
    assert "skew" in result["failed"]


LOST = {"collapsed": True, "saturation": 0.9}


@pytest.fixture
def losing(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DurableTrial]:
    """Starts a trial that reports, epoch by epoch, the given columns of its seeds instead of its own."""
    from hybridep.trainer import Trainer

    train_epoch = Trainer.train_epoch

    def losing(epochs: list[list[dict[str, Any]]], patience: int, origin: str = "search") -> DurableTrial:
        def scripted(self: Trainer) -> dict[str, Any]:
            row = train_epoch(self)
            return {**row, **epochs[self.epoch - 1][COSINE["seeds"].index(self.config.seed)]}

        monkeypatch.setattr(Trainer, "train_epoch", scripted)
        trial = begin({**COSINE, "origin": origin}, PROTOCOL.replace(epochs=len(epochs)))
        trial._patience = patience
        return trial

    return losing


def test_a_searched_trial_that_stays_lost_on_every_seed_is_given_up(losing: Callable[..., DurableTrial]) -> None:
    found = {"collapsed": False, "saturation": 0.1}
    trial = losing([[LOST, LOST], [LOST, found], [LOST, LOST], [LOST, LOST], [LOST, LOST], [found, found]], patience=3)
    done = [trial.step()["done"] for _ in range(5)]
    assert done == [False, False, False, False, True]


def test_a_trial_that_is_given_up_is_charged_what_training_to_the_end_would_have_cost(losing: Callable[..., DurableTrial]) -> None:
    trial = losing([[LOST, LOST]] * 4, patience=2)
    trial.step()
    result = trial.step()
    line = json.loads(result["line"])
    assert result["done"]
    # 5 updates an epoch, p_std of the rest ½ and ½ − √½/2: 7.5 and 9.27 nudged phases expected.
    rest = 5 * (2 - 0.5) + 5 * (2 - (0.5 - 0.5 * 0.5**0.5))
    assert line["nudged_phases_to_the_end"] == result["nudged_phases"] == pytest.approx(line["nudged_phases"] + rest, rel=1e-3)


@pytest.mark.parametrize("origin", ["thesis", "confirm"])
def test_what_the_search_is_compared_with_is_trained_to_the_end(losing: Callable[..., DurableTrial], origin: str) -> None:
    trial = losing([[LOST, LOST]] * 4, patience=1, origin=origin)
    assert [trial.step()["done"] for _ in range(4)] == [False, False, False, True]


@pytest.mark.parametrize("seen", [{"collapsed": True, "saturation": 0.2}, {"collapsed": False, "saturation": 0.9}])
def test_chance_without_saturation_and_saturation_above_chance_are_not_lost(
    losing: Callable[..., DurableTrial], seen: dict[str, Any]
) -> None:
    trial = losing([[seen, seen]] * 3, patience=1)
    assert [trial.step()["done"] for _ in range(3)] == [False, False, True]


def test_a_network_that_diverged_is_lost(losing: Callable[..., DurableTrial]) -> None:
    diverged = {"collapsed": True, "saturation": float("nan")}
    assert losing([[diverged, LOST]] * 3, patience=1).step()["done"]


def test_patience_outlives_the_process(losing: Callable[..., DurableTrial]) -> None:
    epochs = [[LOST, LOST]] * 5
    first = losing(epochs, patience=3)
    for _ in range(3):
        last = first.step()
    assert last["done"]
    # Its second epoch is the last with a checkpoint.
    assert losing(epochs, patience=3).step()["done"]


def test_on_a_gpu_the_seeds_of_a_trial_train_as_one_stack(begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hybridep.trainer import Trainer

    one_by_one = rows(begin(), 3)
    Checkpoints.of(str(tmp_path), "cosine").drop()
    monkeypatch.setattr(Trainer, "train_epoch", None)  # what is not stacked would use it

    def on_device() -> DurableTrial:
        trial = begin()
        trial._device = "cpu:0"  # for what asks whether it is plain "cpu", a device
        return trial

    whole = rows(on_device(), 3)
    for found, expected in zip(whole, one_by_one, strict=True):
        assert list(found) == list(expected)
        assert found["train_loss_by_seed"] == pytest.approx(expected["train_loss_by_seed"], rel=1e-5)  # sums round otherwise
    Checkpoints.of(str(tmp_path), "cosine").drop()
    # Goes on in another process after the second epoch, whose checkpoint had not been asked for.
    assert rows(on_device(), 2) + rows(on_device(), 2)[1:] == whole
