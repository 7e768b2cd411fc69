"""Text for the terminal: tables and sentences that fit its width, with colour where there is one."""

import io
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Final

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.escape import visible
from analysis.tables import numeric

NARROWEST: Final = 60
USUAL: Final = 100  # where there is no terminal to fit
WORDS: Final = 22  # characters of a column of words, which may be wrapped, at least


def columns() -> int:
    """The width of the terminal, or what COLUMNS says."""
    return max(NARROWEST, shutil.get_terminal_size((USUAL, 24)).columns)


def as_text(table: pd.DataFrame, width: int | None = None, marked: Sequence[bool] = (), colour: bool | None = None) -> str:
    """A table in aligned columns that fits `width`: words are wrapped, and columns left out from the last on where that is not enough.

    `marked` rows stand out where there is colour. What is left out is told below.
    """
    width = width or columns()
    table = table.astype(str).map(visible)
    kept, left_out = _fitting(table, width)
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", highlight=False)
    for name in kept:
        needed = _least(table, name)
        if numeric(table[name]):
            drawn.add_column(Text(name), justify="right", width=needed, no_wrap=False)
        else:
            drawn.add_column(Text(name), min_width=min(needed, width), overflow="fold")
    for number, row in enumerate(table[kept].to_numpy().tolist()):
        drawn.add_row(*map(Text, row), style="bold" if number < len(marked) and marked[number] else "")
    page = io.StringIO()
    shown = sys.stdout.isatty() if colour is None else colour
    Console(file=page, width=width, force_terminal=shown, color_system="standard" if shown else None).print(drawn)
    lines = [line.rstrip() for line in page.getvalue().splitlines()]
    told = [wrapped(f"(Not shown for want of room: {', '.join(left_out)}.)", width=width)] if left_out else []
    return "\n".join([*lines, *told]) + "\n"


def _least(table: pd.DataFrame, name: str) -> int:
    """The least width of a column: its widest number, or a part of its words; and the longest word of its title."""
    title = max(map(len, name.split()), default=1)
    widest = max(map(len, table[name]), default=1)
    return max(title, widest if numeric(table[name]) or widest <= WORDS else WORDS)


def _fitting(table: pd.DataFrame, width: int) -> tuple[list[str], list[str]]:
    """The names of the columns that fit side by side, and of the others."""
    names, used = list(map(str, table.columns)), 0
    for number, name in enumerate(names):
        used += _least(table, name) + 2
        if used > width and number:
            return names[:number], names[number:]
    return names, []


def wrapped(sentence: str, first: str = "", width: int | None = None) -> str:
    """A sentence in lines that fit, the later ones below the text of the first."""
    kept = visible(sentence).replace(" %", "\N{NO-BREAK SPACE}%")
    filled = textwrap.fill(
        kept, width or columns(), initial_indent=first, subsequent_indent=" " * len(first), break_long_words=False, break_on_hyphens=False
    )
    return filled.replace("\N{NO-BREAK SPACE}", " ")
