"""`FrontImage`: the front of a running study as an image in TensorBoard, renewed now and then."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hybridep.study.events import write_image
from hybridep.study.front import Point, front
from hybridep.study.progress import Progress

PERIOD_SECONDS: Final = 20.0
# Drawing may take no more than this share of the driver's time, however many trials there are.
LARGEST_SHARE: Final = 0.02
# A collapsed strategy must not flatten the rest: what is further below the best stands at the lower edge.
SHOWN_BELOW_BEST: Final = 0.15
MOST_NAMED: Final = 6
DPI: Final = 200


class FrontImage:
    """Draws what `progress` knows into the event files in `folder`, in the driver's one thread.

    A thread of its own would import matplotlib and SciPy while a sampler does, and of two such threads Python gives one half a module.
    It is drawn seldom enough not to be felt.
    """

    def __init__(self, folder: Path, progress: Progress, accuracy: str, period: float = PERIOD_SECONDS) -> None:
        self._folder = folder
        self._progress = progress
        self._accuracy = accuracy
        self._period = period
        self._next = time.monotonic()  # the first trial that ends gets one: what drawing takes of memory is taken early
        self._drawn = 0

    def renew(self, last: bool = False) -> None:
        """A new image where trials have ended since the last one and that is long enough ago, or it is to be the last.

        No picture is worth a study: what keeps one from being drawn is told once, and the study goes on without.
        """
        points, began = tuple(self._progress.points), time.monotonic()
        if len(points) <= self._drawn or (began < self._next and not last):
            return
        try:
            write_image(self._folder, "front", len(points), draw(points, self._accuracy))
        except OSError:
            pass  # a full disk is told by what writes results
        except Exception as error:
            self._progress.note(f"The front is not drawn for TensorBoard from here on ({type(error).__name__}: {error}); all else goes on.")
            self._drawn = sys.maxsize
            return
        self._drawn = len(points)
        ended = time.monotonic()
        self._next = max(began + self._period, ended + (ended - began) / LARGEST_SHARE)


def draw(points: Sequence[Point], accuracy: str) -> bytes:
    """The front of what has ended as a PNG, as the report draws it. `accuracy` says whose accuracy it is."""
    # Only now: a study starts without what its report needs.
    from analysis.canvas import as_png, style
    from analysis.figures import Mark, draw_front
    from analysis.layout import Window
    from analysis.still import still
    from analysis.vocabulary import COSTS, THESIS, strategy_label

    best = front(points)
    members = {point.strategy for point in best}
    marks = [
        Mark(
            name=point.strategy,
            label=strategy_label(point.strategy),
            kind="thesis" if point.strategy in THESIS else "found",
            cost=point.nudged_phases,
            accuracy=point.accuracy,
            trained=() if point.collapsed else None,
            on_front=point.strategy in members,
            named=point.strategy in THESIS or point in best[-MOST_NAMED:],
        )
        for point in points
    ]
    highest = max(point.accuracy for point in best or points)
    lowest = max(min(point.accuracy for point in points), highest - SHOWN_BELOW_BEST)
    margin = max(0.06 * (highest - lowest), 0.002)
    limit = max(point.nudged_phases for point in points)
    window = Window(lowest - margin, min(highest + margin, 1.005))
    figure = draw_front(marks, limit, window, COSTS["nudged_phases"], f"{accuracy} accuracy (%), {len(points)} trials ended")
    with style():
        return as_png(still(figure), dpi=DPI)
