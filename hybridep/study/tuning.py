"""Runs a study's trials on Ray Tune, and writes down what they report. Imports Ray: load it when the arguments are known to be good."""

import json
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import ray
from ray import tune
from ray.tune.experiment import Trial

from hybridep.cluster.access import token_file
from hybridep.cluster.internals import ON_LOOPBACK, forget
from hybridep.cluster.machine import cpus
from hybridep.cluster.status import capacities
from hybridep.config import InvalidInput, require_gpu
from hybridep.datasets import Dataset
from hybridep.durable import DeviceLost, DurableTrial
from hybridep.study.choosing import Choosing
from hybridep.study.decide import begin, following, line, next_round
from hybridep.study.events import EventLog
from hybridep.study.folder import StudyFolder
from hybridep.study.front import Point
from hybridep.study.front_image import FrontImage
from hybridep.study.plan import Plan, PlannedTrial
from hybridep.study.progress import Progress
from hybridep.study.resources import Resources, Share, ray_folder
from hybridep.study.search import OptunaTrials, TrialSource, varying

# A worker that dies so often within one epoch will die again: out of memory, or a fault in native code.
MOST_DEATHS: Final = 5
# Stands before what a trial says of its GPU in the text of its error.
LOST: Final = f"{DeviceLost.__name__}: "
COUNT_SLOTS_SECONDS: Final = 5.0
OBJECT_STORE_BYTES: Final = 128 * 2**20


class StudyStopped(KeyboardInterrupt):
    """The study cannot or shall not go on now; `--resume` continues it. Like Ctrl-C it passes Tune's handling of errors unchanged."""


class OutOfTime(StudyStopped):
    """The time budget is spent."""


