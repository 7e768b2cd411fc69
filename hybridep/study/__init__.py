"""What every study does: read its arguments, keep its folder, run its trials on Ray, show how far it is.

A study of one's own is a dataclass of arguments, a function that turns them into a `Plan`, and `main`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from hybridep.study.arguments import FolderArgs, StudyArgs
from hybridep.study.plan import Plan, PlannedTrial, SearchPlan
from hybridep.study.study import main

if TYPE_CHECKING:
    from analysis.opened import OpenedStudy

__all__ = ["FolderArgs", "Plan", "PlannedTrial", "SearchPlan", "StudyArgs", "main", "open"]


def open(place: str | Path) -> "OpenedStudy":
    """The study in a folder or at a URL, to look at: `.trials`, `.curves`, `.front`, `.figure("front")`."""
    from analysis.opened import OpenedStudy  # what shows results is imported only by who looks at some

    return OpenedStudy.at(place)
