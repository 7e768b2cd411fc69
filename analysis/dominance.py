"""Which found strategies dominate which of the thesis, and whether centered's accuracy can be had for less: claims with their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.statistics import holm
from analysis.strategies import Strategies
from analysis.vocabulary import COSTS

ALPHA = 0.05
MARGIN = 0.01  # accuracy that may be given up and still counts as matching: one point
BUDGET = 0.75  # of the target's nudged phases: what the thesis's hybrids spend
PREFERRED_WITHIN = MARGIN / 2  # of the target's accuracy in the search: what is that close is worth being tested

DOMINANCE_COLUMNS = (
    *("thesis", "strategy", "description", "on_front", "difference", "low", "high", "p", "p_holm", "pairs", "verdict"),
    *(f"{cost}_saved" for cost in COSTS),
    *("trial_ids", "thesis_trial_ids"),
)
MATCH_COLUMNS = ("strategy", "description", "accuracy", "cost_share", "difference", "low", "high", "pairs", "verdict", "trial_ids")


def dominance(strategies: Strategies, front: Sequence[str]) -> pd.DataFrame:
    """A row for each found strategy that dominates a thesis strategy on means: no more nudged phases, no less accuracy, one of them better.

    `difference` has its 95 % limits, paired over seeds. `p_holm` is corrected over the rows `on_front`: those are the claims, the others
    are dominated themselves and have none. `<cost>_saved` are fractions of the thesis strategy's cost. Claims come first, then the larger
    difference.
    """
    candidates = strategies.candidates
    found = candidates[candidates["origin"] == "search"]
    parts = [_rows(strategies, target, found) for target in strategies.rivals]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(DOMINANCE_COLUMNS))
    table["on_front"] = table["strategy"].isin(list(front))
    table["p_holm"] = holm(table["p"].where(table["on_front"]).to_numpy(dtype=float))
    table["verdict"] = [verdict(*row) for row in table[["difference", "low", "high", "p_holm"]].to_numpy(dtype=float)]
    table["thesis"] = pd.Categorical(table["thesis"], strategies.rivals)
    table = table.sort_values(["thesis", "on_front", "difference"], ascending=[True, False, False], kind="stable", ignore_index=True)
    return table.astype({"thesis": object})


def _rows(strategies: Strategies, target: str, found: pd.DataFrame) -> pd.DataFrame:
    theirs = strategies.table.loc[target]
    cheaper, better = found["nudged_phases"] - theirs["nudged_phases"], found["accuracy"] - theirs["accuracy"]
    ours = found[(cheaper <= 0) & (better >= 0) & ((cheaper < 0) | (better > 0))]
    interval, pairs = strategies.difference(ours.index, target)
    saved = {f"{cost}_saved": 1 - ours[cost] / theirs[cost] for cost in COSTS}
    rows = ours.assign(
        **{"thesis": target, "strategy": ours.index, "thesis_trial_ids": theirs["trial_ids"]},
        **{"difference": interval.mean, "low": interval.low, "high": interval.high, "p": interval.p, "pairs": pairs},
        **saved,
    )
    return rows.reindex(columns=list(DOMINANCE_COLUMNS))


def verdict(difference: float, low: float, high: float, p_holm: float) -> str:
    """What the seeds say of a claimed dominance: its interval, and whether that survives the correction for many claims."""
    if np.isnan(difference):
        return "no accuracy"
    if np.isnan(low):
        return "one seed, no interval"
    if low > 0 and np.isnan(p_holm):
        return "more accurate, not corrected"
    if low > 0:
        return "more accurate, not after correction" if p_holm >= ALPHA else "more accurate"
    return "less accurate" if high < 0 else "no difference shown"


@dataclass(frozen=True)
class Control:
    """Training less, beside a strategy that saves: `strategy` is the target trained for so many epochs that it costs `cost_share` of it.

    `difference` is how much more accuracy the strategy that saves has, with its limits: what is not above 0 could be had by training less.
    """

    strategy: str
    accuracy: float
    cost_share: float
    difference: float
    low: float
    high: float

    @property
    def beaten(self) -> bool:
        """Whether the strategy is shown to be more accurate."""
        return self.low > 0


@dataclass(frozen=True)
class Match:
    """Does anything reach the accuracy of `target`, less `margin`, at no more than `budget` of its nudged phases?

    `table` has a row for each candidate within the budget, the preferred one first: strategy, description, accuracy, cost_share,
    difference of accuracy, low, high, pairs, verdict, trial_ids. `answer` is yes where the whole interval of the preferred one lies
    above −margin: one test, so that trying many does not help. It is no where the whole interval of every one lies below, or nothing is
    within the budget, and open otherwise. `control` stands beside the preferred one, where there is one.
    """

    target: str
    budget: float
    margin: float
    table: pd.DataFrame
    answer: str
    control: Control | None = None


def match(strategies: Strategies, target: str = "centered", budget: float = BUDGET, margin: float = MARGIN) -> Match | None:
    """The candidate within the budget that the search prefers, judged on the accuracy that counts; None without the target.

    The search prefers the cheapest that came close to the target in it, or else the most accurate. Shares of cost are compared as whole
    percents: schedules of one half miss 75 % by the luck of their draws.
    """
    if target not in strategies.candidates.index:
        return None
    candidates = strategies.candidates.drop(index=target)
    candidates = candidates[candidates["origin"] != "control"]
    candidates = candidates.assign(cost_share=candidates["nudged_phases"] / strategies.number(target, "nudged_phases"))
    within = candidates[candidates["cost_share"].round(2) <= budget].sort_values("selection_acc", ascending=False, kind="stable")
    close = within[within["selection_acc"] >= strategies.number(target, "selection_acc") - PREFERRED_WITHIN].sort_values("nudged_phases")
    within = within.loc[list(dict.fromkeys([*close.index[:1], *within.index]))]
    interval, pairs = strategies.difference(within.index, target)
    verdicts = np.select([interval.low > -margin, interval.high < -margin], ["yes", "no"], "open")
    table = within.assign(
        strategy=within.index,
        difference=interval.mean,
        low=interval.low,
        high=interval.high,
        pairs=pairs,
        verdict=verdicts,
    )
    answer = "no" if (verdicts == "no").all() else "yes" if verdicts[0] == "yes" else "open"
    control = _control(strategies, target, str(within.index[0])) if len(within) else None
    return Match(target, budget, margin, table[list(MATCH_COLUMNS)].reset_index(drop=True), answer, control)


def _control(strategies: Strategies, target: str, saving: str) -> Control | None:
    """The cheapest control that costs no less than the strategy that saves, or else the dearest."""
    table = strategies.table
    cost = table.loc[(table["origin"] == "control") & (table["confirmed"] | (not strategies.confirmed)), "nudged_phases"].dropna()
    if cost.empty:
        return None
    # Costs of drawn schedules differ by some percent from what they are meant to cost.
    enough = cost[cost >= 0.98 * strategies.number(saving, "nudged_phases")]
    name = str(enough.idxmin() if len(enough) else cost.idxmax())
    interval, _ = strategies.difference([saving], name)
    share = float(cost[name]) / strategies.number(target, "nudged_phases")
    return Control(name, strategies.number(name, "accuracy"), share, *(float(part[0]) for part in interval[:3]))