@contextmanager
def ray_session(resources: Resources, dataset_bytes: int) -> Iterator[None]:
    """A Ray cluster of this process alone, on loopback, or the one at `resources.ray_address`.

    InvalidInput where none answers there, StudyStopped where one of its own does not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    devices = resources.show_devices() if resources.ray_address is None else None
    try:
        if resources.ray_address is None:
            ray.init(
                address="local",
                num_cpus=cpus(),
                num_gpus=devices,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES + 2 * dataset_bytes,
                **ON_LOOPBACK,
                **quiet,
            )
        else:
            ray.init(address=resources.ray_address, **quiet)
    except Exception as error:  # Ray raises a plain one where its processes take too long to start
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if resources.ray_address is None:
            ray.shutdown()
            raise StudyStopped(f"Ray did not start ({reason})") from None
        hint = "" if "RAY_AUTH_MODE" in os.environ else f"; if it wants its token, that must be in {token_file()} or RAY_AUTH_TOKEN"
        raise InvalidInput(f"--ray-address {resources.ray_address}: {reason}{hint}") from None
    try:
        yield
    finally:
        ray.shutdown()


def last_error(trial: Trial) -> str:
    """What Tune noted of a trial's last failure, in one line; of a GPU that was lost what the trial said of it, behind the error's name."""
    if not trial.error_file:
        return "nothing is known of it"
    # A failure begins with a line of its number and date.
    text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace").rpartition("Failure # ")[2].partition("\n")[2].strip()
    last = text.splitlines()[-1] if text else ""
    return last if LOST in last else " ".join(text.split())[:300]


class StudyLog(tune.Callback):
    """Writes each epoch to its trial's folder as it is reported, keeps `progress`, and ends a study that cannot go on."""

    def __init__(self, folder: StudyFolder, progress: Progress, time_budget: float | None = None, plan: Plan | None = None) -> None:
        self.progress = progress
        self._varying = varying(plan) if plan else {}
        self._seeds = plan is not None and plan.tensorboard_seeds
        selecting = "Validation" if folder.description["protocol"].get("validation") else "Test"
        self._front = FrontImage(folder.path / "front", progress, selecting)
        self._folder = folder
        self._deadline = math.inf if time_budget is None else time.monotonic() + time_budget
        self._events: dict[str, EventLog] = {}
        self._deaths: Counter[str] = Counter()
        self._resources: dict[Any, Any] = {}
        self.epochs = 0

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore that is not used here

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        self.tick()

    def tick(self) -> None:
        """Show where the study stands; OutOfTime where its time is spent."""
        self.progress.show()
        self._front.renew()
        if time.monotonic() > self._deadline:
            raise OutOfTime("the time budget is spent")

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.begin(trial.config)

    def begin(self, config: dict[str, Any]) -> None:
        """A trial of this configuration starts or goes on."""
        name = config["trial"]
        with stopping_on_storage_errors():
            self._folder.send_journal()
            self._folder.trial(name).begin(config)
        self.progress.began(name)

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any) -> None:
        self._deaths.pop(trial.config["trial"], None)
        self.result(trial.config["trial"], result)

    def result(self, name: str, result: dict[str, Any]) -> None:
        """Write down what a trial reports of an epoch, or that it failed."""
        files = self._folder.trial(name)
        for note in result.get("notes", ()):
            self.progress.note(f"Trial {name}: {note}.")
        # Tune keeps the result as long as the study runs; the text need not stay with it.
        line = result.pop("line", None)
        with stopping_on_storage_errors():
            if line is None:
                self._failed(name, result["failed"], storage=result.get("storage", False))
                return
            self.epochs += 1
            files.append(line)
            row = json.loads(line)
            if name not in self._events:
                self._events[name] = EventLog(files.path, row["config"], self._folder.description["protocol"], self._varying, self._seeds)
            self._events[name].epoch(row)
            self.progress.epoch(name, row["epoch"])
            if row["done"]:
                self._events.pop(name).close(complete=True)
                files.push_events()
                files.checkpoints.drop()
                self.progress.ended(name, Point.of(row))

    def _failed(self, name: str, reason: str, storage: bool) -> None:
        if storage:
            raise StudyStopped(f"trial {name} could not write its checkpoint: {reason}")
        self._folder.trial(name).fail(reason)
        self._close_events(name)
        self.progress.note(f"Trial {name} failed: {reason.strip().splitlines()[-1]} ({self._folder.trial(name).error})")
        self.progress.ended(name, None)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        forget(trial, self._resources)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        name = trial.config["trial"]
        self._close_events(name)
        self.progress.running.discard(name)
        self._deaths[name] += 1
        reason = last_error(trial)
        _, _, lost = reason.partition(LOST)
        what = f"Trial {name} lost its GPU ({lost})" if lost else f"The process of trial {name} died"
        self.progress.note(f"{what}; the trial goes on from its last checkpoint.")
        if self._deaths[name] >= MOST_DEATHS:
            what = f"trial {name} lost its GPU" if lost else f"the process of trial {name} died"
            raise StudyStopped(f"{what} {MOST_DEATHS} times in the same epoch: {lost or reason}")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._close_events(trial.config["trial"])
        self.progress.running.discard(trial.config["trial"])

    def _close_events(self, name: str) -> None:
        if name in self._events:
            self._events.pop(name).close(complete=False)
            with stopping_on_storage_errors():
                self._folder.trial(name).push_events()

    def close(self) -> None:
        for name in list(self._events):
            self._close_events(name)
        self._front.renew(last=True)


@contextmanager
def stopping_on_storage_errors() -> Iterator[None]:
    """A full disk or a folder that cannot be written ends the study; what stands there stays readable."""
    try:
        yield
    except OSError as error:
        raise StudyStopped(f"the study folder cannot be written: {error.strerror or error} ({error.filename or 'result files'})") from None


class Slots:
    """How many trials to give out at a time: as many as the cluster can run, which may grow.

    One that waits would cost more than it saves: Tune reserves resources for it and starts an actor, to drop both when a worker is free.
    """

    def __init__(self, share: Share, most: int | None) -> None:
        self._share = share
        self._most = most or math.inf
        self._counted = -math.inf
        self._slots = 0.0

    def __call__(self) -> float:
        if time.monotonic() - self._counted > COUNT_SLOTS_SECONDS:
            self._counted = time.monotonic()
            self._slots = max(1, self._share.slots(capacities()))
        return min(self._slots, self._most)


