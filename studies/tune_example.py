"""A Tune script of one's own: hybridep's trainable under Tune's Tuner, with a sampler and two objectives.

Take this where a study's report, its resuming and its confirmation are not wanted, or to try something that they cannot. There is no
scheduler here that stops trials early, such as ASHA: schedules that are good late look bad early, and would be the first to go.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from hybridep.command import as_command


@dataclass(frozen=True)
class Args:
    trials: int = 8
    """Strategies to try."""
    epochs: int = 15
    """Epochs of each."""
    storage: str | None = None
    """Folder or URL for Tune's own files; ~/ray_results if not given."""


def main(argv: Sequence[str] | None = None) -> int:
    args = tyro.cli(Args, args=argv, description=__doc__)
    from hybridep.cluster.internals import LOOPBACK_SWITCH, ON_LOOPBACK

    os.environ[LOOPBACK_SWITCH] = "0"  # with ON_LOOPBACK: a Ray that other machines cannot reach

    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    from hybridep.datasets import load
    from hybridep.trainable import StrategyTrial

    ray.init(include_dashboard=False, log_to_driver=False, **ON_LOOPBACK)
    # The images go to every node once. {"cpu": 1, "gpu": 0.5} lets two trials share a GPU.
    trainable = tune.with_resources(tune.with_parameters(StrategyTrial, dataset=load("digits")), {"cpu": 1})
    results = tune.Tuner(
        trainable,
        param_space={
            "family": tune.choice(["constant", "cosine", "inverse_cosine"]),
            "skew": tune.uniform(0, 1),
            "beta": tune.loguniform(0.2, 1.0),
            "seeds": [0, 1],
            "epochs": args.epochs,
            "validation": 240,
        },
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(metric=["val_acc", "nudged_phases"], mode=["max", "min"], seed=0), num_samples=args.trials
        ),
        run_config=tune.RunConfig(storage_path=args.storage, verbose=0),
    ).fit()
    table = results.get_dataframe()
    columns = ["config/family", "config/skew", "config/beta", "val_acc", "test_acc", "nudged_phases"]
    print(table[columns].sort_values("nudged_phases").round(3).to_string(index=False))
    ray.shutdown()
    return 1 if results.errors else 0


if __name__ == "__main__":
    as_command(main)
