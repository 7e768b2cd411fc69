"""`FrontImage`: the front of a running study as an image in TensorBoard, renewed now and then."""

import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hybridep.study.events import write_image
from hybridep.study.front import Point, front
from hybridep.study.progress import Progress

if TYPE_CHECKING:
    from analysis.canvas import Figure

PERIOD_SECONDS: Final = 20.0
# Drawing may take no more than this share of the driver's time, however many trials there are.
LARGEST_SHARE: Final = 0.02
# A collapsed strategy must not flatten the rest: what is further below the best stands at the lower edge.
SHOWN_BELOW_BEST: Final = 0.15


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

    def renew(self) -> None:
        """A new image where trials have ended since the last one and that is long enough ago."""
        if time.monotonic() >= self._next:
            self._draw()

    def close(self) -> None:
        """The last image, with every trial that has ended."""
        self._draw()

    def _draw(self) -> None:
        """No picture is worth a study: what keeps one from being drawn is told once, and the study goes on without."""
        points = tuple(self._progress.points)
        if len(points) <= self._drawn:
            return
        began = time.monotonic()
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
    """The front as a PNG: the thesis's strategies by their own markers, the others grey. `accuracy` says whose accuracy it is."""
    # Only now: a study starts without what its report needs.
    from analysis.canvas import as_png, style

    with style():
        return as_png(_front_figure(points, accuracy), dpi=100)


def _front_figure(points: Sequence[Point], accuracy: str) -> "Figure":
    from analysis.canvas import FAINT, INK, new_figure
    from analysis.figures import MARKERS
    from analysis.layout import THESIS_COLOURS

    figure = new_figure(7, 4.5)
    axes = figure.subplots()
    lowest = max(0.0, max(point.accuracy for point in points) - SHOWN_BELOW_BEST)
    found = [point for point in points if point.strategy not in MARKERS]
    for marker, own in (("o", [p for p in found if p.accuracy >= lowest]), ("v", [p for p in found if p.accuracy < lowest])):
        axes.plot([p.nudged_phases for p in own], [100 * max(p.accuracy, lowest) for p in own], marker, color=FAINT, ms=4)
    best = front(points)
    end = max(point.nudged_phases for point in points)
    axes.step(
        [*(point.nudged_phases for point in best), end],
        [100 * max(value, lowest) for value in [*(point.accuracy for point in best), *(point.accuracy for point in best[-1:])]]
        or [math.nan],
        where="post",
        color=INK,
        lw=1,
    )
    for name, marker in MARKERS.items():
        own = [point for point in points if point.strategy == name]
        if own:
            heights = [100 * max(p.accuracy, lowest) for p in own]
            axes.scatter(
                [p.nudged_phases for p in own], heights, 64, facecolors="none", edgecolors=THESIS_COLOURS[name],
                marker=marker, linewidths=1.6, zorder=3, label=name.replace("_", " "),
            )  # fmt: skip
    below = " (lower edge: that or less)" if any(point.accuracy < lowest for point in points) else ""
    axes.set(xlabel="Nudged phases", ylabel=f"{accuracy} accuracy (%){below}", title=f"{len(points)} trials have ended", ymargin=0.06)
    axes.grid(color="#e6e9ec")
    axes.set_axisbelow(True)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=5, frameon=False)
    return figure
