"""From rows of seeds to strategies: which seeds count, means and deviations over them, and what each strategy is in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from analysis.describe import describe
from analysis.read import Study, planned_epochs
from analysis.statistics import Interval, difference_interval, mean_interval
from analysis.vocabulary import COSTS, SEARCHED_FIELDS, THESIS, strategy_label
from analysis.words import joined

MEASURES = (
    *("train_acc", "val_acc", "test_acc", *COSTS, "updates", "cheap_updates", "longest_cheap_run"),
    *("free_residual", "saturation", "collapsed"),
)
TOTALS = (*COSTS, "updates", "cheap_updates")  # not comparable where training stopped early


@dataclass(frozen=True)
class Strategies:
    """What was trained to the end or collapsed on the way, one row a strategy.

    `table` is indexed by strategy: origin, description, trial_ids, n_seeds, means and `_std` (ddof 1) of MEASURES, the limits of the 95 %
    interval of test_acc, `cheap_share` of updates, `confirmed` (on fresh seeds), `candidate` (may stand on a front) and the searched
    configuration fields. `by_seed` holds the same measures as arrays [strategies, seeds], with NaN where a strategy has no such seed;
    `seeds` names their columns.
    """

    table: pd.DataFrame
    seeds: np.ndarray
    by_seed: dict[str, np.ndarray]
    select_by: str
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
        """How much more test accuracy the strategies have than `target`, with limits, and over how many seeds that is paired."""
        return difference_interval(self.values("test_acc", strategies), self.values("test_acc", [target]), self.step)

    @property
    def step(self) -> float:
        """The smallest difference between any two test accuracies: one image, where there are many; 0 where all are equal."""
        accuracies = self.by_seed["test_acc"]
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


def gather(study: Study) -> Strategies:
    """Strategies of a study. Where some were confirmed on fresh seeds, those alone are candidates, on those seeds alone."""
    rows = study.trials[~study.trials["trial_id"].isin(study.excluded)]
    chance = chance_accuracy(study.protocol)
    finished = rows["epoch"] >= planned_epochs(rows)
    done = rows[finished | (rows["status"] == "collapsed")].drop_duplicates(["strategy", "origin", "seed"])
    fresh = done["origin"] == "confirm"
    confirmed = done.loc[fresh, "strategy"].unique()
    used = done[fresh | ~done["strategy"].isin(confirmed)].drop_duplicates(["strategy", "seed"])

    by_seed, seeds = _over_seeds(used, finished[used.index])
    notes = [*_unfinished_notes(rows, finished), *_count_as_guessing(by_seed, chance)]
    table = _means(_describe(used, study.protocol), by_seed)
    candidate = (table["collapsed"].fillna(0) < 1) & (table["test_acc"] > chance) & ~table.index.isin(_partly_trained(rows, done))
    table["confirmed"] = table.index.isin(confirmed)
    table["candidate"] = candidate & (table["confirmed"] | (len(confirmed) == 0))
    notes += _unconfirmed_notes(table)
    validated = len(table) and table.loc[table["candidate"], "val_acc"].notna().all()
    return Strategies(table, seeds, by_seed, "val_acc" if validated else "test_acc", len(confirmed) > 0, chance, tuple(notes))


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
        if measure == "test_acc":
            # Student's t knows no bounds; a mean accuracy has them, which matters where some seeds collapsed.
            table["test_acc_low"], table["test_acc_high"] = np.clip(interval.low, 0, 1), np.clip(interval.high, 0, 1)
    return table.assign(cheap_share=table["cheap_updates"] / table["updates"])


def chance_accuracy(protocol: Mapping[str, Any]) -> float:
    """Accuracy of guessing, one over the network's output units; 0 where the protocol does not say."""
    sizes = protocol.get("sizes")
    return 1 / int(sizes[-1]) if sizes else 0.0


def _describe(used: pd.DataFrame, protocol: Mapping[str, Any]) -> pd.DataFrame:
    """Origin, configuration and description of each strategy, in the order of the rows."""
    first = used.drop_duplicates("strategy").set_index("strategy")
    fields = [name for name in SEARCHED_FIELDS if name in first]
    table = first[fields].copy()
    groups = used.groupby("strategy", sort=False)
    ids = used.drop_duplicates(["strategy", "trial_id"]).groupby("strategy", sort=False)["trial_id"].agg(" ".join)
    table.insert(0, "origin", np.where(first.index.isin(THESIS), "thesis", "search"))
    table.insert(
        1, "description", [describe(dict(zip(fields, row, strict=True)), protocol) for row in first[fields].itertuples(index=False)]
    )
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
