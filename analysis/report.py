"""The report of a study: `python -m analysis.report <study> [<study> ...]` writes tables, figures and a page, and prints the main table."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import tyro

from analysis.answer import Answer, answer
from analysis.decision import shown_answers, shown_course
from analysis.figures import all_figures
from analysis.findings import certainty, findings, headline
from analysis.latex import as_latex
from analysis.layout import default_selection
from analysis.merge import read_studies
from analysis.page import write_page
from analysis.read import Study, read_study
from analysis.still import save_still
from analysis.tables import (
    as_markdown,
    front_table,
    main_strategies,
    shown_dominance,
    shown_matches,
    shown_samplers,
    shown_strategies,
    strategies_table,
    write_csv,
)
from analysis.terminal import as_text, wrapped
from hybridep.command import as_command
from hybridep.config import InvalidInput

# In the order in which they are given up where a terminal or a page is narrow, the last one first.
COLUMNS = (
    *("Strategy", "What it is", "Test accuracy (%)", "Validation accuracy (%)", "Of centered (%)", "Nudged phases", "Seeds"),
    *("95 % interval", "Relaxation steps", "P(front)", "Time (s)"),
)


@dataclass(frozen=True)
class ReportSummary:
    """What a report says in short: `text` for the terminal, the front's strategies cheapest first, the page, and all that it shows."""

    text: str
    front: tuple[str, ...]
    page: Path
    answer: Answer


def write_report(study: Path) -> ReportSummary:
    """Analyse the study in a folder and write the report into it. InvalidInput where there is nothing to analyse."""
    return write_answer(read_study(study), study)


def write_answer(study: Study, folder: Path) -> ReportSummary:
    """Analyse a study and write its report into `folder`: CSV tables, tables/*.md and *.tex, figures/*.png and *.pdf, report.html."""
    found = answer(study)
    folder.mkdir(parents=True, exist_ok=True)
    _write_tables(found, folder)
    _write_figures(found, folder / "figures")
    write_page(found, folder / "report.html")
    return ReportSummary(_text(found), found.front, folder / "report.html", found)


def _write_tables(found: Answer, folder: Path) -> None:
    full = {
        "trials": found.study.trials,
        "curves": found.study.curves,
        "strategies": strategies_table(found),
        "front": front_table(found),
        "dominance": found.dominance,
        **({"matching": found.match.table} if found.match else {}),
        **({"decision": found.decision.table} if found.decision else {}),
        "hypervolume": found.progress,
    }
    for name, table in full.items():
        write_csv(table, folder / f"{name}.csv")
    if found.decision:
        _write_json(found.decision.as_json(), folder / "decision.json")
    (folder / "tables").mkdir(exist_ok=True)
    strategies = shown_strategies(found, main_strategies(found))
    for name, shown in (
        ("front", strategies),
        ("dominance", shown_dominance(found)),
        ("matching", shown_matches(found)),
        ("samplers", shown_samplers(found)),
        ("answers", shown_answers(found.decision)),
        ("decision", shown_course(found.decision)),
    ):
        printed = _marked(shown, "") if shown is strategies else shown
        for path, text in ((f"{name}.md", as_markdown(shown)), (f"{name}.tex", as_latex(printed))):
            if len(shown) or name in ("front", "dominance"):
                (folder / "tables" / path).write_text(text, encoding="utf-8")
            else:
                (folder / "tables" / path).unlink(missing_ok=True)  # of an earlier report


def _write_json(content: dict[str, Any], path: Path) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def _write_figures(found: Answer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in all_figures(found, default_selection(found)).items():
        spec = figure()
        if spec is None:
            for suffix in ("png", "pdf"):
                (folder / f"{name}.{suffix}").unlink(missing_ok=True)  # of an earlier report
        else:
            save_still(spec, folder / name)


def _text(found: Answer) -> str:
    """The answer first, then the table, then the rest, as wide as the terminal is."""
    shown = shown_strategies(found, main_strategies(found))
    parts = [wrapped(headline(found)), ""]
    if found.decision:
        parts += [as_text(shown_answers(found.decision)), ""]
    if len(shown):
        parts += [
            as_text(_marked(shown, "  "), marked=[mark != "" for mark in shown["Front"]]),
            wrapped("● on the front: nothing else is both cheaper and more accurate."),
            "",
        ]
    parts += [wrapped(sentence, "- ") for sentence in [*certainty(found), *findings(found), *found.omitted]]
    return "\n".join([*parts, *(wrapped(note, "! ") for note in found.notes)]) + "\n"


def _marked(shown: pd.DataFrame, else_: str) -> pd.DataFrame:
    """The table of strategies with a mark at the names of those on the front, columns by their worth."""
    if shown.empty:
        return shown
    names = [f"{'● ' if mark else else_}{name}" for mark, name in zip(shown["Front"], shown["Strategy"], strict=True)]
    return shown.assign(Strategy=names)[[name for name in COLUMNS if name in shown]]


@dataclass(frozen=True)
class Arguments:
    """Analyse one study, or several of one protocol together."""

    studies: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Study folders."""

    out: Path | None = None
    """Folder for the report; the study's own where there is one study, needed where there are several."""


def main(arguments: Arguments) -> None:
    """Write the report and print its table."""
    study = read_studies(arguments.studies)
    folder = arguments.out or arguments.studies[0]
    if len(arguments.studies) > 1 and arguments.out is None:
        raise InvalidInput(f"--out must name a folder for the report on {len(arguments.studies)} studies together")
    if len(arguments.studies) > 1 and (folder / "study.json").exists():
        raise InvalidInput(f"--out {folder}: is a study itself, its tables would be overwritten")
    if any(header.get("kind") == "thesis_tables" for header in study.headers):
        raise InvalidInput(f"studies: {study.names[0]} is one of thesis_tables; python -m analysis.thesis_report makes its tables")
    summary = write_answer(study, folder)
    print(f"{summary.text}\n{summary.page}")


def command() -> int:
    """The report that the command line asks for; the process's exit code."""
    try:
        main(tyro.cli(Arguments, prog="python -m analysis.report"))
    except InvalidInput as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return 2
    except OSError as problem:
        print(f"error: {problem.filename or '--out'}: {problem.strerror}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    as_command(command)
