"""Trials that note which device they saw, and when: `python slice_trials.py <host:port> <folder> <trials> <at once> <gpu> <cpu>`."""

import json
import os
import sys
import time
from pathlib import Path

from hybridep.cluster.access import Address, ray_environment

address, folder, trials, at_once, gpu, cpu = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), *map(float, sys.argv[5:])
os.environ.update(ray_environment(Address.parse(address, "address").host), TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1")

import ray  # noqa: E402
from ray import tune  # noqa: E402


class Watch(tune.Trainable):
    """The first trials wait for one another, so that as many run at once as there is room for, however slowly they start."""

    def setup(self, config, *, folder, at_once):
        self.folder, self.at_once = Path(folder), at_once
        self.reset_config(config)

    def reset_config(self, new_config):
        self.number = new_config["number"]
        return True

    def step(self):
        began = time.monotonic()
        (self.folder / f"{self.number}.began").touch()
        while len(list(self.folder.glob("*.began"))) < self.at_once and time.monotonic() < began + 120:
            time.sleep(0.05)
        time.sleep(0.3)
        seen = {"device": os.environ.get("CUDA_VISIBLE_DEVICES"), "pid": os.getpid(), "began": began, "ended": time.monotonic()}
        (self.folder / f"{self.number}.json").write_text(json.dumps(seen))
        return {"done": True}


ray.init(address=address, log_to_driver=False, logging_level="ERROR")
results = tune.Tuner(
    tune.with_resources(tune.with_parameters(Watch, folder=str(folder), at_once=at_once), {"cpu": cpu, "gpu": gpu}),
    param_space={"number": tune.grid_search(list(range(trials)))},
    tune_config=tune.TuneConfig(reuse_actors=True),
    run_config=tune.RunConfig(
        storage_path=str(folder / "tune"), verbose=0, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)
    ),
).fit()
ray.shutdown()
sys.exit(f"{len(results.errors)} trials failed" if results.errors else 0)
