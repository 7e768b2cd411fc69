"""Deciding by rounds of fresh seeds whether a strategy comes close enough to another, although the data are looked at after every round.

At each look, a strategy's difference from the target has Student's t interval, paired over the seeds that both were trained on. The looks
are fixed in advance; look k is given the share (1/4)(3/4)^(k-1) of the 5 % that may go wrong, so that the shares of all looks sum to one,
however many there will be; each share is split evenly among the strategies. By the union bound, all intervals of all strategies at all
looks hold together in 95 % of studies. So every question may be read from them, at any time, also with a margin thought of later.

Source: alpha spending after Lan and DeMets, Biometrika 70 (1983) 659, as repeated confidence intervals after Jennison and Turnbull,
J. R. Statist. Soc. B 51 (1989) 305. Their boundaries lean on normal statistics; of a few seeds, Student's t and the union bound are
right too, as far as differences are normal. What fails rarely is not normal: seeds that collapse are counted, not averaged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from scipy import special

from hybridep.config import one_line

Floats = NDArray[np.float64]

ALPHA: Final = 0.05
FIRST_LOOK: Final = 5
GROWTH: Final = 1.5  # of the seeds from look to look: a question twice as hard takes four times as many
SPENT_FIRST: Final = 0.25


@dataclass(frozen=True)
class Question:
    """Does any strategy come within `margin` of the target's accuracy at no more than `share` of its nudged phases? Both are fractions."""

    margin: float
    share: float


@dataclass(frozen=True)
class Record:
    """What study.json says of a decision: who takes part, what is asked, and the seeds in their order, as many as the budget has."""

    target: str
    contenders: tuple[str, ...]
    controls: tuple[str, ...]
    seeds: tuple[int, ...]
    margins: tuple[float, ...]
    shares: tuple[float, ...]

    @property
    def questions(self) -> list[Question]:
        return [Question(margin, share) for margin in self.margins for share in self.shares]

    @classmethod
    def read(cls, description: Mapping[str, Any]) -> "Record | None":
        """From the content of study.json; None where nothing is decided, ValueError in one line where the entry is damaged."""
        if description.get("decision") is None:
            return None
        try:
            return TypeAdapter(cls).validate_python(description["decision"])
        except ValidationError as error:
            raise ValueError(one_line(error)) from None


@dataclass(frozen=True)
class Runs:
    """A strategy on the seeds in their order, arrays [seeds], NaN where it was not trained: accuracy, nudged phases, 1 if collapsed."""

    strategy: str
    accuracy: Floats
    nudged_phases: Floats
    collapsed: Floats

    @property
    def seeds(self) -> int:
        """How many of the first seeds are there."""
        missing = np.flatnonzero(~np.isfinite(self.collapsed))
        return int(missing[0]) if len(missing) else len(self.collapsed)


@dataclass(frozen=True)
class Standing:
    """How a strategy stands at a look: its difference from the target over so many seeds, with the limits of this look."""

    look: int
    seeds: int
    strategy: str
    share: float
    difference: float
    low: float
    high: float
    collapsed: int

    def within(self, margin: float) -> str:
        """yes, no or open. A strategy that collapsed on a seed is not, whatever its mean."""
        if self.collapsed:
            return "no"
        return "yes" if self.low > -margin else "no" if self.high < -margin else "open"


@dataclass(frozen=True)
class Reply:
    """The answer to a question so far, yes, no or open; by which strategy and, where it is decided, at which look over how many seeds.

    The strategy of a yes is the one that has the highest lower limit; otherwise it is the most accurate of those that leave it open or
    said no, or None where none is cheap enough.
    """

    question: Question
    said: str
    strategy: str | None
    look: int | None = None
    seeds: int | None = None


@dataclass(frozen=True)
class Course:
    """A decision so far: standings by look, an answer a question, who goes on, and how many seeds they need for the next look.

    `needed` is None where all is decided or the budget is spent. `unstable`: the target itself collapsed, so that nothing can be decided.
    """

    standings: tuple[Standing, ...]
    replies: tuple[Reply, ...]
    going: tuple[str, ...]
    needed: int | None
    unstable: bool = False

    def last(self, strategy: str) -> Standing | None:
        """How a strategy stood when it was last looked at."""
        return next((one for one in reversed(self.standings) if one.strategy == strategy), None)


def looks(most: int) -> list[int]:
    """After how many seeds there is a look, up to `most`; always the same ones, so that a budget can grow later.

    >>> looks(30)
    [5, 8, 12, 18, 27]
    """
    found = [FIRST_LOOK]
    while (after := int(np.ceil(GROWTH * found[-1]))) <= most:
        found.append(after)
    return [seeds for seeds in found if seeds <= most]


def limits(differences: Floats, look: int, strategies: int, step: float | Floats = 0.0) -> tuple[Floats, Floats, Floats]:
    """Mean difference with its limits at look 1, 2, ...; differences [..., seeds], of which all of the last axis count.

    `strategies` share the error. `step` is the least by which accuracies can differ: the deviation counts as at least that of two
    rounding errors, step / √6, for equal differences of coarse values are not certain.
    """
    seeds = differences.shape[-1]
    level = ALPHA * SPENT_FIRST * (1 - SPENT_FIRST) ** (look - 1) / strategies
    mean = differences.mean(axis=-1)
    deviation = np.maximum(differences.std(axis=-1, ddof=1), np.asarray(step) / np.sqrt(6))
    width = special.stdtrit(seeds - 1, 1 - level / 2) * deviation / np.sqrt(seeds)
    return mean, mean - width, mean + width


