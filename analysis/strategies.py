"""From rows of seeds to strategies: which seeds count, means and deviations over them, and what each strategy is in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from analysis.read import Study, planned_epochs
from analysis.statistics import mean_interval
from analysis.vocabulary import COSTS, SEARCHED_FIELDS, THESIS

MEASURES = (
    *("train_acc", "val_acc", "test_acc", *COSTS, "updates", "cheap_updates", "longest_cheap_run"),
    *("free_residual", "saturation", "collapsed"),
)
TOTALS = (*COSTS, "updates", "cheap_updates")  # not comparable where training stopped early


@dataclass(frozen=True)
class Strategies:
    """What was trained to the end or collapsed on the way, one row a strategy.

    `table` is indexed by strategy: origin, description, trial_ids, n_seeds, means and `_std` (ddof 1) of MEASURES, the limits of the 95 %
    interval of test_acc, `cheap_share` of updates, `candidate` (may stand on a front) and the searched configuration fields. `by_seed`
    holds the same measures as arrays [strategies, seeds], with NaN where a strategy has no such seed; `seeds` names their columns.
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
    notes = _unfinished_notes(rows, finished)
    confirmed_rows = done["origin"] == "confirm"
    confirmed = bool(confirmed_rows.any())
    confirmed_names = set(done.loc[confirmed_rows, "strategy"])
    used = done[confirmed_rows | ~done["strategy"].isin(confirmed_names)].drop_duplicates(["strategy", "seed"])
    finished = finished[used.index]

    names, place = np.unique(used["strategy"], return_inverse=True)
    order = {name: rank for rank, name in enumerate(used["strategy"].drop_duplicates())}
    rank = np.array([order[name] for name in names], dtype=int)
    seeds, column = np.unique(used["seed"].to_numpy(), return_inverse=True)
    by_seed = {}
    for measure in MEASURES:
        values = np.full((len(names), len(seeds)), np.nan)
        values[rank[place], column] = used[measure].where(finished | (measure not in TOTALS)).to_numpy(dtype=float)
        by_seed[measure] = values
    trained = np.zeros((len(names), len(seeds)), dtype=bool)
    trained[rank[place], column] = True
    notes += _count_as_guessing(by_seed, trained, chance)

    table = _describe(used, study.protocol)
    for measure, values in by_seed.items():
        interval = mean_interval(values)
        table[measure] = interval.mean
        table[f"{measure}_std"] = _deviation(values)
        if measure == "test_acc":
            # Student's t knows no bounds; a mean accuracy has them, which matters where some seeds collapsed.
            table["test_acc_low"], table["test_acc_high"] = np.clip(interval.low, 0, 1), np.clip(interval.high, 0, 1)
    table["cheap_share"] = table["cheap_updates"] / table["updates"]
    eligible = (table["collapsed"].fillna(0) < 1) & (table["test_acc"] > chance)
    eligible &= ~table.index.isin(_partly_trained(rows, done))
    if confirmed:
        eligible &= table.index.isin(confirmed_names)
    table["candidate"] = eligible
    select_by = "val_acc" if len(table) and table.loc[eligible, "val_acc"].notna().all() else "test_acc"
    return Strategies(table, seeds, by_seed, select_by, confirmed, chance, tuple(notes))


def chance_accuracy(protocol: Mapping[str, Any]) -> float:
    """Accuracy of guessing, one over the network's output units; 0 where the protocol does not say."""
    sizes = protocol.get("sizes")
    return 1 / int(sizes[-1]) if sizes else 0.0


def describe(config: Mapping[str, Any], protocol: Mapping[str, Any]) -> str:
    """A strategy in words: its schedule, and whatever differs from the protocol and from the thesis's pair of estimators."""

    def given(name: str) -> bool:
        value = config.get(name)
        return value is not None and not (isinstance(value, float) and np.isnan(value))

    family, skew = config.get("family", "unknown schedule"), config.get("skew")
    words = [str(family).replace("_", " ")]
    if family == "constant" and given("skew"):
        words = [f"p_std = {skew:.3g}"]
    elif given("skew"):
        words.append(f"mean p_std {skew:.3g}")
    if given("rising"):
        words.append("rising" if str(config["rising"]) in ("True", "1", "1.0") else "falling")
    if given("cycles"):
        words.append(f"{int(config['cycles'])} cycles")
    if given("knots"):
        words.append(f"knots {config['knots']}")
    if config.get("per") == "update":
        words.append("per update")
    pair = (config.get("cheap", "standard"), config.get("accurate", "centered"))
    if pair != ("standard", "centered"):
        words.append(f"{pair[0]}/{pair[1]}".replace("_", " "))
    if config.get("draw", "bernoulli") != "bernoulli":
        words.append(f"{config['draw']} draws")
    for name, symbol in (("beta", "β"), ("T1", "T1"), ("T2", "T2"), ("tolerance", "tolerance")):
        if given(name) and config[name] != protocol.get(name):
            words.append(f"{symbol} = {config[name]:.3g}")
    if config.get("relaxation", protocol.get("relaxation")) != protocol.get("relaxation"):
        words.append(f"{config['relaxation']} relaxation")
    return ", ".join(words)


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


def _deviation(values: np.ndarray) -> np.ndarray:
    """Standard deviation over the seeds that are there, NaN for a single one."""
    return pd.DataFrame(values).std(axis=1, ddof=1).to_numpy()


def _count_as_guessing(by_seed: dict[str, np.ndarray], trained: np.ndarray, chance: float) -> list[str]:
    """A network whose accuracy is not a number answers nothing: it counts at chance, so that divergence is not rewarded."""
    lost = trained & np.isnan(by_seed["test_acc"])
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


def _unfinished_notes(rows: pd.DataFrame, finished: pd.Series) -> list[str]:
    trials = rows.drop_duplicates("trial_id")
    left = trials[~finished[trials.index]]
    if left.empty:
        return []
    kinds = left["status"].value_counts()
    told = ", ".join(f"{count} {'stopped after collapsing' if kind == 'collapsed' else kind}" for kind, count in kinds.items())
    return [f"{len(left)} of {len(trials)} trials did not train to the last epoch ({told}): their curves are shown, no front counts them."]
