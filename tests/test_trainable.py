"""`StrategyTrial` under Tune's own machinery: plain configurations, flat metrics, errors, checkpoints, restored and exploited trials."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from ray.tune.schedulers import PopulationBasedTraining

from hybridep.config import InvalidInput, TrialConfig
from hybridep.trainable import StrategyTrial
from tests.trials import PROTOCOL, digits

ROOT = Path(__file__).resolve().parent.parent
SMALL = {"epochs": 3, "sizes": (64, 16, 10), "train_samples": 200, "validation": 40, "T1": 8, "T2": 4}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", _node_ip_address="127.0.0.1")
    yield
    ray.shutdown()


def trial(config: dict[str, Any], **parameters: Any) -> StrategyTrial:
    """A trial in this process, without Tune."""
    made = StrategyTrial.__new__(StrategyTrial)  # Tune's constructor makes folders in the home folder
    made._trial_info = None
    made.setup(config, **{"dataset": digits(), **parameters})
    return made


def timeless(row: dict[str, Any]) -> str:
    """A result without what depends on the clock, as text: NaN is not equal to itself."""
    return json.dumps({name: value for name, value in row.items() if "seconds" not in name})


def tuner(folder: Path, space: dict[str, Any], **options: Any) -> tune.Tuner:
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(StrategyTrial, dataset=digits()), {"cpu": 1}),
        param_space={**SMALL, **space},
        tune_config=tune.TuneConfig(**options),
        run_config=tune.RunConfig(name="tuned", storage_path=str(folder), verbose=0),
    )


@pytest.mark.usefixtures("cluster")
def test_a_natural_configuration_runs_and_reports_flat_numbers(tmp_path: Path) -> None:
    space = {"family": tune.grid_search(["cosine", "constant"]), "skew": tune.uniform(0, 1), "seeds": [0, 1]}
    results = tuner(tmp_path, space).fit()
    assert not results.errors
    table = results.get_dataframe().set_index("config/family")
    assert set(table.index) == {"cosine", "constant"}
    assert table["training_iteration"].tolist() == [3, 3]
    for column in ("test_acc", "val_acc", "nudged_phases", "relaxation_steps", "test_acc_std"):
        assert table[column].map(math.isfinite).all()
    assert len(table.loc["cosine", "test_acc_by_seed"]) == 2
    best = results.get_best_result("val_acc", "max")
    assert best.checkpoint is not None  # Tune's own, at the end


@pytest.mark.usefixtures("cluster")
def test_the_function_trainable_of_the_docs_runs_and_is_six_lines(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "ray.md").read_text(encoding="utf-8")
    function, use = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len([line for line in function.splitlines() if line]) == 6
    use = use.replace("\ntune.Tuner(", "\nresults = tune.Tuner(").replace("}).fit()", "}, run_config=run_config).fit()")
    names: dict[str, Any] = {"__name__": "__main__", "run_config": tune.RunConfig(storage_path=str(tmp_path), verbose=0)}
    exec(function + use, names)
    results = names["results"]
    assert not results.errors
    (row,) = results.get_dataframe().to_dict("records")
    assert (row["epoch"], row["training_iteration"]) == (2, 2)
    assert 0 < row["test_acc"] <= 1


@pytest.mark.usefixtures("cluster")
def test_a_trial_that_fails_is_an_error_to_tune(tmp_path: Path) -> None:
    results = tuner(tmp_path, {"skew": tune.grid_search([0.5, 2.0])}).fit()
    assert (results.num_errors, results.num_terminated) == (1, 1)
    assert "skew 2.0" in str(results.errors[0])


@pytest.mark.usefixtures("cluster")
def test_population_based_training_exploits_trials_of_other_strategies(tmp_path: Path) -> None:
    scheduler = PopulationBasedTraining(
        metric="test_acc",
        mode="max",
        perturbation_interval=1,
        hyperparam_mutations={"skew": [0.0, 0.5, 1.0], "momentum": [0.5, 0.9]},
        quantile_fraction=0.5,
        burn_in_period=0,
    )
    space = {"skew": tune.grid_search([0.0, 1.0]), "momentum": 0.9, "epochs": 6}
    results = tuner(tmp_path, space, scheduler=scheduler, reuse_actors=True).fit()
    assert not results.errors
    assert results.get_dataframe()["epoch"].tolist() == [6, 6]


@pytest.mark.usefixtures("cluster")
def test_a_tuner_is_restored_from_its_folder(tmp_path: Path) -> None:
    tuner(tmp_path, {"skew": tune.grid_search([0.2, 2.0])}).fit()
    trainable = tune.with_resources(tune.with_parameters(StrategyTrial, dataset=digits()), {"cpu": 1})
    again = tune.Tuner.restore(str(tmp_path / "tuned"), trainable, param_space={**SMALL, "skew": tune.grid_search([0.2, 2.0])})
    table = again.fit().get_dataframe()
    assert table.set_index("config/skew").loc[0.2, "epoch"] == 3


def test_a_checkpoint_gives_the_numbers_of_a_trial_that_never_stopped(tmp_path: Path) -> None:
    config = {"family": "cosine", "seeds": [3, 5]}
    whole = trial(config, protocol=PROTOCOL)
    rows = [whole.step() for _ in range(4)]
    first = trial(config, protocol=PROTOCOL)
    first.step()
    first.step()
    first.save_checkpoint(str(tmp_path))
    second = trial(config, protocol=PROTOCOL)
    second.load_checkpoint(str(tmp_path))
    for expected in rows[2:]:
        found = second.step()
        assert timeless(found) == timeless(expected)
    assert [row["done"] for row in rows] == [False, False, False, True]


def test_a_checkpoint_is_taken_over_under_another_strategy_and_optimizer(tmp_path: Path) -> None:
    first = trial({"family": "cosine", "momentum": 0.9}, protocol=PROTOCOL)
    first.step()
    first.save_checkpoint(str(tmp_path))
    second = trial({"family": "constant", "skew": 0.0, "momentum": 0.5}, protocol=PROTOCOL)
    second.load_checkpoint(str(tmp_path))
    assert second.step()["epoch"] == 2
    assert {group["momentum"] for group in second._trainers[0].optimizer.param_groups} == {0.5}
    other = trial({"seeds": [0, 1]}, protocol=PROTOCOL)
    with pytest.raises(ValueError, match="the checkpoint holds 1 seeds, the trial has 2"):
        other.load_checkpoint(str(tmp_path))


def test_labels_have_defaults_and_a_reused_process_becomes_another_trial() -> None:
    used = trial({"seed": 7, "strategy": "mine"}, protocol=PROTOCOL)
    first = used.step()
    assert used._configs[0].seed == 7
    used.reset_config({"seed": 8})
    used.step()
    assert used._configs[0].seed == 8
    used.reset_config({"seed": 7})
    assert used.step()["test_acc"] == first["test_acc"]


def test_the_protocol_is_the_preset_of_the_dataset_a_preset_by_name_or_a_configuration() -> None:
    for protocol, T1 in ((None, 30), ("digits", 30), (TrialConfig(T1=12), 12)):
        made = trial({"epochs": 1, "train_samples": 50, "skew": 0.0}, dataset="digits", protocol=protocol)
        made.step()
        assert made._configs[0].T1 == T1
    with pytest.raises(InvalidInput, match=r"^protocol 'nothing': must be a TrialConfig or one of digits, "):
        trial({}, protocol="nothing").step()
    with pytest.raises(InvalidInput, match="colour"):
        trial({"colour": "red"}).step()


def test_the_example_is_a_plain_tune_script(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "studies" / "tune_example.py"), "--trials", "2", "--epochs", "2", "--storage", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert re.search(r"config/family +config/skew +config/beta +val_acc +test_acc +nudged_phases$", lines[-3])
    assert len(lines[-2:]) == 2