def follow(
    target: Runs, contenders: Sequence[Runs], controls: Sequence[Runs], questions: Sequence[Question], most: int, failed: Sequence[str] = ()
) -> Course:
    """The decision as far as the seeds go that are there. `failed` strategies cannot be trained further: they leave their questions open.

    A contender goes on while some question that it is cheap enough for is open, and open by it; one that is too far off for all, or
    collapsed, is dropped. Controls go on with it until they are decided themselves; they answer no question, and share an error of 5 %
    of their own.
    """
    margins = sorted({question.margin for question in questions})
    standings: dict[str, Standing] = {}
    course: list[Standing] = []
    replies = [Reply(question, "open", None) for question in questions]
    going = [runs.strategy for runs in (*contenders, *controls)]
    runs = {one.strategy: one for one in (*contenders, *controls)}
    families = {one.strategy: len(group) for group in (contenders, controls) for one in group}
    names = [one.strategy for one in contenders]
    if not names:
        return Course((), tuple(Reply(question, "no", None) for question in questions), (), None)
    for look, seeds in enumerate(looks(most), start=1):
        going = [name for name in going if name not in failed or runs[name].seeds >= seeds]
        present = [name for name in going if runs[name].seeds >= seeds] if target.seeds >= seeds else []
        if present and target.collapsed[:seeds].any():
            return Course(tuple(course), tuple(replies), (), None, unstable=True)
        step = _step([target, *(runs[name] for name in present)], seeds)
        for name in present:
            standings[name] = _stand(target, runs[name], look, seeds, families[name], step)
            course.append(standings[name])
        replies = [_reply(reply, names, standings, look, seeds) for reply in replies]
        waiting = [name for name in going if name not in present]
        going = [name for name in going if name in waiting or _undecided(name, names, standings, replies, margins)]
        if not any(name in names for name in going) or all(reply.said != "open" for reply in replies):
            return Course(tuple(course), tuple(replies), (), None)
        if waiting:
            return Course(tuple(course), tuple(replies), tuple(going), seeds)
    return Course(tuple(course), tuple(replies), (), None)


def _step(trained: Sequence[Runs], seeds: int) -> float:
    """The smallest difference between any two accuracies on the first seeds, 0 where all are equal."""
    steps = np.diff(np.unique(np.concatenate([runs.accuracy[:seeds] for runs in trained])))
    return float(steps[steps > 1e-9].min(initial=np.inf)) if (steps > 1e-9).any() else 0.0


def _stand(target: Runs, runs: Runs, look: int, seeds: int, family: int, step: float) -> Standing:
    # Of this look alone: what earlier looks excluded could be cut off, were differences always normal, but rare failures come late.
    mean, low, high = (float(part) for part in limits(runs.accuracy[:seeds] - target.accuracy[:seeds], look, family, step))
    share = float(runs.nudged_phases[:seeds].mean() / target.nudged_phases[:seeds].mean())
    collapsed = int((runs.collapsed[:seeds] > 0).sum())
    return Standing(look, seeds, runs.strategy, share, mean, low, high, collapsed)


def _eligible(question: Question, names: Sequence[str], standings: dict[str, Standing]) -> list[Standing]:
    """The contenders that are cheap enough. Shares are compared as whole percents: schedules of one half miss it by the luck of draws."""
    return [one for name in names if (one := standings.get(name)) and round(one.share, 2) <= question.share]


def _reply(reply: Reply, names: Sequence[str], standings: dict[str, Standing], look: int, seeds: int) -> Reply:
    question = reply.question
    cheap = _eligible(question, names, standings)
    said = [one.within(question.margin) for one in cheap]
    if "yes" in said:
        answer = "yes"
        best: Standing | None = max((one for one in cheap if one.within(question.margin) == "yes"), key=lambda one: one.low)
    else:
        # A contender without any look may yet turn out to be cheap enough.
        unseen = len([name for name in names if name not in standings])
        answer = "no" if all(verdict == "no" for verdict in said) and not unseen else "open"
        best = max(cheap, key=lambda one: (one.within(question.margin) == answer, not one.collapsed, one.difference), default=None)
    if answer == reply.said and answer != "open":
        return reply
    decided = (look, seeds) if answer != "open" else (None, None)
    return Reply(question, answer, best.strategy if best else None, *decided)


def _undecided(name: str, names: Sequence[str], standings: dict[str, Standing], replies: Sequence[Reply], margins: Sequence[float]) -> bool:
    """Whether more seeds of a strategy can still tell something: of a contender, whether an open question is open by it."""
    own = standings[name]
    if name not in names:
        return any(own.within(margin) == "open" for margin in margins)
    return any(
        reply.said == "open" and own.within(reply.question.margin) == "open" and round(own.share, 2) <= reply.question.share
        for reply in replies
    )
