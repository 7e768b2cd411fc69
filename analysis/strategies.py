"""From rows of seeds to strategies: which seeds count, means and deviations over them, and what each strategy is in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from analysis.describe import describe
from analysis.read import Study, planned_epochs, recorded
from analysis.statistics import Interval, difference_interval, mean_interval
from analysis.vocabulary import COSTS, METRICS, RESULT_COLUMNS, THESIS, strategy_label
from analysis.words import joined

MEASURES = (
    *("train_acc", "val_acc", "test_acc", *COSTS, "updates", "cheap_updates", "longest_cheap_run"),
    *("p_std", "free_residual", "saturation", "agreement", "relative_bias", "collapsed"),
)
# As a trainer counts a run as collapsed: the share of samples whose energy does not fall though they move.
MOST_RISING = 0.5
TOTALS = (*COSTS, "updates", "cheap_updates")  # not comparable where training stopped early


@dataclass(frozen=True)
class Strategies:
    """What was trained to the end or collapsed on the way, one row a strategy.

    `table` is indexed by strategy: origin (thesis, control, search, or named to be decided on), description, trial_ids, n_seeds, `trained`
    (seeds that did not collapse), means and `_std` (ddof 1) of MEASURES, `_low` and `_high` of the 95 % intervals of METRICS,
    `cheap_share` of updates, `selection_acc` (what the search saw), `confirmed` (on fresh seeds), `candidate` (may stand on a front) and
    the `fields` of the configuration that make up a strategy. `by_seed` holds the same measures as arrays [strategies, seeds], with NaN
    where a strategy has no such seed; `seeds` names their columns.

    `metric` is the accuracy that is shown, compared and fronted, under the name `accuracy` in both: test accuracy on fresh seeds where
    strategies were confirmed, otherwise `selected_by`, what the search saw.
    """

    table: pd.DataFrame
    fields: list[str]
    seeds: np.ndarray
    by_seed: dict[str, np.ndarray]
    metric: str
    selected_by: str
    confirmed: bool
    chance: float
    notes: tuple[str, ...]

    def number(self, strategy: str, column: str) -> float:
        """One number of the table."""
        return float(cast(float, self.table.at[strategy, column]))

    def values(self, measure: str, strategies: Sequence[str] | pd.Index) -> np.ndarray:
        """Values of the named strategies over seeds, [strategies, seeds]."""
        return self.by_seed[measure][self.table.index.get_indexer(pd.Index(strategies))]

    def difference(self, strategies: Sequence[str] | pd.Index, target: str) -> tuple[Interval, np.ndarray]:
        """How much more accuracy the strategies have than `target`, with limits, and over how many seeds that is paired."""
        return difference_interval(self.values("accuracy", strategies), self.values("accuracy", [target]), self.step)

    @property
    def step(self) -> float:
        """The smallest difference between any two accuracies: one image, where there are many; 0 where all are equal."""
        accuracies = self.by_seed["accuracy"]
        steps = np.diff(np.unique(accuracies[np.isfinite(accuracies)]))
        return float(steps[steps > 1e-9].min(initial=np.inf)) if (steps > 1e-9).any() else 0.0

    @property
    def rivals(self) -> pd.Index:
        """The thesis's strategies that found ones are compared with: trained to the end, on fresh seeds where any strategy was."""
        table = self.table
        fresh = table["confirmed"] if self.confirmed else True
        return table.index[(table["origin"] == "thesis") & table["nudged_phases"].notna() & fresh]

    @property
    def candidates(self) -> pd.DataFrame:
        """The strategies that fronts are made of."""
        return self.table[self.table["candidate"]]


def gather(study: Study, allow_collapse: bool = False) -> Strategies:
    """Strategies of a study. Where some were confirmed on fresh seeds, those alone are candidates, on those seeds alone.

    A strategy that collapsed on some seed is no candidate, whatever its mean, unless `allow_collapse`.
    """
    rows = study.trials
    chance = chance_accuracy(study.protocol)
    finished = rows["epoch"] >= planned_epochs(rows)
    done = rows[finished | (rows["status"] == "collapsed")].drop_duplicates(["strategy", "origin", "seed"])
    fresh = done["origin"] == "confirm"
    confirmed = done.loc[fresh, "strategy"].unique()
    used = done[fresh | ~done["strategy"].isin(confirmed)].drop_duplicates(["strategy", "seed"])

    by_seed, seeds = _over_seeds(used, finished[used.index])
    notes = [*_unfinished_notes(rows, finished), *_count_as_guessing(by_seed, chance), *_rising_notes(used)]
    table = _means(_describe(used, study), by_seed)
    collapsed = table["collapsed"].fillna(0)
    stable = collapsed < 1 if allow_collapse else collapsed == 0
    candidate = stable & (table["test_acc"] > chance) & ~table.index.isin(_partly_trained(rows, done))
    table["confirmed"] = table.index.isin(confirmed)
    table["candidate"] = candidate & (table["confirmed"] | (len(confirmed) == 0))
    notes += _unconfirmed_notes(table)
    selected_by = "val_acc" if len(table) and table.loc[table["candidate"], "val_acc"].notna().all() else "test_acc"
    seen = done[~fresh].groupby("strategy")[selected_by].mean()
    table["selection_acc"] = seen.reindex(table.index).fillna(table[selected_by])
    metric = "test_acc" if len(confirmed) else selected_by
    by_seed["accuracy"] = by_seed[metric]
    table = table.assign(**{f"accuracy{part}": table[f"{metric}{part}"] for part in ("", "_std", "_low", "_high")})
    return Strategies(table, study.strategy_fields, seeds, by_seed, metric, selected_by, len(confirmed) > 0, chance, tuple(notes))


