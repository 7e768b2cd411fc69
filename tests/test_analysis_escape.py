"""Text of users in what a report writes: it is shown as it was written, and nothing in it is obeyed."""

import csv
import io
import json
import shutil
import string
import subprocess
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.escape import REPLACEMENT, for_csv, for_figure, for_html, for_latex, for_markdown, for_script, from_csv, visible
from analysis.latex import as_latex
from analysis.tables import as_markdown, write_csv
from analysis.terminal import as_text

PRINTABLE = "".join(filter(str.isprintable, string.printable))
NAMES = [
    *PRINTABLE,
    *(f"a{character}b{character}" for character in string.punctuation),
    *(character * 3 for character in string.punctuation),
    *("a$b^c", "[1em] x", "* x", r"\input{/etc/passwd}", r"\\", "{", "</script><script>alert(1)</script>", "<!--", "&amp;"),
    *("\"quoted\", 'too'", "=HYPERLINK(1)", "@SUM(1)", "+1+cmd|' /C calc'!A0", "'=1", "''-x", "-0.5", "`code`", "=１"),
    *("[a](b)", "![a](b)", "a | b", r"a \| b"),
    *("~~a~~", "Gödel", "Go\u0308del", "naïve £ ß Ł ø", "中文 № 5", "β = 0.85 ± 0.1 − 2", "😀", "e\u0301\u0323", "\u202eleft"),
]  # fmt: skip
name = st.text(st.characters(codec="utf-8"), max_size=20)
needs_latex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")


class Reader(HTMLParser):
    """The text of a document and the names of its tags."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.text, self.tags = "", []
        self.feed(document)
        self.close()

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attributes))


@given(name)
@example("</script>&lt;\"'")
def test_html_shows_a_name_in_text_and_attributes(text: str) -> None:
    read = Reader(f'<p title="{for_html(text)}">{for_html(text)}</p>')
    assert read.text == visible(text)
    assert read.tags == [("p", [("title", visible(text))])]


@pytest.mark.parametrize("text", NAMES)
def test_html_shows_every_name(text: str) -> None:
    assert Reader(f"<p>{for_html(text)}</p>").text == visible(text)


@given(st.dictionaries(name, name, max_size=3))
@example({"</script><!--": "]]>"})
def test_json_in_a_page_is_read_as_it_was_and_does_not_end_its_script(values: dict[str, str]) -> None:
    script = for_script(values)
    assert json.loads(script) == values
    assert "<" not in script


def test_json_in_a_page_can_be_written_where_a_folder_name_is_not_utf_8() -> None:
    assert json.loads(for_script(["caf\udce9"])) == [f"caf{REPLACEMENT}"]
    for_script(["caf\udce9"]).encode()


def shown_by_markdown(source: str) -> str:
    return Reader(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(source)).text


@given(name.filter(lambda text: text.strip() == text and text))
@example("a\\|b")
def test_markdown_shows_a_name_in_a_cell_of_a_table(text: str) -> None:
    table = pd.DataFrame({"Strategy": [text, "other"], "Seeds": ["1", "2"]})
    cells = shown_by_markdown(as_markdown(table)).split("\n")
    assert visible(text).strip() in [cell.strip() for cell in cells]
    assert "other" in cells and "2" in cells


@pytest.mark.parametrize("text", NAMES)
def test_markdown_shows_every_name_in_a_sentence(text: str) -> None:
    assert shown_by_markdown(f"The study {for_markdown(text)} has ended.").strip() == f"The study {visible(text)} has ended."


@given(name)
@example("=1+1")
@example("'=1+1")
@example("-x")
def test_a_cell_of_csv_is_no_formula_and_is_read_back(text: str) -> None:
    cell = for_csv(text)
    assert cell == visible(text) or cell == f"'{visible(text)}"
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")) or np.isfinite(float(cell)) or np.isinf(float(cell))
    assert from_csv(cell) == visible(text)


@pytest.mark.parametrize("text", NAMES)
def test_a_file_of_csv_holds_every_name(text: str, tmp_path: Path) -> None:
    write_csv(pd.DataFrame({"strategy": [text, "other"], "value": [-0.5, 2.0], "mixed": [text, 1.5]}), tmp_path / "table.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text(encoding="utf-8"), newline="")))
    assert [from_csv(row["strategy"]) for row in rows] == [visible(text), "other"]
    assert [float(row["value"]) for row in rows] == [-0.5, 2.0]
    assert [from_csv(row["mixed"]) for row in rows] == [visible(text), "1.5"]
    if not text[:1].isdigit() and text not in ("-0.5",):
        assert not rows[0]["strategy"].startswith(("=", "+", "-", "@"))


@needs_latex
def test_latex_compiles_with_every_name_and_shows_its_letters(tmp_path: Path) -> None:
    # Every name as the first cell of a row, where LaTeX is still looking for arguments of the line break before it, and in a sentence.
    rows = as_latex(pd.DataFrame({"Strategy": NAMES, "Seeds": ["1"] * len(NAMES)})).splitlines()
    first, last = rows.index(r"\midrule") + 1, rows.index(r"\bottomrule")
    head, body, foot = rows[:first], rows[first:last], rows[last:]
    assert len(body) == len(NAMES)
    # A tabular does not break over pages.
    parts = ["\n".join([*head, *body[place : place + 40], *foot]) for place in range(0, len(body), 40)]
    sentences = "\n\n".join(for_latex(text) for text in NAMES)
    document = (
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
        + "\n\n".join(parts)
        + f"\n\n{sentences}\n\\end{{document}}\n"
    )
    (tmp_path / "names.tex").write_text(document, encoding="utf-8")
    run = subprocess.run(
        ["pdflatex", "-interaction=batchmode", "-halt-on-error", "-no-shell-escape", "names.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, (tmp_path / "names.log").read_text(errors="replace")[-1500:]
    assert "Missing character" not in (tmp_path / "names.log").read_text(errors="replace")


@given(name)
def test_no_name_leaves_latex_a_sign_that_it_obeys(text: str) -> None:
    source = for_latex(text)
    assert source.isascii()
    # What is left when commands, groups and formulas are taken out are letters, digits and harmless punctuation.
    for own in "{}$&#_%":
        source = source.replace(f"\\{own}", "")
    assert not set("&#_%") & set(source)
    assert source.count("{") == source.count("}") and source.count("$") % 2 == 0


def test_figures_show_every_name_as_it_is() -> None:
    figure = Figure()
    renderer = FigureCanvasAgg(figure).get_renderer()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a font may lack a character; nothing else may be amiss
        for text in filter(str.strip, NAMES):
            shown = figure.text(0, 0, for_figure(text)).get_window_extent(renderer)
            plain = figure.text(0, 0, f" {text}" if text.startswith("_") else visible(text), parse_math=False).get_window_extent(renderer)
            assert shown.bounds == plain.bounds, text


def test_a_name_with_an_underscore_before_it_stands_in_the_legend() -> None:
    axes = Figure().subplots()
    axes.plot([0, 1], label=for_figure("_mine"))
    assert [label.strip() for label in axes.get_legend_handles_labels()[1]] == ["_mine"]


def test_a_name_cannot_move_the_cursor_of_a_terminal() -> None:
    assert as_text(pd.DataFrame({"Strategy": ["\x1b[2Jgone\n"]})).splitlines()[-1] == f"{REPLACEMENT}[2Jgone"
