"""Which trial is next: the fixed ones, what Optuna asks for, what confirms and decides. Imports Ray and Optuna: load it late.

Nothing is remembered but what stands in the study folder. After a crash, a new source of trials goes on where the old one was.
"""

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.search.searcher import Searcher

from hybridep.config import InvalidInput, TrialConfig
from hybridep.study.folder import StudyFolder, drop_unfinished_line
from hybridep.study.front import full_cost
from hybridep.study.plan import Plan, PlannedTrial, SearchPlan

STUDY: Final = "hybridep"
OBJECTIVES: Final[dict[str, Literal["maximize", "minimize"]]] = {"val_acc": "maximize", "nudged_phases": "minimize"}
METRIC_NAMES: Final = ["validation accuracy", "nudged phases"]  # the objectives, as optuna-dashboard shows them
DRAWN_TO_COMPARE: Final = 50


class KeyedRandomSampler(BaseSampler):
    """Draws each value from the seed, the trial's place in the search and the parameter's name alone: stopping changes nothing."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        return {}

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        key = derived_seed(self._seed, _place(trial), *param_name.encode())
        return RandomSampler(seed=key).sample_independent(study, trial, param_name, param_distribution)


def _place(trial: FrozenTrial) -> int:
    """Which trial of an undisturbed search this is: its number in the journal, unless it had to be asked for again after a crash."""
    return int(trial.user_attrs.get("place", trial.number))


def varying(plan: Plan) -> dict[str, bool]:
    """The parameters, by flat name, that differ between the strategies of a plan; of a search, between some that it may draw.

    True are those that all of these strategies have.
    """
    strategies = [trial.overrides for trial in plan.fixed]
    strategies += plan.deciding.overrides.values() if plan.deciding else []
    if plan.search:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(sampler=RandomSampler(seed=0))
        strategies += [plan.search.space(study.ask()) for _ in range(DRAWN_TO_COMPARE)]
    flat = [plan.protocol.replace(**strategy).flat("json") for strategy in strategies]
    names = sorted({name for values in flat for name in values})
    found = {name: [values.get(name) for values in flat] for name in names}
    return {name: None not in values for name, values in found.items() if len(set(map(str, values))) > 1}


def derived_seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@dataclass(frozen=True)
class Start:
    """What a sampler is made from. `seed` is the study's own; `fresh_seed` differs each time that the study is continued."""

    seed: int
    fresh_seed: int
    trials: int