def _over_seeds(used: pd.DataFrame, finished: pd.Series) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Each measure as [strategies, seeds], strategies in the order of the rows, and the seeds. `trained` marks the seeds that are there."""
    row, names = pd.factorize(used["strategy"])
    seeds, column = np.unique(used["seed"].to_numpy(), return_inverse=True)
    by_seed = {}
    for measure in (*MEASURES, "trained"):
        own = used[measure].where(finished | (measure not in TOTALS)) if measure != "trained" else np.ones(len(used))
        by_seed[measure] = np.full((len(names), len(seeds)), np.nan)
        by_seed[measure][row, column] = np.asarray(own, dtype=float)
    return by_seed, seeds


def _means(table: pd.DataFrame, by_seed: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The table with mean and deviation of every measure."""
    for measure in MEASURES:
        interval = mean_interval(by_seed[measure])
        table[measure] = interval.mean
        table[f"{measure}_std"] = pd.DataFrame(by_seed[measure]).std(axis=1, ddof=1).to_numpy()
        if measure in METRICS:
            # Student's t knows no bounds; a mean accuracy has them, which matters where some seeds collapsed.
            table[f"{measure}_low"], table[f"{measure}_high"] = np.clip(interval.low, 0, 1), np.clip(interval.high, 0, 1)
    trained = (np.isfinite(by_seed["trained"]) & ~(by_seed["collapsed"] > 0)).sum(axis=1)
    return table.assign(trained=trained, cheap_share=table["cheap_updates"] / table["updates"])


def chance_accuracy(protocol: Mapping[str, Any]) -> float:
    """Accuracy of guessing, one over the network's output units; 0 where the protocol does not say."""
    sizes = protocol.get("sizes")
    return 1 / int(sizes[-1]) if sizes else 0.0


def _describe(used: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Origin, configuration and description of each strategy, in the order of the rows."""
    first = used.drop_duplicates("strategy").set_index("strategy")
    table = first[study.strategy_fields].copy()
    groups = used.groupby("strategy", sort=False)
    ids = used.drop_duplicates(["strategy", "trial_id"]).groupby("strategy", sort=False)["trial_id"].agg(" ".join)
    record, _ = recorded(study)
    of = {origin: set(study.trials.loc[study.trials["origin"] == origin, "strategy"]) for origin in ("control", "search")}
    controls = of["control"] | set(record.controls if record else ())
    named = first.index.isin(set(record.contenders if record else ()) - of["search"])
    origin = np.select([first.index.isin(THESIS), first.index.isin(controls), named], ["thesis", "control", "named"], "search")
    table.insert(0, "origin", origin)
    config = first[[name for name in first if name not in RESULT_COLUMNS]].to_dict("records")
    own = first["description"].fillna("") if "description" in first else [""] * len(first)
    words = [told or describe(cast(dict[str, Any], row), study.protocol) for told, row in zip(own, config, strict=True)]
    table.insert(1, "description", words)
    table.insert(2, "trial_ids", ids.reindex(first.index))
    table.insert(3, "n_seeds", groups.size().reindex(first.index))
    return table


def _count_as_guessing(by_seed: dict[str, np.ndarray], chance: float) -> list[str]:
    """A network whose accuracy is not a number answers nothing: it counts at chance, so that divergence is not rewarded."""
    lost = np.isfinite(by_seed["trained"]) & np.isnan(by_seed["test_acc"])
    if not lost.any():
        return []
    validated = np.isfinite(by_seed["val_acc"]).any()
    for measure in ("train_acc", "test_acc", *(("val_acc",) if validated else ())):
        by_seed[measure][lost] = chance
    by_seed["collapsed"][lost] = 1.0
    return [f"{int(lost.sum())} finished runs have no test accuracy (they diverged): they count as collapsed, at chance ({chance:.1%})."]


def _rising_notes(used: pd.DataFrame) -> list[str]:
    rising = int((used["energy_rises"] > MOST_RISING).sum())
    if not rising:
        return []
    runs, their = ("1 run", "its") if rising == 1 else (f"{rising} runs", "their")
    return [f"{runs} collapsed because gradient steps do not lower {their} energy: the step size is too large, take a smaller --step-size."]


def _partly_trained(rows: pd.DataFrame, done: pd.DataFrame) -> set[str]:
    """Strategies of which some seed failed and no other trial made up for it: a mean over the seeds that are left might flatter them."""
    kept = set(zip(done["strategy"], done["seed"], strict=True))
    failed = rows[rows["status"] == "failed"]
    return {name for name, seed in zip(failed["strategy"], failed["seed"], strict=True) if (name, seed) not in kept}


def _unconfirmed_notes(table: pd.DataFrame) -> list[str]:
    left = table.index[(table["origin"] == "thesis") & ~table["confirmed"]]
    if not table["confirmed"].any() or left.empty:
        return []
    names, one = joined(strategy_label(name) for name in left), len(left) == 1
    has, them = ("has", "it") if one else ("have", "them")
    return [f"{names} {has} not been confirmed on fresh seeds: nothing is compared with {them}."]


def _unfinished_notes(rows: pd.DataFrame, finished: pd.Series) -> list[str]:
    trials = rows.drop_duplicates("trial_id")
    left = trials[~finished[trials.index]]
    if left.empty:
        return []
    kinds = left["status"].value_counts()
    told = ", ".join(f"{count} {'stopped after collapsing' if kind == 'collapsed' else kind}" for kind, count in kinds.items())
    return [f"{len(left)} of {len(trials)} trials did not train to the last epoch ({told}): their curves are shown, no front counts them."]
