"""What a study decided, and how it came to it: the course of the rounds, the answers, and the sentences on both."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.read import Study, recorded
from analysis.strategies import Strategies
from analysis.vocabulary import strategy_label
from analysis.words import count, joined, percent, point_span, points, share
from hybridep.deciding import ALPHA, Course, Record, Reply, Runs, Standing, follow

COURSE_COLUMNS = ("look", "seeds", "strategy", "role", "cost_share", "difference", "low", "high", "collapsed")
ANSWER_COLUMNS = (
    *("margin", "share", "answer", "strategy", "cost_share", "difference", "low", "high", "seeds", "decided_after"),
    *("control", "control_share", "control_difference", "control_low", "control_high", "control_answer"),
)
# Costs of drawn schedules differ by some percent from what they are meant to cost.
NEARLY = 0.98


@dataclass(frozen=True)
class Decision:
    """What is decided, from the seeds that are there. `course` has the standings by look and an answer for each question."""

    record: Record
    course: Course

    def control(self, strategy: str) -> Standing | None:
        """The cheapest control that costs no less than a strategy, as it was last seen."""
        ours = self.course.last(strategy)
        seen = [one for name in self.record.controls if (one := self.course.last(name))]
        enough = [one for one in seen if ours and one.share >= NEARLY * ours.share]
        return min(enough, key=lambda one: one.share, default=None)

    @property
    def table(self) -> pd.DataFrame:
        """A row for each strategy and look; columns of decision.csv. `within_<points>` is yes, no or open."""
        margins = {f"within_{100 * margin:g}": margin for margin in self.record.margins}
        rows = [
            (
                *(one.look, one.seeds, one.strategy, "control" if one.strategy in self.record.controls else "contender", one.share),
                *(one.difference, one.low, one.high, one.collapsed),
                *(one.within(margin) for margin in margins.values()),
            )
            for one in self.course.standings
        ]
        return pd.DataFrame(rows, columns=[*COURSE_COLUMNS, *margins])

    @property
    def answers(self) -> pd.DataFrame:
        """A row for each question, with the strategy that answers it and the control beside it; fractions, empty where there is none."""
        return pd.DataFrame([self._answer(reply) for reply in self.course.replies], columns=list(ANSWER_COLUMNS))

    def _answer(self, reply: Reply) -> dict[str, Any]:
        own = self.course.last(reply.strategy) if reply.strategy else None
        row: dict[str, Any] = {
            "margin": reply.question.margin, "share": reply.question.share, "answer": reply.said, "strategy": reply.strategy,
            **(_numbers(own) if own else {}), "seeds": own.seeds if own else np.nan, "decided_after": reply.seeds or np.nan,
        }  # fmt: skip
        control = self.control(own.strategy) if own else None
        if control is not None:
            row |= {f"control_{name.removeprefix('cost_')}": value for name, value in _numbers(control).items()}
            row |= {"control": control.strategy, "control_answer": control.within(reply.question.margin)}
        return row

    def as_json(self) -> dict[str, Any]:
        """The answers for other programs; accuracies, margins and shares are fractions."""
        answers = self.answers.astype(object).where(self.answers.notna(), None).to_dict("records")
        seeds = self.course.standings[-1].seeds if self.course.standings else 0
        return {
            "target": self.record.target, "contenders": list(self.record.contenders), "controls": list(self.record.controls),
            "confidence": 1 - ALPHA, "seeds": seeds, "budget": len(self.record.seeds), "answers": answers,
        }  # fmt: skip


def _numbers(one: Standing) -> dict[str, float]:
    return {"cost_share": one.share, "difference": one.difference, "low": one.low, "high": one.high}


def decision(study: Study, strategies: Strategies) -> Decision | None:
    """The decision of a study as far as its seeds go; None where nothing was to be decided."""
    record, _ = recorded(study)
    if record is None:
        return None
    runs = {name: _runs(name, record, strategies) for name in (record.target, *record.contenders, *record.controls)}
    contenders, controls = ([runs[name] for name in names] for names in (record.contenders, record.controls))
    return Decision(record, follow(runs[record.target], contenders, controls, record.questions, len(record.seeds)))


def _runs(name: str, record: Record, strategies: Strategies) -> Runs:
    """A strategy on the seeds of the decision."""
    found = np.full((3, len(record.seeds)), np.nan)
    if name in strategies.table.index:
        places = {int(seed): place for place, seed in enumerate(strategies.seeds)}
        known = [place for place, seed in enumerate(record.seeds) if seed in places]
        columns = [places[record.seeds[place]] for place in known]
        for row, measure in enumerate(("test_acc", "nudged_phases", "collapsed")):
            found[row, known] = strategies.values(measure, [name])[0][columns]
    return Runs(name, *found)


# ---------------------------------------------------------------- in words


def shown_answers(found: Decision | None) -> pd.DataFrame:
    """The answers as people read them."""
    rows = [
        {
            "Within (points)": f"{100 * row['margin']:g}",
            "At most (%)": percent(row["share"], 0),
            "Answer": {"open": "not decided"}.get(row["answer"], row["answer"]),
            "Strategy": strategy_label(row["strategy"]) if row["strategy"] else "none is that cheap",
            "Difference (points)": points(row["difference"]),
            "95 % interval": point_span(row["low"], row["high"]),
            "Seeds": count(row["seeds"]),
            "Training less": _less(row),
        }
        for _, row in (found.answers.iterrows() if found else ())
    ]
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else ["Strategy"])


def _less(row: pd.Series) -> str:
    if not isinstance(row["control"], str):
        return "–"
    said = {"yes": "within too", "no": "falls short", "open": "not decided"}[row["control_answer"]]
    return f"{said}: {point_span(row['control_low'], row['control_high'])} at {share(row['control_share'])}"


def shown_course(found: Decision | None) -> pd.DataFrame:
    """The course of the decision as people read it, look by look."""
    rows = [
        {
            "Look": str(one.look),
            "Seeds": str(one.seeds),
            "Strategy": strategy_label(one.strategy),
            "Of centered (%)": percent(one.share, 0),
            "Difference (points)": points(one.difference),
            "95 % interval": point_span(one.low, one.high),
            **{f"Within {_margin(margin)}": _verdict(one, margin) for margin in found.record.margins},
        }
        for one in (found.course.standings if found else ())
        if found
    ]
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else ["Strategy"])


def _verdict(one: Standing, margin: float) -> str:
    return f"no, {one.collapsed} collapsed" if one.collapsed else one.within(margin)


def _margin(margin: float) -> str:
    return f"{100 * margin:g} point{'' if margin == 0.01 else 's'}"


def decided(found: Decision) -> str:
    """The answers in a sentence for each margin."""
    if found.course.unstable:
        return f"Nothing can be decided: {found.record.target} itself collapsed on some seed."
    if not found.course.standings:
        return f"Not decided yet: no round of fresh seeds has ended with {found.record.target} and a contender."
    return " ".join(_decided_within(found, margin) for margin in found.record.margins)


def _decided_within(found: Decision, margin: float) -> str:
    """Shares are nested: what holds at one holds at any larger one."""
    replies = sorted((one for one in found.course.replies if one.question.margin == margin), key=lambda one: one.question.share)
    by = {said: [reply for reply in replies if reply.said == said] for said in ("yes", "open", "no")}
    parts = []
    if by["yes"]:
        best = by["yes"][0]
        own = found.course.last(str(best.strategy))
        assert own is not None
        parts.append(
            f"yes at {share(best.question.share)} of its nudged phases ({strategy_label(own.strategy)}: {points(own.difference)} points, "
            f"{point_span(own.low, own.high)}, {own.seeds} fresh seeds)"
        )
    if by["open"]:
        parts.append(f"not decided at {joined(share(reply.question.share) for reply in by['open'])}")
    if by["no"]:
        parts.append(f"no at {joined(share(reply.question.share) for reply in by['no'])}")
    less = _beside(found, str(by["yes"][0].strategy), margin) if by["yes"] else ""
    return f"Within {_margin(margin)} of {found.record.target}: {'; '.join(parts)}.{less}"


def _beside(found: Decision, strategy: str, margin: float) -> str:
    """What training less would give at the same cost."""
    control = found.control(strategy)
    if control is None:
        return ""
    said = {"yes": "comes that close, too", "no": "does not", "open": "is not decided"}[control.within(margin)]
    difference = f"{points(control.difference)} points, {point_span(control.low, control.high)}"
    return f" Training less, {found.record.target} for {share(control.share)} of its cost, {said} ({difference})."


def decision_certainty(found: Decision) -> list[str]:
    """How sure the answers are, and what became of each contender."""
    said = [
        "The intervals hold together in 95 % of studies, for all contenders and after every round: so each question was asked "
        "again and again without more errors. They assume that differences between seeds are about normal."
    ]
    last = [one for name in found.record.contenders if (one := found.course.last(name))]
    lost = [one for one in last if one.collapsed]
    if lost:
        told = joined(f"{strategy_label(one.strategy)} ({one.collapsed} of {one.seeds} seeds)" for one in lost)
        said.append(f"Collapsed, and so left out whatever its mean: {told}.")
    stable = [one for one in last if not one.collapsed]
    if stable:
        rarest = min(one.seeds for one in stable)
        rate = 1 - ALPHA ** (1 / rarest)
        who = "None of the others" if lost else "No contender"
        said.append(
            f"{who} collapsed on any of its seeds ({rarest} or more); one that does so on up to {share(rate)} of seeds may look like that."
        )
    better = [strategy_label(one.strategy) for one in stable if one.low > 0]
    if better:
        said.append(f"Even more accurate than {found.record.target}: {joined(better)}.")
    unseen = [strategy_label(name) for name in found.record.contenders if found.course.last(name) is None]
    if unseen:
        said.append(f"Not looked at yet: {joined(unseen)}.")
    return said
