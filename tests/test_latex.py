"""LaTeX tables fit a page: what is long is wrapped, what is worth least is left out, and pdflatex finds no box too full."""

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from analysis.latex import as_latex
from analysis.report import write_report
from analysis.thesis_tables import latex, read_table, shown_table
from hybridep.presets import PRESETS
from studies.thesis_tables import Args
from tests.synthetic_study import write_study
from tests.test_thesis_tables import written

SMALL = {"Strategy": ["cosine", "standard"], "Nudged phases": ["35.0 k", "570"]}


def rows(source: str) -> list[str]:
    return [line for line in source.splitlines() if line.endswith(r"\\")]


def test_a_small_table_is_a_plain_one_with_numbers_to_the_right() -> None:
    source = as_latex(pd.DataFrame(SMALL))
    assert r"\begin{tabular}{@{}lr@{}}" in source
    assert rows(source) == [
        r"Strategy & \begin{tabular}[b]{@{}r@{}}Nudged \\ phases\end{tabular} \\",
        r"cosine & 35.0 k \\",
        r"standard & 570 \\",
    ]
    assert "left out" not in source


def test_what_is_long_is_wrapped_and_the_last_columns_are_left_out_by_name() -> None:
    wide = {**SMALL, "What it is": ["a mix of two estimators, first one then the other"] * 2}
    wide |= {f"Cost number {number}": ["1.17 M", "570"] for number in range(12)}
    source = as_latex(pd.DataFrame(wide))
    assert r"\begin{tabularx}{\linewidth}{@{}lr>{\raggedright\arraybackslash}X" in source
    left = re.search(r"^% left out for want of room, but in the table's CSV: (.*)$", source, re.MULTILINE)
    assert left and left[1].endswith("Cost number 10, Cost number 11")
    assert "Cost \\\\ number \\\\ 0" in source
    cells = {line.count(" & ") for line in rows(source)}
    assert cells == {len(wide) - 1 - left[1].count("Cost")}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_no_table_is_wider_than_a_page(tmp_path: Path) -> None:
    sweeps = {
        "few": write_study(tmp_path / "few", trials=12, epochs=5, confirm=(100, 101, 102, 103, 104), control=True),
        "many": write_study(tmp_path / "many", trials=40, epochs=5, control=True),
        "one seed": write_study(tmp_path / "one", trials=8, epochs=5, seeds=(0,)),
    }
    tables = []
    for folder in sweeps.values():
        write_report(folder)
        tables += [path.read_text(encoding="utf-8") for path in sorted((folder / "tables").glob("*.tex"))]
    for name in sorted(name for name in PRESETS if name != "digits"):
        table, _ = read_table([written(tmp_path / name, Args(table=name), lambda strategy, seed: 0.81 + seed / 1e5)])
        tables.append(latex(table, shown_table(table)))
    assert len(tables) >= 6 + 4
    body = "\n\\clearpage\\noindent\n".join(tables)
    document = (
        f"\\documentclass{{article}}\n\\usepackage{{booktabs, tabularx}}\n\\begin{{document}}\n\\noindent\n{body}\n\\end{{document}}\n"
    )
    (tmp_path / "tables.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=batchmode", "-halt-on-error", "-no-shell-escape", "tables.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    log = (tmp_path / "tables.log").read_text(errors="replace")
    assert run.returncode == 0, log[-1500:]
    assert "Overfull" not in log
