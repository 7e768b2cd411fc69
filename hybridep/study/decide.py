"""What a study trains after its planned trials: those that confirm, then rounds of fresh seeds until all is decided.

Who takes part is kept in study.json; everything else follows from the rows of the trials that have ended.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from hybridep.config import LABELS, InvalidInput
from hybridep.deciding import Course, Record, Runs, follow
from hybridep.study.folder import StudyFolder
from hybridep.study.front import Point, front
from hybridep.study.plan import Deciding, Plan, PlannedTrial

# A strategy that is not on the front but within so many standard errors of it may be there by right.
CONFIRM_WITHIN: Final = 1.0
# How many of the search's most accurate strategies become contenders, for each share of the target's nudged phases that is asked for.
PREFERRED: Final = 2

Rows = Mapping[str, dict[str, Any]]


def complete(folder: StudyFolder, plan: Plan) -> bool:
    """Whether every trial has ended, so that there is nothing to start Ray for."""
    if not all(folder.trial(trial.name).ended for trial in plan.fixed):
        return False
    if plan.search and sum(files.ended for files in folder.begun() if files.path.name.startswith("search-")) < plan.search.trials:
        return False
    return not following(folder, plan)


def following(folder: StudyFolder, plan: Plan) -> list[PlannedTrial]:
    """The trials that are next when all planned ones have ended, each not ended itself; none where the study is complete."""
    confirming = [trial for trial in confirmations(folder, plan) if not folder.trial(trial.name).ended]
    if confirming or not plan.deciding:
        return confirming
    return next_round(folder, plan.deciding)[0]


def confirmations(folder: StudyFolder, plan: Plan) -> list[PlannedTrial]:
    """The thesis's strategies and those near the front, each to run on seeds that the search has not seen.

    Where a strategy has run on some of them before, the others make up a trial of their own: more fresh seeds may be asked for later.
    """
    if not plan.fresh_seeds:
        return []
    rows = _rows(folder)
    ended = {name: row for name, row in rows.items() if row.get("done") and row["config"]["origin"] != "confirm"}
    chosen = {point.strategy for point in front(map(Point.of, ended.values()), slack=CONFIRM_WITHIN)}
    planned = []
    for name, row in ended.items():
        config = row["config"]
        if config["origin"] != "search" or config["strategy"] in chosen:
            planned += _trials(config["strategy"], _strategy(config), rows, plan.fresh_seeds, f"confirm-{name}")
    return planned


def begin(folder: StudyFolder, deciding: Deciding) -> None:
    """Keep in study.json who takes part and what is asked, now that the search has ended."""
    decision = record(folder, deciding)
    folder.write(decision={name: list(value) if isinstance(value, tuple) else value for name, value in vars(decision).items()})


def record(folder: StudyFolder, deciding: Deciding) -> Record:
    """Who takes part: as it was begun, or else who was named and whom the search prefers. InvalidInput where it is damaged."""
    try:
        begun = Record.read(folder.description)
    except ValueError as error:
        raise InvalidInput(f"--resume {folder.place}: study.json is damaged (decision: {error})") from None
    contenders = begun.contenders if begun else tuple(dict.fromkeys([*deciding.named, *preferred(_rows(folder), deciding)]))
    controls = begun.controls if begun else deciding.controls
    return Record(deciding.target, contenders, controls, deciding.seeds, deciding.margins, deciding.shares)


def preferred(rows: Rows, deciding: Deciding) -> list[str]:
    """For each share, the most accurate strategies of the search that cost no more and trained on each of its seeds."""
    points = {
        row["config"]["strategy"]: Point.of(row)
        for row in rows.values()
        if row.get("done") and row["config"]["origin"] in ("thesis", "search")
    }
    target = points.pop(deciding.target, None)
    if target is None:
        return []
    found: list[str] = []
    for share in deciding.shares:
        cheap = [one for one in points.values() if not one.collapsed and round(one.nudged_phases / target.nudged_phases, 2) <= share]
        found += [one.strategy for one in sorted(cheap, key=lambda one: -one.accuracy)[:PREFERRED]]
    return list(dict.fromkeys(found))


def next_round(folder: StudyFolder, deciding: Deciding) -> tuple[list[PlannedTrial], Course]:
    """The trials of the round that is next, as far as they have not ended, and the decision so far.

    A strategy whose trials have failed leaves the decision; where it is the target, nothing can go on.
    """
    decided, rows = record(folder, deciding), _rows(folder)
    for name in decided.contenders:
        if name not in deciding.overrides and not any(row["config"]["strategy"] == name for row in rows.values()):
            raise InvalidInput(f"--resume {folder.place}: study.json is damaged (decision: no trial has the strategy {name!r})")
    chance = 1 / int(folder.description["protocol"]["sizes"][-1])
    failed: list[str] = []
    while True:
        runs = {name: _runs(name, folder, rows, decided, chance) for name in (decided.target, *decided.contenders, *decided.controls)}
        contenders, controls = ([runs[name] for name in names] for names in (decided.contenders, decided.controls))
        course = follow(runs[decided.target], contenders, controls, decided.questions, len(decided.seeds), failed)
        if course.needed is None:
            return [], course
        planned, stuck = [], []
        for name in (decided.target, *course.going):
            own = _trials(name, _overrides(name, rows, deciding), rows, decided.seeds[: course.needed], f"decide-{name}", numbered=True)
            left = [trial for trial in own if not folder.trial(trial.name).ended]
            planned += left
            if not left and runs[name].seeds < course.needed:
                stuck.append(name)
        if planned or decided.target in stuck:
            return planned, course
        failed += stuck


def line(course: Course) -> str:
    """How a decision stands, in a line for the terminal."""
    seeds = course.standings[-1].seeds if course.standings else 0
    margins = dict.fromkeys(reply.question.margin for reply in course.replies)
    said = [
        f"within {100 * margin:g} of centered at "
        + ", ".join(f"{100 * reply.question.share:g} % {reply.said}" for reply in course.replies if reply.question.margin == margin)
        for margin in margins
    ]
    on = f". On to {course.needed} with {', '.join(course.going)}" if course.needed else ""
    return f"After {seeds} fresh seeds: {'; '.join(said)}{on}."


def _rows(folder: StudyFolder) -> Rows:
    """The last line of every trial that has one."""
    return {files.path.name: row for files in folder.begun() if (row := files.last())}


def _runs(strategy: str, folder: StudyFolder, rows: Rows, decided: Record, chance: float) -> Runs:
    """What a strategy reached on the seeds of the decision. Where its accuracy is no number it counts as collapsed, at chance."""
    found = np.full((3, len(decided.seeds)), np.nan)
    places = {seed: place for place, seed in enumerate(decided.seeds)}
    for trial, row in rows.items():
        if not (row.get("done") and row["config"]["origin"] == "confirm" and row["config"]["strategy"] == strategy):
            continue
        try:
            columns = [np.array(row[f"{name}_by_seed"], dtype=float) for name in ("test_acc", "nudged_phases", "collapsed")]
            for seed, accuracy, cost, collapsed in zip(row["config"]["seeds"], *columns, strict=True):
                if seed in places:
                    found[:, places[seed]] = (accuracy, cost, collapsed) if np.isfinite(accuracy) else (chance, cost, 1.0)
        except (KeyError, TypeError, ValueError) as error:
            damage = f"{type(error).__name__}: {error}"
            raise InvalidInput(f"--resume {folder.place}: {folder.trial(trial).results} is damaged ({damage})") from None
    return Runs(strategy, *found)


def _overrides(strategy: str, rows: Rows, deciding: Deciding) -> Mapping[str, Any]:
    if strategy in deciding.overrides:
        return deciding.overrides[strategy]
    return _strategy(next(row["config"] for row in rows.values() if row["config"]["strategy"] == strategy))


def _strategy(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in LABELS}


def _trials(
    strategy: str, overrides: Mapping[str, Any], rows: Rows, seeds: tuple[int, ...], new: str, numbered: bool = False
) -> list[PlannedTrial]:
    """The trials of a strategy on these fresh seeds: those that are begun, and one for the seeds that no trial has. That is called `new`,
    with its first seed behind where there are others or `numbered` says so.
    """
    begun = {
        name: tuple(row["config"]["seeds"])
        for name, row in rows.items()
        if row["config"]["origin"] == "confirm" and row["config"]["strategy"] == strategy
    }
    if left := tuple(seed for seed in seeds if not any(seed in own for own in begun.values())):
        begun[f"{new}-{left[0]}" if numbered or begun else new] = left
    return [PlannedTrial(name, strategy, "confirm", own, overrides) for name, own in begun.items()]
