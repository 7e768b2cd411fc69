"""What a study says, as sentences."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from analysis.answer import Answer
from analysis.decision import decided, decision_certainty
from analysis.dominance import Control, Match
from analysis.progress import Sampler
from analysis.vocabulary import COSTS, METRICS, strategy_label
from analysis.words import count, joined, percent, point_span, points, share, span

MOST_UNSTABLE = 4  # strategies that collapsed on some seed and are named


def headline(answer: Answer) -> str:
    """The answer in a sentence or two: what, how much accuracy, at what share of centered's cost, how sure."""
    if not answer.front:
        return "There is no answer yet: no strategy has trained to the last epoch on every seed without collapsing."
    if answer.decision:
        return decided(answer.decision)
    found = answer.match
    if found is None:
        most = answer.strategies.candidates["accuracy"].idxmax()
        reached = _accuracy(answer, str(most))
        return f"{_named(answer, str(most))} is the most accurate: {reached}. Centered is missing, so nothing is compared with it."
    if found.table.empty:
        return f"No: nothing that costs {share(found.budget)} of centered's nudged phases or less trained on every seed."
    best = found.table.iloc[0]
    name, target = str(best["strategy"]), found.target
    both = f"{_accuracy(answer, name)}, against {percent(answer.strategies.number(target, 'accuracy'), 1)} % with {target}"
    difference = f"{points(best['difference'])} points, {_interval(best)}, {_seeds(answer, best['pairs'])}"
    cost = f"{share(best['cost_share'])} of its nudged phases"
    if found.answer == "yes":
        said = f"{_named(answer, name)} is as accurate as {target} at {cost}: {both} ({difference})."
    elif found.answer == "no":
        budget = f"{share(found.budget)} of its nudged phases or less"
        said = f"Nothing tried is as accurate as {target} at {budget}. The best, {_named(answer, name)}, reaches {both} ({difference})."
    else:
        said = f"Not decided yet. {_named(answer, name)} reaches {both}, at {cost} ({difference})."
    return said + _control_words(found.control)


def _named(answer: Answer, name: str) -> str:
    """A strategy with what it is."""
    return f"{strategy_label(name)} ({answer.strategies.table['description'].astype(str)[name]})"


def _accuracy(answer: Answer, name: str) -> str:
    return f"{percent(answer.strategies.number(name, 'accuracy'), 1)} % {METRICS[answer.strategies.metric].lower()}"


def _interval(row: pd.Series) -> str:
    return "one seed and so no interval" if np.isnan(row["low"]) else f"95 % interval {point_span(row['low'], row['high'])}"


def _seeds(answer: Answer, pairs: int) -> str:
    where = "fresh seeds" if answer.strategies.confirmed else "of the search's own seeds" if pairs else "the search's own seeds"
    return f"{pairs} {where}" if pairs else where


def _control_words(control: Control | None) -> str:
    """What training less would give, for whoever wants to spend less."""
    if control is None:
        return ""
    told = f"Centered trained for {share(control.cost_share)} of its cost reaches {percent(control.accuracy, 1)} %"
    if np.isnan(control.low):
        return f" {told}, from one seed."
    if control.beaten:
        return f" {told}, {points(control.difference)[1:]} points less ({point_span(control.low, control.high)})."
    return f" But {told[0].lower()}{told[1:]}: the saving is not shown to be more than training less would give."


def findings(answer: Answer) -> list[str]:
    """What the study says beside its headline, a finding at a time, the most important first."""
    if not answer.front:
        return []
    return [
        _front_sentence(answer),
        *_dominance_sentences(answer),
        *_cost_sentences(answer),
        _area(answer),
        *_sampler_sentences(answer),
    ]


def certainty(answer: Answer) -> list[str]:
    """How sure the headline is: the interval, the seeds, the collapses, and what rests on the seeds that selected it."""
    strategies, table = answer.strategies, answer.strategies.table
    said = decision_certainty(answer.decision) if answer.decision else []
    if answer.match and len(answer.match.table):
        name, tried = str(answer.match.table.iloc[0]["strategy"]), count(len(answer.match.table))
        reached, low, high = (strategies.number(name, f"accuracy{part}") for part in ("", "_low", "_high"))
        interval = f"95 % interval {span(low, high, 1)}"
        said.append(
            f"One seed has no interval: {strategy_label(name)} may have been lucky."
            if np.isnan(low)
            else f"{strategy_label(name)} reaches {percent(reached, 1)} % ({interval}). Of {tried} that cost "
            f"{share(answer.match.budget)} or less, it is the cheapest that came within half a point of centered in the search, or else "
            "the most accurate. Only this one is tested, so that trying many does not help."
        )
    unstable = table[(table["trained"] < table["n_seeds"]) & (table["confirmed"] | (not strategies.confirmed))]
    if len(unstable):
        order = unstable.sort_values("trained", ascending=False)
        told = [f"{strategy_label(str(name))} ({row['trained']} of {row['n_seeds']} seeds trained)" for name, row in order.iterrows()]
        more = f" and {len(told) - MOST_UNSTABLE} more" if len(told) > MOST_UNSTABLE else ""
        shown = ", ".join(told[:MOST_UNSTABLE]) if more else joined(told)
        said.append(f"Collapsed on some seed, and so on no front: {shown}{more}.")
    elif len(table):
        said.append("No strategy collapsed on any seed.")
    return said


