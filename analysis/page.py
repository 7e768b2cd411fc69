"""report.html: one file that works offline, with its data and plotly.js inside."""

import base64
import gzip
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd
import plotly

from analysis.answer import HEADROOM, Answer
from analysis.curves import mean_curves
from analysis.decision import shown_answers, shown_course
from analysis.escape import for_html, for_script
from analysis.findings import certainty, findings, headline, match_question
from analysis.glossary import GLOSSARY, explained
from analysis.layout import MOST_CURVES, drawn_strategies
from analysis.payload import payload, thinning
from analysis.results import csv_value
from analysis.tables import main_strategies, shown_dominance, shown_matches, shown_strategies
from analysis.vocabulary import METRICS
from analysis.words import count, joined, percent

MOST_MATCHES = 6  # candidates shown beside the question whether centered can be matched
MOST_CLAIMS = 4  # rows of the dominance table for each strategy of the thesis
# How the titles of columns of numbers begin.
NUMERIC = (
    "Test accuracy",
    "Validation accuracy",
    "Difference",
    "95 %",
    "Nudged",
    "Of centered",
    "Relaxation",
    "Time",
    "P(front)",
    "Seeds",
    "p (Holm)",
)


def write_page(answer: Answer, path: Path) -> None:
    """Write the page in one go: an open browser never reloads half of it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(render(answer), encoding="utf-8")
    partial.replace(path)


def render(answer: Answer) -> str:
    """The page as HTML."""
    package = files("analysis")
    template = Template(package.joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=for_html(_title(answer)),
        subtitle=for_html(_subtitle(answer)),
        style=package.joinpath("page.css").read_text(encoding="utf-8"),
        script=package.joinpath("page.js").read_text(encoding="utf-8"),
        plotly=_compressed_plotly(),
        data=for_script(payload(answer)),
        answer=_sentence(headline(answer)),
        certainty=_items(certainty(answer)),
        findings=_items(findings(answer)),
        notes=_items([*answer.notes, *answer.omitted, *filter(None, [thinning(answer)])]),
        first=_first_caption(answer),
        strategies=_table(shown_strategies(answer, main_strategies(answer)), answer),
        decision=_decision(answer),
        matching=_matching(answer),
        dominance=_dominance(answer),
        load=_sentence(f"Times were measured {answer.load}." if answer.load else ""),
        others=_others(answer),
        reference=_sentence(_reference(answer)),
        glossary=_definitions(GLOSSARY.items()),
        study=_definitions(_study_facts(answer)),
        protocol=_definitions(
            (name, csv_value(value)) for name, value in answer.study.protocol.items() if name not in (*answer.strategies.fields, "seed")
        ),
    )


@cache
def _compressed_plotly() -> str:
    """plotly.js as base64 of gzip: 2 MB instead of the 4.8 MB of the script itself. The page inflates it."""
    script = Path(plotly.__file__).with_name("package_data").joinpath("plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(script, compresslevel=9, mtime=0)).decode()


def _title(answer: Answer) -> str:
    header = answer.study.headers[0]
    kind = str(header.get("kind") or "study").replace("_", " ").capitalize()
    dataset = (header.get("dataset") or {}).get("name") or answer.study.protocol.get("dataset")
    return ", ".join(filter(None, [f"{kind} on {dataset}" if dataset else kind, answer.study.data_note]))


def _subtitle(answer: Answer) -> str:
    trials, strategies = answer.study.trials, answer.strategies
    protocol = answer.study.protocol
    parts = [
        answer.study.name,
        f"{count(len(strategies.table))} strategies, {count(trials['trial_id'].nunique())} trials, {count(len(trials))} training runs",
        f"network {csv_value(protocol.get('channels') or ())}{' ' if protocol.get('channels') else ''}{csv_value(protocol['sizes'])}"
        if protocol.get("sizes")
        else "",
        f"{protocol['epochs']} epochs" if protocol.get("epochs") else "",
    ]
    return " · ".join(filter(None, parts))


def _reference(answer: Answer) -> str:
    reference = answer.references["nudged_phases"]
    cost = f"{count(reference.cost)} nudged phases ({HEADROOM} times the most expensive strategy of the thesis)"
    return f"{cost} at {percent(reference.accuracy, 1)} % (guessing)"


def _first_caption(answer: Answer) -> str:
    """What the first figure shows, and what it does not."""
    strategies = answer.strategies
    whose = (
        "test accuracy on fresh seeds" if strategies.confirmed else f"{METRICS[strategies.metric].lower()}, not confirmed on fresh seeds"
    )
    bars = "bars are one standard deviation over seeds" if (strategies.table["n_seeds"] > 1).any() else "one seed each"
    return _sentence(
        f"Up is accurate, left is cheap: {whose} against the cost of training; {bars}. The line is the front of what is drawn. Strategies "
        "that collapsed on some seed are on no front; their seeds stand alone. Triangles on the lower edge lie below it."
    )


def _sentence(text: str) -> str:
    return explained(for_html(text).replace(" %", "&nbsp;%"))


def _items(sentences: Iterable[str]) -> str:
    return "".join(f"<li>{_sentence(sentence)}</li>" for sentence in sentences)


def _definitions(facts: Iterable[tuple[str, Any]]) -> str:
    return "".join(
        f"<div><dt>{for_html(str(name))}</dt><dd>{for_html(str(value))}</dd></div>" for name, value in facts if value not in (None, "")
    )


def _study_facts(answer: Answer) -> list[tuple[str, Any]]:
    """Where the numbers come from: the entries of study.json that say something."""
    entries = ("kind", "started", "ended", "trials_planned", "seeds", "dataset", "versions", "git", "machine", "device", "arguments")
    return [fact for header in answer.study.headers for name in entries for fact in _leaves(name, header.get(name))]


def _leaves(name: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"{name} {deeper}", told) for key, item in value.items() for deeper, told in _leaves(key, item)]
    return [] if value in (None, [], "") else [(name, csv_value(value))]


def _decision(answer: Answer) -> str:
    """The section on what was decided and how; nothing where there was nothing to decide."""
    found = answer.decision
    if found is None:
        return ""
    asked = (
        "Does any contender come that close to centered, on the mean over seeds, for no more of its nudged phases? Yes: the whole "
        "interval of one lies above the margin. No: those of all that are cheap enough lie below it, or they collapsed. Training less: "
        "the control that costs as much."
    )
    caption = (
        "<b>The course of the decision.</b> Difference from centered after each round, with its interval. "
        "Dashed lines are the margins. Triangles lie below the edge, crosses collapsed on some seed, diamonds are controls. What is "
        "decided for all questions gets no more seeds."
    )
    return (
        f'<section><h2>What was decided</h2>{_table(shown_answers(found), answer)}<p class="small">{_sentence(asked)}</p>'
        f'<figure><div id="decision" class="plot"></div><figcaption>{caption}</figcaption></figure>'
        f"<details><summary>Every look</summary>{_table(shown_course(found), answer)}</details></section>"
    )


def _matching(answer: Answer) -> str:
    """The section on the platform's question; nothing where centered is missing."""
    found = answer.match
    if found is None:
        return ""
    margin, budget = percent(found.margin, 0), percent(found.budget, 0)
    shown = shown_matches(answer, MOST_MATCHES)
    left = len(found.table) - len(shown)
    more = f"<p>Not shown, but in matching.csv: {count(left)} more.</p>" if left else ""
    table = _table(shown, answer) + more if len(shown) else "<p>No candidate was that cheap.</p>"
    return (
        f"<section><h2>{for_html(match_question(found))}</h2>{table}"
        f'<p class="small">All candidates at {budget}&nbsp;% of centered\'s nudged phases or fewer. The answer rests on the first, which '
        "the search chose: trying many does not help. Differences are to centered, paired over shared seeds. Yes: the whole 95&nbsp;% "
        f"interval lies above −{margin} point; no: all of it below; open: neither.</p></section>"
    )


