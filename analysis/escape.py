"""Text that may come from a user, as it must stand in what a report writes: HTML, a page's script, LaTeX, Markdown, CSV, figures, terminal.

Folders, strategies, families and data sets are named by users, and a name may hold any character that a file system or Python allows.
Everything that puts text into one of these formats calls its function here, once, as the last thing before the text is joined with markup.
"""

import html
import json
import re
import unicodedata
from typing import Any, Final

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

# A cell that begins like this is a formula to a spreadsheet; apostrophes before it are those of `for_csv`, or of a text that looks like it.
_FORMULA: Final = re.compile("'*[=+\\-@\uff1d\uff0b\uff0d\uff20]")

_MARKDOWN: Final = str.maketrans(
    {character: f"\\{character}" for character in "\\`*_{}[]<>#~&$!"}
    # Not all readers know an escaped bar; all know this. It is what separates cells.
    | {"|": "&#124;"}
)

_LATEX: Final = {
    **{character: f"\\{character}" for character in "{}$&#_%"},
    **{character: f"${character}$" for character in "<>|"},
    # A bracket or a star that opens a row would be taken for an argument of the line break before it.
    **{character: f"{{{character}}}" for character in "[]*"},
    **{"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "`": r"\textasciigrave{}", '"': "{''}"},
    **{"±": r"$\pm$", "−": "$-$", "×": r"$\times$", "·": r"$\cdot$", "≤": r"$\leq$", "≥": r"$\geq$", "●": r"$\bullet$"},
    **{"–": "--", "—": "---", "β": r"$\beta$", "ρ": r"$\rho$", "Φ": r"$\Phi$"},
    **{"ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}", "ł": r"\l{}", "Ł": r"\L{}"},
}  # fmt: skip
# Combining marks and the commands that set them on a letter, in every encoding of fonts.
_ACCENTS: Final = dict(zip("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327", "`'^~=u.\"rHvc", strict=True))
# Two of these in a row are drawn as one other sign.
_LIGATURES: Final = "-',"


def visible(text: str) -> str:
    """Text in one line that can be encoded and obeys nobody: white space is a space; control characters and halves of characters are �.

    Also what the terminal gets: a name must not move its cursor.
    """
    return "".join(
        " " if character.isspace() else REPLACEMENT if unicodedata.category(character) in ("Cc", "Cs") else character for character in text
    )


def for_html(text: str) -> str:
    """Text between tags, or in an attribute with quotes around it."""
    return html.escape(visible(text))


def for_script(values: Any) -> str:
    """JSON that cannot end the script element it stands in. ValueError where a number is not finite."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # Halves of characters, which a file cannot hold, stand inside strings only.
    return re.sub("[\ud800-\udfff]", REPLACEMENT, text).replace("<", "\\u003c")


def for_markdown(text: str) -> str:
    """Text in a paragraph or in a cell of a table."""
    return visible(text).translate(_MARKDOWN)


def for_latex(text: str) -> str:
    """LaTeX source of a text, also as the first thing in a row of a table; it needs no packages and compiles on every engine.

    A character that LaTeX cannot be expected to have is told by its number, [U+4E2D].
    """
    characters = unicodedata.normalize("NFC", visible(text))
    parts: list[str] = []
    for before, character in zip(["", *characters], characters, strict=False):
        if character == before and character in _LIGATURES:
            parts.append("{}")
        parts.append(_latex_character(character))
    return "".join(parts)


def _latex_character(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    if character.isascii():
        return character
    apart = unicodedata.normalize("NFD", character)
    if len(apart) == 2 and apart[0].isascii() and apart[0].isalpha() and apart[1] in _ACCENTS:
        return f"\\{_ACCENTS[apart[1]]}{{{apart[0]}}}"
    return f"{{[}}U+{ord(character):04X}{{]}}"


def for_csv(text: str) -> str:
    """Text of a cell that no spreadsheet takes for a formula: an apostrophe goes before one, which `from_csv` takes away. Numbers stay.

    Quotes and commas are the business of what writes the file.
    """
    text = visible(text)
    return f"'{text}" if _FORMULA.match(text) and not _is_number(text) else text


def from_csv(text: str) -> str:
    """The text that `for_csv` was given, white space and control characters aside."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def for_figure(text: str) -> str:
    """Text in a figure of matplotlib: dollars are no formula there, and a label that begins with `_` is not left out of the legend."""
    return re.sub("^_", " _", visible(text)).replace("$", r"\$")
