"""Reports of studies whose names, seeds, values and counts are at their limits: made, and true to what was brought, whatever it is."""

import json
import math
import re
import unicodedata
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analysis.answer import answer
from analysis.escape import from_csv, visible
from analysis.figures import all_figures
from analysis.layout import default_selection
from analysis.page import write_page
from analysis.read import read_study
from analysis.report import _text, _write_tables, write_report
from analysis.results import LARGEST
from hybridep.config import BETA_RANGE, MOST_SEED, InvalidInput
from tests.synthetic_study import THESIS, records, write_header, write_trial

COUNTS = ("updates", "nudged_phases", "free_steps", "nudged_steps", "cheap_updates", "longest_cheap_run")
SHARES = ("train_acc", "val_acc", "test_acc", "saturation", "p_std")
MEASURES = ("train_loss", "free_residual", "epoch_seconds", "learning_rate")
EDGES: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(COUNTS, (0, 1, 2**31, 2**53, int(LARGEST), int(LARGEST) * 10, -1, None)),
    **dict.fromkeys(SHARES, (0.0, 5e-324, 0.1, 1 - 2**-53, 1.0, 1.5, math.nan, None)),
    **dict.fromkeys(MEASURES, (0.0, 5e-324, 1e-12, 1e14, 1e308, math.inf, math.nan, None)),
    "collapsed": (True, False, None),
}
SEEDS = (0, 1, 2**31 - 1, 2**32, MOST_SEED - 1, MOST_SEED)
STRATEGIES = ({"skew": 0.0}, {"skew": 1.0}, {"skew": 5e-324}, *({"beta": beta} for beta in BETA_RANGE), {"family": "cosine", "skew": 0.5})
names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40).filter(
    lambda name: name not in (".", "..")
)


class Brought:
    """The name of a study's folder, the lines of its trials, and what was put into them, which is told where it is not reported well."""

    def __init__(self, name: str, lines: list[list[dict[str, Any]]], edges: dict[str, Any]) -> None:
        self.name, self.lines, self.edges = name, lines, edges

    def __repr__(self) -> str:
        return f"{self.name!r} with {self.edges}"


@st.composite
def studies(draw: st.DrawFn) -> Brought:
    """The name of a study's folder and the lines of its trials: the thesis's, and up to three more, of which some values are edges."""
    seeds = draw(st.lists(st.sampled_from(SEEDS), min_size=1, max_size=3, unique=True))
    found = draw(st.lists(st.tuples(names, st.sampled_from(STRATEGIES)), max_size=3, unique_by=lambda one: visible(one[0])))
    trials = {**THESIS, **{name: {**THESIS["stochastic"], **strategy} for name, strategy in found if name not in THESIS}}
    lines, put = [], {}
    for number, (name, strategy) in enumerate(trials.items()):
        made = records(f"trial_{number}", name, "thesis" if name in THESIS else "search", seeds, strategy, 2)
        # Values of one trial in ten strategies, or of all of them, are at an edge.
        for column in draw(st.lists(st.sampled_from(sorted(EDGES)), max_size=4, unique=True)):
            edges = put[f"{name}.{column}"] = [draw(st.sampled_from(EDGES[column])) for _ in seeds]
            for line in made:
                line[column] = edges[0]
                if f"{column}_by_seed" in line:
                    line[f"{column}_by_seed"] = edges
        lines.append(made)
    return Brought(draw(names), lines, put)


def written(folder: Path, brought: Brought) -> Path:
    study = folder / brought.name.encode()[:200].decode(errors="ignore")
    write_header(study, brought.lines[0][0]["config"]["seeds"], 2, len(brought.lines))
    for trial in brought.lines:
        write_trial(study, trial)
    return study


def extreme(column: str, value: Any, seeds: tuple[int, ...] = (0, MOST_SEED)) -> Brought:
    """A study of which one column is one value everywhere."""
    lines = [records(f"trial_{number}", name, "thesis", seeds, own, 2) for number, (name, own) in enumerate(THESIS.items())]
    for line in (line for trial in lines for line in trial):
        line.update({column: value, f"{column}_by_seed": [value] * len(seeds)})
    return Brought(f"all {column}", lines, {column: value})


@given(studies())
@settings(max_examples=25)
@example(extreme("nudged_phases", int(LARGEST)))
@example(extreme("nudged_phases", 0))
@example(extreme("test_acc", 1.0))
@example(extreme("val_acc", math.nan))
@example(extreme("collapsed", True))
@example(extreme("epoch_seconds", math.inf))
def test_a_study_at_its_limits_is_reported_as_it_is_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, brought: Brought
) -> None:
    study, lines = written(tmp_path_factory.mktemp("limits"), brought), brought.lines
    try:
        found = answer(read_study(study))
        _write_tables(found, study)
        write_page(found, study / "report.html")
        for figure in all_figures(found, default_selection(found)).values():
            figure()
        text = _text(found)
    except InvalidInput as refusal:
        assert "\n" not in str(refusal)
        return
    assert all(unicodedata.category(character) not in ("Cc", "Cs") or character == "\n" for character in text)
    json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', (study / "report.html").read_text(), re.S)[1])
    seeds = lines[0][0]["config"]["seeds"]
    table = pd.read_csv(study / "trials.csv", keep_default_na=False)
    strategies = {visible(trial[0]["config"]["strategy"]) for trial in lines}
    assert {from_csv(name) for name in table["strategy"]} <= strategies
    assert set(table["seed"]) == set(seeds) and len(table) == len(table.drop_duplicates(["strategy", "seed"]))
    shown = pd.to_numeric(table["test_acc"]).dropna()
    assert shown.between(0, 1).all()


def test_the_whole_report_of_a_study_of_extremes_is_written(tmp_path: Path) -> None:
    study = written(tmp_path, extreme("nudged_phases", int(LARGEST)))
    summary = write_report(study)
    assert summary.page.exists() and (study / "figures" / "front.png").exists()