def _dominance(answer: Answer) -> str:
    claims = shown_dominance(answer)
    if claims.empty:
        return "<p>No found strategy on the front dominates a strategy of the thesis.</p>"
    shown = claims.groupby("Thesis strategy", sort=False).head(MOST_CLAIMS)
    left, dominated = len(claims) - len(shown), len(answer.dominance) - len(claims)
    more = [f"{count(left)} more from the front" if left else "", f"{count(dominated)} that are dominated themselves" if dominated else ""]
    told = f"<p>Not shown, but in dominance.csv: {joined(filter(None, more))}.</p>" if any(more) else ""
    return _table(shown, answer) + told


def _others(answer: Answer) -> str:
    main = set(main_strategies(answer))
    names = [name for name in drawn_strategies(answer) if name not in main][:MOST_CURVES]
    if not names:
        return ""
    table = shown_strategies(answer, names).drop(columns="Front")
    return f"<details><summary>{len(names)} more strategies</summary>{_table(table, answer)}</details>"


def _table(table: pd.DataFrame, answer: Answer) -> str:
    """A table whose rows become cards on a phone; a strategy's name is a button that shows its curves, with a small curve of its p_std."""
    by_label = {name.replace("_", " "): name for name in answer.strategies.table.index}
    small = _small_curves(answer, [by_label[label] for label in table.get("Strategy", []) if label in by_label])
    columns = [str(name) for name in table.columns if name != "Front"]
    head = "".join(f'<th scope="col"{_class(name)}>{for_html(name)}</th>' for name in columns)
    lines = []
    for row in table.to_dict("records"):
        cells = []
        for name in columns:
            text = for_html(str(row[name]))
            own = by_label.get(str(row[name]))
            if name in ("Strategy", "Dominated by") and own:
                text = f'<button type="button" class="pick" data-strategy="{for_html(own)}">{text}</button>'
                text += '<span class="member" title="on the front">● front</span>' if row.get("Front") else ""
            elif name == "What it is":
                text = f"<span>{text}</span>{small.get(by_label.get(str(row['Strategy']), ''), '')}"
            cells.append(f'<td data-label="{for_html(name)}"{_class(name)}>{text}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _small_curves(answer: Answer, names: list[str]) -> dict[str, str]:
    """p_std over training as a small drawing, for each strategy whose p_std changes."""
    drawn = {}
    for name, own in mean_curves(answer, names).groupby("strategy", sort=False):
        values = own["p_std"].to_numpy(dtype=float)
        values = values[np.isfinite(values)]
        if len(values) < 2 or np.ptp(values) < 0.02:
            continue
        places = np.unique(np.linspace(0, len(values) - 1, 40).astype(int))
        path = " ".join(f"{48 * at / (len(values) - 1) + 1:.1f},{13 - 12 * values[at]:.1f}" for at in places)
        drawn[str(name)] = (
            f'<svg class="curve" viewBox="0 0 50 14" width="50" height="14" role="img" aria-label="p_std over training"><title>p_std over '
            f'training, from 0 (below) to 1</title><polyline points="{path}"/></svg>'
        )
    return drawn


def _class(column: str) -> str:
    kinds = {"Verdict": "verdict", "Answer": "verdict", "Within the margin": "verdict", "What it is": "words"}
    kind = "number" if column.startswith(NUMERIC) else kinds.get(column, "")
    return f' class="{kind}"' if kind else ""
