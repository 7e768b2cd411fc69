"""The outputs of a study of one of the thesis's tables: `python -m analysis.thesis_report <study> [<study> ...]` writes them anew."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from analysis.tables import write_csv
from analysis.terminal import as_text, wrapped
from analysis.thesis_figures import draw_thesis_figures
from analysis.thesis_tables import latex, markdown, read_table, shown_table
from hybridep.command import as_command
from hybridep.config import InvalidInput


def write_thesis_report(folders: Sequence[Path], out: Path) -> str:
    """Write table.csv, .md and .tex, figures/accuracy and figures/learning_curves (PNG and PDF) for studies of one table into `out`.

    A single study also gets its trials.csv and curves.csv. Returns the table as text for the terminal. Trials that are still running
    are left out, and the outputs say so. InvalidInput as `read_table` raises it.
    """
    table, studies = read_table(folders)
    out.mkdir(parents=True, exist_ok=True)
    if len(studies) == 1:
        departures = " ".join(table.departures)
        write_csv(studies[0].trials.assign(departures=departures), out / "trials.csv")
        write_csv(studies[0].curves.assign(departures=departures), out / "curves.csv")
    write_csv(table.rows, out / "table.csv")
    shown = shown_table(table)
    (out / "table.md").write_text(markdown(table, shown), encoding="utf-8")
    (out / "table.tex").write_text(latex(table, shown), encoding="utf-8")
    draw_thesis_figures(table, out / "figures")
    return "\n".join(
        [
            "",
            wrapped(table.title),
            "",
            as_text(shown),
            *map(wrapped, table.notes),
            f"Written to {out}: table.csv, table.md, table.tex, figures/",
        ]
    )


@dataclass(frozen=True)
class Args:
    studies: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of thesis_tables studies of one table."""
    out: Path | None = None
    """Folder for the outputs; the study's own if there is one study."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the outputs anew, of trials that have ended; the process's exit code."""
    args = tyro.cli(Args, args=argv, description=__doc__)
    try:
        if not args.studies:
            raise InvalidInput("studies: must name at least one study folder")
        if args.out is None and len(args.studies) > 1:
            raise InvalidInput("--out: must be given where one table is made of several studies")
        print(write_thesis_report(args.studies, args.out or args.studies[0]))
    except InvalidInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    as_command(main)