# By the name that --search takes.
SAMPLERS: Final[Mapping[str, Callable[[Start], BaseSampler]]] = {
    "random": lambda start: KeyedRandomSampler(start.seed),
    "quasi-random": lambda start: QMCSampler(
        scramble=True, seed=start.seed, independent_sampler=KeyedRandomSampler(start.seed), warn_independent_sampling=False
    ),
    # group: families have parameters of their own; constant_liar: trials that run at the same time keep apart.
    "tpe": lambda start: TPESampler(multivariate=True, group=True, constant_liar=True, seed=start.fresh_seed),
    "nsga2": lambda start: NSGAIISampler(population_size=max(4, min(50, start.trials // 4)), seed=start.fresh_seed),
    "gp": lambda start: GPSampler(seed=start.fresh_seed, warn_independent_sampling=False),
}


class TrialSource(Searcher):
    """Gives Tune one trial after another, and hears how each ended.

    `unfinished` are the names of those given out that have not ended; after Tune has, these are the ones that it gave up.
    `later` is asked for more trials whenever all others have ended, until it has no new ones. No more than `most()` trials are given out
    at a time: a sampler that is asked too early knows less than it could.
    """

    def __init__(
        self,
        folder: StudyFolder,
        fixed: Sequence[PlannedTrial],
        search: "OptunaTrials | None" = None,
        later: Callable[[], Sequence[PlannedTrial]] | None = None,
        most: Callable[[], float] = lambda: math.inf,
    ) -> None:
        super().__init__()
        self._folder = folder
        self._protocol = TrialConfig.create(**folder.description["protocol"])
        self._search = search
        self._later = later
        self._most = most
        known = search.enqueue(fixed) if search else frozenset()
        self._waiting = deque(trial for trial in fixed if trial.name not in known and not folder.trial(trial.name).ended)
        self._live: dict[str, str] = {}
        self.unfinished: set[str] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a string
        if len(self._live) >= self._most():
            return None
        trial = self._next(trial_id)
        if trial is None:
            return None if self._live else Searcher.FINISHED
        self._live[trial_id] = trial.name
        self.unfinished.add(trial.name)
        return trial.ray_config(self._protocol)

    def _next(self, trial_id: str) -> PlannedTrial | None:
        if self._waiting:
            return self._waiting.popleft()
        if self._search and (trial := self._search.next(trial_id)):
            return trial
        if self._later and not self._live:
            # One that Tune gave up is left to a source of its own.
            new = [trial for trial in self._later() if trial.name not in self.unfinished and not self._folder.trial(trial.name).ended]
            self._waiting.extend(new)
            return self._waiting.popleft() if new else None
        return None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        name = self._live.pop(trial_id)
        if result and result.get("done"):
            self.unfinished.discard(name)
        if self._search:
            self._search.end(trial_id, result or {})

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Leaves nothing in Tune's snapshots: the study folder has it all."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class OptunaTrials:
    """Strategies that an Optuna study asks for; that study is kept in the folder's journal, which optuna-dashboard opens.

    Every trial is enqueued with its name, also one whose strategy the sampler is to choose: a name is never given twice.
    """

    def __init__(self, folder: StudyFolder, plan: SearchPlan) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = open_journal(folder)
        self.study = optuna.create_study(study_name=STUDY, storage=storage, directions=list(OBJECTIVES.values()), load_if_exists=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            if not self.study.get_trials(deepcopy=False):
                self.study.set_metric_names(METRIC_NAMES)
            # A sampler that learns and starts again must not repeat its numbers.
            earlier = len(self.study.get_trials(deepcopy=False))
            start = Start(derived_seed(*plan.seeds), derived_seed(*plan.seeds, earlier), plan.trials)
            self.study.sampler = SAMPLERS[plan.sampler](start)
        self._folder = folder
        self._plan = plan
        self._fixed: dict[str, PlannedTrial] = {}
        self._again: deque[FrozenTrial] = deque()
        self._searched: set[str] = set()
        # By Tune's name of a trial: its number in the study.
        self._numbers: dict[str, int] = {}

    def enqueue(self, fixed: Sequence[PlannedTrial]) -> frozenset[str]:
        """Take on the fixed trials that lie in the search space, so that the sampler learns from them too; returns their names.

        Then catch up: tell Optuna of trials that ended while it did not listen, and give those again that did not end.
        """
        earlier = {trial.user_attrs["trial"]: trial for trial in self.study.get_trials(deepcopy=False)}  # the last of each name
        self._check_space(earlier.values())
        for trial in fixed:
            point = self._plan.space.point(self._plan.protocol, trial.overrides)
            if point is not None:
                self._fixed[trial.name] = trial
                if trial.name not in earlier:
                    self.study.enqueue_trial(point, user_attrs={"trial": trial.name})
        self._searched = earlier.keys() - self._fixed
        for name, old in earlier.items():
            if old.state == TrialState.RUNNING:
                if self._folder.trial(name).ended:
                    row = self._folder.trial(name).last() or {}
                    self._tell(old.number, {**row, "nudged_phases": full_cost(row)} if row.get("done") else {})
                elif self._overrides(old) is not None:
                    self._again.append(old)
                else:
                    self.study.tell(old.number, state=TrialState.FAIL)
                    self._enqueue_again(old)
            elif old.state == TrialState.FAIL and not self._folder.trial(name).ended:
                self._enqueue_again(old)
        return frozenset(self._fixed)

    def _enqueue_again(self, old: FrozenTrial) -> None:
        known = old.system_attrs.get("fixed_params", {}) | old.params
        self.study.enqueue_trial(known, user_attrs={"trial": old.user_attrs["trial"], "place": _place(old)})

    def _check_space(self, earlier: Iterable[FrozenTrial]) -> None:
        """InvalidInput where what was searched is not what this version searches: Optuna knows no parameter whose choices change."""
        for old in earlier:
            if old.state == TrialState.COMPLETE:
                try:
                    self._plan.space(old)
                except (KeyError, ValueError) as error:
                    raise InvalidInput(
                        f"--resume {self._folder.place}: this version has another search space than the one that this study was begun with"
                        f" ({old.user_attrs['trial']}: {str(error).rstrip('.')})"
                    ) from None

    def _overrides(self, old: FrozenTrial) -> Mapping[str, Any] | None:
        """The strategy of an earlier trial, or None where its driver died before all of it was chosen."""
        try:
            return self._plan.space(old)
        except ValueError:
            return None

    def next(self, trial_id: str) -> PlannedTrial | None:
        """The next strategy: one that did not end earlier, one that is enqueued, a new one, or None where there are enough."""
        asked: FrozenTrial | Trial
        if self._again:
            asked = self._again.popleft()
        else:
            if not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                if len(self._searched) >= self._plan.trials:
                    return None
                begun = len(self._searched)
                attributes = {"trial": f"search-{begun + 1:04d}", "place": len(self._fixed) + begun}
                self.study.enqueue_trial({}, user_attrs=attributes)
            asked = self.study.ask()
        self._numbers[trial_id] = asked.number
        name, overrides = asked.user_attrs["trial"], self._plan.space(asked)
        if isinstance(asked, Trial):  # what optuna-dashboard shows of it
            asked.set_user_attr("strategy", self._plan.protocol.replace(**overrides).describe(self._plan.protocol))
        if name in self._fixed:
            return self._fixed[name]
        self._searched.add(name)
        return PlannedTrial(name, name, "search", self._plan.seeds, overrides)

    def end(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Tell Optuna how a trial ended. One that Tune gave up without an end stays open, and is given again when the study goes on."""
        number = self._numbers.pop(trial_id, None)
        if number is not None and result.get("done"):
            self._tell(number, result)

    def _tell(self, number: int, result: Mapping[str, Any]) -> None:
        values = [float(result.get(name, math.nan)) for name in OBJECTIVES]
        if all(map(math.isfinite, values)):
            self.study.tell(number, values)
        else:
            self.study.tell(number, state=TrialState.FAIL)


class InterruptibleLock(JournalFileSymlinkLock):
    """Optuna's lock of a journal, which Ctrl-C may cut in two: what it then says of a missing lock must not hide the interrupt."""

    def acquire(self) -> bool:
        with _interrupts_first():
            return super().acquire()

    def release(self) -> None:
        with _interrupts_first():
            super().release()


@contextmanager
def _interrupts_first() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        before: BaseException | None = error
        while before is not None:
            if not isinstance(before, Exception):
                raise before from None
            before = before.__context__
        raise


def open_journal(folder: StudyFolder) -> JournalStorage:
    """The folder's Optuna journal, mended where a crash cut its last line; InvalidInput where it is damaged otherwise."""
    path = folder.optuna_journal
    if path.exists():
        drop_unfinished_line(path)
    # A lock that a killed driver left; the study's own lock tells that no other driver is at it.
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
    try:
        return JournalStorage(JournalFileBackend(str(path), lock_obj=InterruptibleLock(str(path))))
    except Exception as error:  # whatever a line that is no record of Optuna sets off in it
        raise InvalidInput(f"--resume {folder.path}: {path.name} is damaged ({type(error).__name__}: {error})") from None