def _front_sentence(answer: Answer) -> str:
    strategies = answer.strategies
    total, candidates = len(strategies.table), len(strategies.candidates)
    origin = strategies.table.loc[list(answer.front), "origin"]
    known = [strategy_label(str(name)) for name in origin.index[origin != "search"]]
    found = int((origin == "search").sum())
    of = (
        f"{count(candidates)} strategies"
        if candidates == total
        else f"{count(candidates)} candidates ({count(total)} strategies were trained)"
    )
    who = joined([*known, *([f"{count(found)} found by the search"] if found else [])])
    are = "is" if len(answer.front) == 1 else "are"
    return f"Of {of}, {count(len(answer.front))} {are} on the front, beaten by nothing as cheap: {who}."


def _dominance_sentences(answer: Answer) -> list[str]:
    """By how many each of the thesis's strategies is dominated, and of how many of these the seeds are sure."""
    if not (answer.strategies.table["origin"] == "search").any():
        return []
    rows = {str(name): answer.dominance[answer.dominance["thesis"] == name] for name in answer.strategies.rivals}
    told = [
        f"{strategy_label(name)} by {count(len(own))} ({(own['low'] > 0).sum() or 'none'} with an interval above 0)"
        for name, own in rows.items()
        if len(own)
    ]
    safe = [strategy_label(name) for name, own in rows.items() if own.empty]
    said = [f"Dominated, that is no cheaper and no more accurate than a found strategy: {joined(told)}."] if told else []
    return said + ([f"No found strategy dominates {joined(safe, 'or')}."] if safe else [])


def match_question(found: Match) -> str:
    """What `Match` answers, as a question."""
    budget = f"{share(found.budget)} of its nudged phases or fewer"
    return f"Does any strategy come within {percent(found.margin, 0)} point of {found.target} at {budget}?"


def _cost_sentences(answer: Answer) -> list[str]:
    """How much of a saving in nudged phases is left in the other costs, from the thesis's two ends."""
    table = answer.strategies.table
    costs = [cost for cost in COSTS if cost != "train_seconds" or answer.load]
    if not {"standard", "centered"} <= set(table.index):
        return []
    saved = [1 - answer.strategies.number("standard", cost) / (answer.strategies.number("centered", cost) or np.nan) for cost in costs]
    if np.isnan(saved).any():
        return []
    parts = [
        f"{share(abs(saving))} {'of the' if saving >= 0 else 'more'} {words}"
        for saving, words in zip(saved, ("nudged phases", "relaxation steps", f"time ({answer.load})"), strict=False)
    ]
    less = joined(part for part, saving in zip(parts, saved, strict=True) if saving >= 0)
    more = joined(part for part, saving in zip(parts, saved, strict=True) if saving < 0)
    told = ", but ".join(filter(None, [f"saves {less}" if less else "", f"takes {more}" if more else ""]))
    return [f"What a saving is worth depends on what is counted. Beside centered, standard {told}."]


def _area(answer: Answer) -> str:
    reference, values = answer.references["nudged_phases"], answer.hypervolumes
    thesis = f", that of the thesis's strategies {values['thesis']:.3f}" if "thesis" in values else ""
    most = f"; {values['perfect']:.3f} would be perfect accuracy at standard's cost" if "perfect" in values else ""
    return (
        f"Hypervolume of the front: {values['front']:.3f}{thesis}{most}. It is the share of the area between the "
        f"reference ({count(reference.cost)} nudged phases at {percent(reference.accuracy, 1)} %) and perfect accuracy at no cost."
    )


def _sampler_sentences(answer: Answer) -> list[str]:
    if not answer.samplers:
        return []
    worst = answer.samplers[-1]
    told, gains = [], []
    for sampler in answer.samplers:
        searches = f"{sampler.searches} searches, {sampler.low:.3f} to {sampler.high:.3f}" if sampler.searches > 1 else "1 search"
        ratio = f", {sampler.hypervolume / worst.hypervolume:.2f} times {worst.name}" if sampler is not worst and worst.hypervolume else ""
        told.append(f"{sampler.name} {sampler.hypervolume:.3f} ({searches}{ratio})")
        gains.append(f"{sampler.name} {sampler.gain:.3f}")
    return [
        f"Median hypervolume after {count(worst.trials)} searched strategies, on the searches' own seeds: {joined(told)}. Of that, the "
        f"search added to the thesis's strategies: {joined(gains)}."
    ]


def sampler_verdicts(samplers: Sequence[Sampler], base: str, target: float, ceiling: float | None = None) -> list[str]:
    """For each sampler beside `base`, whether its median hypervolume reaches `target` times that of `base`; `ceiling` is what any could."""
    by_name = {sampler.name: sampler for sampler in samplers}
    ours = by_name.pop(base, None)
    if ours is None:
        return []
    limit = f"Perfect accuracy at standard's cost would be {ceiling:.3f}{_times(ceiling, ours.hypervolume)}." if ceiling else ""
    return [*_verdicts(ours, by_name.values(), target), *filter(None, [limit])]


def _verdicts(ours: Sampler, others: Iterable[Sampler], target: float) -> list[str]:
    base = ours.name
    return [
        f"{other.name} {'reaches' if other.hypervolume >= target * ours.hypervolume else 'does not reach'} {target:g} times the "
        f"hypervolume of {base} after {count(other.trials)} strategies: {other.hypervolume:.3f} and {ours.hypervolume:.3f}"
        f"{_times(other.hypervolume, ours.hypervolume)}, medians of {other.searches} and {ours.searches}. To the thesis's strategies it "
        f"adds {other.gain:.3f}, {base} {ours.gain:.3f}{_times(other.gain, ours.gain)}."
        for other in others
    ]


def _times(value: float, base: float) -> str:
    return f" ({value / base:.2f} times)" if base > 0 else ""
