"""What a study says, as sentences."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from analysis.answer import Answer
from analysis.dominance import Match
from analysis.progress import Sampler
from analysis.vocabulary import COSTS, strategy_label
from analysis.words import count, joined, percent, point_span, points


def findings(answer: Answer) -> list[str]:
    """What the study says, a finding at a time, the most important first."""
    if not answer.front:
        return ["No front can be drawn yet: no strategy has trained to the end without collapsing."]
    return [
        *_match_sentences(answer),
        _front_sentence(answer),
        *_dominance_sentences(answer),
        *_cost_sentences(answer),
        _area(answer),
        *_sampler_sentences(answer),
    ]


def _front_sentence(answer: Answer) -> str:
    strategies = answer.strategies
    total, candidates = len(strategies.table), len(strategies.candidates)
    thesis = [strategy_label(name) for name in answer.front if strategies.table.loc[name, "origin"] == "thesis"]
    found = len(answer.front) - len(thesis)
    of = (
        f"{count(candidates)} strategies"
        if candidates == total
        else f"{count(candidates)} candidates ({count(total)} strategies were trained)"
    )
    who = joined(filter(None, [joined(thesis), f"{found} found by the search" if found else ""]))
    return (
        f"Of {of}, {len(answer.front)} {'is' if len(answer.front) == 1 else 'are'} on the front of accuracy against nudged phases: {who}."
    )


def _dominance_sentences(answer: Answer) -> list[str]:
    """Centered, the accurate end of the thesis, in full; the others by number."""
    table = answer.strategies.table
    if not (table["origin"] == "search").any():
        return []
    thesis = answer.strategies.rivals
    rows = {name: answer.dominance[answer.dominance["thesis"] == name] for name in thesis}
    # To dominate what collapsed says least.
    collapsed = {name: answer.strategies.number(name, "collapsed") > 0 for name in thesis}
    dominated = sorted((name for name in thesis if len(rows[name])), key=lambda name: (name != "centered", collapsed[name]))
    said = [_dominated(name, rows[name]) for name in dominated[:1]]
    if dominated[1:]:
        numbers = joined(
            f"{strategy_label(name)}{', which collapsed on some seeds,' if collapsed[name] else ''} "
            f"(by {count(len(rows[name]))}{_confident(rows[name])})"
            for name in dominated[1:]
        )
        said.append(f"{'Also dominated' if said else 'Dominated'} on means: {numbers}.")
    safe = [strategy_label(name) for name in thesis if not len(rows[name])]
    return said + ([f"No found strategy dominates {joined(safe, 'or')}."] if safe else [])


def _confident(rows: pd.DataFrame) -> str:
    sure = int((rows["low"] > 0).sum())
    return f", {count(sure) if sure else 'none'} with an interval above 0"


def _dominated(thesis: str, rows: pd.DataFrame) -> str:
    best = rows.iloc[0]
    subject = f"{count(len(rows))} found strategies dominate" if len(rows) > 1 else "One found strategy dominates"
    saving = (
        f"{percent(best['nudged_phases_saved'], 0)} % fewer nudged phases"
        if best["nudged_phases_saved"] >= 0.005
        else "as many nudged phases"
    )
    over = f"paired over {best['pairs']} seeds" if best["pairs"] else "from different seeds"
    told = f"95 % interval {point_span(best['low'], best['high'])}, {over}"
    interval = "one seed, no interval" if np.isnan(best["low"]) else told
    return (
        f"{subject} {strategy_label(thesis)} on means{_confident(rows)}. Selection prefers {strategy_label(best['strategy'])} "
        f"({best['description']}), which differs by {points(best['difference'])} points of test accuracy ({interval}) with {saving}: "
        f"{best['verdict']}."
    )


def _match_sentences(answer: Answer) -> list[str]:
    """The platform's question, answered plainly."""
    found = answer.match
    if found is None:
        return []
    question = match_question(found)
    if found.table.empty:
        return [f"{question} No: no candidate was that cheap."]
    best, others = found.table.iloc[0], len(found.table) - 1
    said = {"yes": "Yes", "no": "No", "open": "Not decided by these seeds"}[found.answer]
    seeds = "seeds that the search never saw" if answer.strategies.confirmed else "the search's own seeds"
    interval = f"95 % interval {point_span(best['low'], best['high'])}" if not np.isnan(best["low"]) else "one seed, no interval"
    rest = {"yes": "", "no": f" None of the {count(others)} others comes within it either." if others > 1 else "", "open": ""}[found.answer]
    return [
        f"{question} {said}, on {seeds}: {strategy_label(best['strategy'])} ({best['description']}), which selection prefers among "
        f"{count(others + 1)} that cheap, differs by {points(best['difference'])} points of test accuracy ({interval}) at "
        f"{percent(best['cost_share'], 0)} % of its nudged phases.{rest}"
    ]


def match_question(found: Match) -> str:
    """What `Match` answers, as a question."""
    margin, budget = percent(found.margin, 0), percent(found.budget, 0)
    return f"Does any strategy come within {margin} point of {found.target} at {budget} % of its nudged phases or fewer?"


def _cost_sentences(answer: Answer) -> list[str]:
    """How much of a saving in nudged phases is left in the other costs, from the thesis's two ends."""
    table = answer.strategies.table
    if not {"standard", "centered"} <= set(table.index):
        return []
    saved = [1 - answer.strategies.number("standard", cost) / answer.strategies.number("centered", cost) for cost in COSTS]
    if np.isnan(saved).any():
        return []
    phases, steps, _ = (percent(value, 0) for value in saved)
    share = percent(abs(saved[2]), 0)
    time = f"{share} % of its training time" if saved[2] >= 0 else f"no training time (it took {share} % more)"
    same = all(set(answer.fronts[cost]) == set(answer.front) for cost in COSTS)
    members = "The fronts in these costs have the same members." if same else "The fronts in these costs differ in their members."
    return [
        f"What a saving is worth depends on what is counted: standard saves {phases} % of centered's nudged phases, {steps} % of its "
        f"relaxation steps and {time}; seconds also depend on what else the machine did. {members}"
    ]


def _area(answer: Answer) -> str:
    reference, values = answer.references["nudged_phases"], answer.hypervolumes
    thesis = f", that of the thesis's strategies {values['thesis']:.3f}" if "thesis" in values else ""
    most = f"; {values['perfect']:.3f} would be perfect accuracy at standard's cost" if "perfect" in values else ""
    return (
        f"Hypervolume of the front in test accuracy: {values['front']:.3f}{thesis}{most}. It is the share of the area between the "
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
