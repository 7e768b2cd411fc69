"""What is used of Ray beyond its public interface: with which Ray that was checked, and what it does there."""

import tomllib
from pathlib import Path
from typing import Any

import ray
from packaging.requirements import Requirement
from ray.tune.experiment import Trial

from hybridep.cluster.internals import CHECKED_WITH, forget

ROOT = Path(__file__).resolve().parent.parent


def test_rays_bound_is_the_version_that_its_internals_were_checked_with() -> None:
    dependencies = map(Requirement, tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])
    bound = next(requirement.specifier for requirement in dependencies if requirement.name == "ray")
    minor = int(CHECKED_WITH.rpartition(".")[2])
    assert ray.__version__.startswith(f"{CHECKED_WITH}.")
    assert bound.contains(f"{CHECKED_WITH}.9")
    assert not bound.contains(f"{CHECKED_WITH.rpartition('.')[0]}.{minor + 1}.0")


def test_private_parts_of_ray_are_named_in_one_module_alone() -> None:
    private = ("ray._private", "_default_result_or_future", "_node_ip_address", "RAY_ENABLE_WINDOWS", "ray.rpc", "_ot_trials")
    files = [file for folder in ("hybridep", "studies", "analysis", "search_spaces") for file in (ROOT / folder).rglob("*.py")]
    found = {file.name for file in files for name in private if name in file.read_text(encoding="utf-8")}
    assert found == {"internals.py"}


def test_an_ended_trial_keeps_nothing_that_grows() -> None:
    resources: dict[Any, Any] = {}
    trials = [Trial("a", stub=True, placement_group_factory=None) for _ in range(2)]
    for trial in trials:
        trial.update_last_result({"training_iteration": 1, "val_acc": 0.5, "trial_id": trial.trial_id, "done": True})
        assert trial.metric_analysis
        forget(trial, resources)
        assert not trial.metric_analysis
        assert trial.run_metadata.last_result == {"done": True}
    assert trials[0].placement_group_factory is trials[1].placement_group_factory