def run_session(
    folder: StudyFolder, plan: Plan, dataset: Dataset, resources: Resources, progress: Progress, choosing: Choosing | None = None
) -> None:
    """Run until every trial has ended, on a Ray cluster. KeyboardInterrupt and StudyStopped leave a study that can be resumed.

    `choosing`, if given, says on which device when Ray has started.
    """
    with ray_session(resources, dataset.train_images.nbytes + dataset.test_images.nbytes):
        if choosing:
            with stopping_on_storage_errors():
                resources, sentence = choosing.settle(capacities())
            if sentence:
                progress.note(sentence)
        run_trials(folder, plan, dataset, resources, StudyLog(folder, progress, resources.time_budget, plan))


def run_trials(
    folder: StudyFolder, plan: Plan, dataset: Dataset, resources: Resources, log: StudyLog, search_by: type[OptunaTrials] = OptunaTrials
) -> None:
    """Run until every trial has ended."""
    share = resources.share(capacities())
    if not share.gpus:
        require_gpu(plan.protocol.precision, "no node of the Ray cluster has one")
    trainable = tune.with_resources(
        tune.with_parameters(
            DurableTrial,
            protocol=plan.protocol.flat(),
            extensions=folder.description.get("extensions", []),
            dataset=dataset,
            trials=folder.trials_place,
            cpus=share.cpus,
            gpus=share.gpus,
            patience=plan.patience,
            histograms=plan.histograms,
        ),
        {"cpu": share.cpus, "gpu": share.gpus},
    )

    told: list[str] = []

    def later() -> list[PlannedTrial]:
        trials = following(folder, plan)
        log.progress.planned = log.progress.done + len(trials)
        if plan.deciding:
            with stopping_on_storage_errors():
                begin(folder, plan.deciding)
            course = next_round(folder, plan.deciding)[1]
            if course.standings and (now := line(course)) not in told:
                told.append(now)
                log.progress.note(now)
        return trials

    while True:
        epochs = log.epochs
        search = search_by(folder, plan.search) if plan.search else None
        source = TrialSource(folder, plan.fixed, search, later, Slots(share, resources.max_concurrent))
        with tune_settings(), without_tune_files(folder), closing(log):
            tune.Tuner(
                trainable,
                tune_config=tune.TuneConfig(
                    search_alg=source,
                    num_samples=-1,
                    reuse_actors=True,
                    trial_name_creator=lambda trial: trial.config["trial"],
                    trial_dirname_creator=lambda trial: trial.config["trial"],
                ),
                run_config=tune.RunConfig(
                    name=folder.trials.name,
                    storage_path=str(folder.path.resolve()),
                    callbacks=[log],
                    failure_config=tune.FailureConfig(max_failures=-1),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    verbose=0,
                ),
            ).fit()
        # Tune gives a trial up when its reused worker dies while it changes trials; such a trial is simply run again.
        left = source.unfinished
        if not left:
            return
        if log.epochs == epochs:
            raise StudyStopped(
                f"Ray cannot run {len(left)} trials, {min(left)} among them; its own account is in {ray_folder()}/session_latest/logs"
            )


@contextmanager
def without_tune_files(folder: StudyFolder) -> Iterator[None]:
    """Remove what Tune writes to restore an experiment by: nothing here reads it, and it holds pickles."""
    try:
        yield
    finally:
        for pattern in ("tuner.pkl", "experiment_state-*", "search_gen_state-*", ".validate_storage_marker"):
            for path in folder.trials.glob(pattern):
                path.unlink(missing_ok=True)


@contextmanager
def tune_settings() -> Iterator[None]:
    """Tune without its own log files, snapshots and handling of Ctrl-C: the study folder is complete at every moment without them."""
    settings = {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
        # With Tune's own limit, workers are started one after another. TrialSource limits what is pending.
        "TUNE_MAX_PENDING_TRIALS_PG": str(10**6),
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
    }
    before = {name: os.environ.get(name) for name in settings}
    logger = logging.getLogger("ray.tune")
    level = logger.level
    os.environ.update(settings)
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
