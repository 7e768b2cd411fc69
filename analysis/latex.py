"""Tables as LaTeX that fit a page, with booktabs' rules, in small print: long texts are wrapped, then the last columns left out."""

from typing import Final

import pandas as pd

from analysis.escape import for_latex
from analysis.tables import numeric

PAGE: Final = 345.0  # points: a page of LaTeX's own class article; a column in most journals that have two is 230 to 250
GAP: Final = 8.0  # points between two columns
LINES: Final = 3  # that a wrapped text may take, if no more are needed for want of room
EM: Final = 8.0  # points, in \footnotesize
# Widths in EM, a little more than they are. What LaTeX has no sign for is told by its number.
_NARROW, _WIDE, _OTHER = frozenset(" fijlrstI.,:;()[]'!|/-"), frozenset("mwMW%±−×=<>—"), frozenset("–β●ρ·")
HEAD: Final = (
    "% needs \\usepackage{booktabs, tabularx}; as wide as a page's text, in two columns it belongs into table*\n"
    "\\begingroup\\footnotesize\\setlength{\\tabcolsep}{4pt}%\n"
)


def as_latex(table: pd.DataFrame) -> str:
    """A tabular or tabularx, numbers to the right, columns in the order of their worth."""
    kept = len(table.columns)
    while kept > 2 and _width(table.iloc[:, :kept]) > PAGE:
        kept -= 1
    left = ", ".join(map(str, table.columns[kept:]))
    note = f"% left out for want of room, but in the table's CSV: {for_latex(left)}\n" if left else ""
    return note + _tabular(table.iloc[:, :kept])


def _tabular(table: pd.DataFrame) -> str:
    wrapped = _wrapped(table)
    kinds = [_kind(table[name], name in wrapped) for name in table.columns]
    heads = [_head(table[name], kind) for name, kind in zip(table.columns, kinds, strict=True)]
    rows = [" & ".join(for_latex(str(cell)) for cell in row) for row in table.to_numpy().tolist()]
    body = "\n".join([r"\toprule", rf"{' & '.join(heads)} \\", r"\midrule", *(rf"{row} \\" for row in rows), r"\bottomrule"])
    environment, width = ("tabularx", "{\\linewidth}") if wrapped else ("tabular", "")
    columns = f"@{{}}{''.join(kinds)}@{{}}"
    return f"{HEAD}\\begin{{{environment}}}{width}{{{columns}}}\n{body}\n\\end{{{environment}}}\n\\endgroup\n"


def _kind(column: pd.Series, wrapped: bool) -> str:
    return ">{\\raggedright\\arraybackslash}X" if wrapped else "r" if numeric(column) else "l"


def _head(column: pd.Series, kind: str) -> str:
    """A title in as many lines as keep it from widening its column."""
    if kind not in "lr":
        return for_latex(str(column.name))
    lines = list(map(for_latex, _title_lines(column)))
    stacked = r" \\ ".join(lines)
    return lines[0] if len(lines) == 1 else f"\\begin{{tabular}}[b]{{@{{}}{kind}@{{}}}}{stacked}\\end{{tabular}}"


def _title_lines(column: pd.Series) -> list[str]:
    words = str(column.name).split(" ")
    room = max([_text_width(str(cell)) for cell in column] + [_text_width(word) for word in words])
    lines: list[str] = []
    for word in words:
        if lines and _text_width(f"{lines[-1]} {word}") <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _wrapped(table: pd.DataFrame) -> set[str]:
    """The columns of texts that wrapping makes narrower, where the table is too wide without."""
    widths = {str(name): _column_width(table[name]) for name in table.columns}
    if sum(widths.values()) + GAP * (len(widths) - 1) <= PAGE:
        return set()
    return {name for name, width in widths.items() if not numeric(table[name]) and _least(table[name]) < width}


def _least(column: pd.Series) -> float:
    """The width of a wrapped column in which no word is cut and no text has more than LINES lines, or hardly any."""
    words = [word for text in [column.name, *column] for word in str(text).split(" ")]
    return max([_column_width(column) / LINES, *map(_text_width, words)])


def _width(table: pd.DataFrame) -> float:
    """Points that a table needs at least; its wrapped columns share what is left in equal parts."""
    wrapped = _wrapped(table)
    fixed = sum(_column_width(table[name]) for name in table.columns if name not in wrapped)
    return fixed + len(wrapped) * max((_least(table[name]) for name in wrapped), default=0.0) + GAP * (len(table.columns) - 1)


def _column_width(column: pd.Series) -> float:
    return max(map(_text_width, [*map(str, column), *_title_lines(column)]))


def _text_width(text: str) -> float:
    return EM * sum(map(_character_width, text))


def _character_width(character: str) -> float:
    if character in _NARROW:
        return 0.38
    if character in _WIDE or character.isupper():
        return 0.93
    return 0.54 if character.isascii() or character in _OTHER else 4.5
