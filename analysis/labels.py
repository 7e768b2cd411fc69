"""Where names go in a figure: beside their points, on no other point and on no other name. In pixels, y downwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

CHARACTER: Final = 7.1  # width of a bold character of 12 pixels, in the mean a little more than it is
LINE: Final = 15.0
GAP: Final = 3.0
STEP: Final = 6  # between places that are tried where none of these is free
DISTANCES: Final = (12, 20, 30, 42, 56, 72, 92, 116, 144, 180, 220, 260)
# Directions in the order in which they are tried: beside the point first, then above and below.
DIRECTIONS: Final = (
    *((1.0, 0.0), (-1.0, 0.0), (0.9, -0.5), (0.9, 0.5), (-0.9, -0.5), (-0.9, 0.5)),
    *((0.5, -0.9), (0.5, 0.9), (-0.5, -0.9), (-0.5, 0.9), (0.0, -1.0), (0.0, 1.0)),
)


@dataclass(frozen=True)
class Box:
    """A rectangle, edges in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def around(cls, x: float, y: float, width: float, height: float) -> "Box":
        """One with its middle at a point."""
        return cls(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return self.left, self.top, self.right, self.bottom

    def overlaps(self, others: np.ndarray) -> bool:
        """Whether it has more than an edge in common with one of the boxes, edges [boxes, 4]."""
        left, top, right, bottom = others.T
        return bool(((self.left < right) & (left < self.right) & (self.top < bottom) & (top < self.bottom)).any())

    def within(self, other: "Box") -> bool:
        """Whether no part lies outside the other."""
        return self.left >= other.left and self.right <= other.right and self.top >= other.top and self.bottom <= other.bottom


@dataclass(frozen=True)
class Placed:
    """A name's place: how far from its point the text begins, and which of its edges (left, center, right) is there."""

    across: float
    down: float
    anchor: str
    box: Box


def text_width(text: str) -> float:
    """A little more than a line of bold text takes."""
    return CHARACTER * len(text) + 2


def place(
    points: Sequence[tuple[float, float]], texts: Sequence[str], reach: Sequence[float], avoid: Sequence[Box], area: Box
) -> list[Placed | None]:
    """A place for the text of each point, the first one first; None where there is none within its reach.

    `avoid` holds the points' own boxes too.

    >>> spot = place([(50, 50)], ["centered"], [100], [Box.around(50, 50, 10, 10)], Box(0, 0, 200, 100))[0]
    >>> spot.across, spot.down, spot.anchor
    (12.0, 0.0, 'left')
    """
    taken = np.array([box.edges for box in avoid]).reshape(-1, 4)
    placed: list[Placed | None] = []
    for (x, y), text, far in zip(points, texts, reach, strict=True):
        spot = _first_free(x, y, text_width(text), far, taken, area)
        if spot is None and np.isinf(far):
            spot = _nearest_free(x, y, text_width(text), taken, area)
        placed.append(spot)
        if spot is not None:
            taken = np.vstack([taken, spot.box.edges])
    return placed


def _first_free(x: float, y: float, width: float, reach: float, taken: np.ndarray, area: Box) -> Placed | None:
    for distance in (distance for distance in DISTANCES if distance <= reach):
        for right, below in DIRECTIONS:
            across, down = right * distance, below * distance
            anchor = "left" if right > 0 else "right" if right < 0 else "center"
            left = x + across - {"left": 0, "center": width / 2, "right": width}[anchor]
            box = Box(left - GAP, y + down - LINE / 2 - GAP, left + width + GAP, y + down + LINE / 2 + GAP)
            if box.within(area) and not box.overlaps(taken):
                return Placed(across, down, anchor, box)
    return None


def _nearest_free(x: float, y: float, width: float, taken: np.ndarray, area: Box) -> Placed | None:
    """The free place in the whole area that is nearest to the point."""
    half = np.array([width / 2 + GAP, LINE / 2 + GAP])
    across = np.arange(area.left + half[0], area.right - half[0], STEP)
    down = np.arange(area.top + half[1], area.bottom - half[1], STEP)
    middles = np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)
    for middle in middles[np.argsort(np.hypot(middles[:, 0] - x, 2 * (middles[:, 1] - y)), kind="stable")]:
        box = Box(*(middle - half), *(middle + half))
        if not box.overlaps(taken):
            side = 0 if abs(middle[0] - x) < width / 2 else np.sign(middle[0] - x)
            anchor = {1: "left", -1: "right", 0: "center"}[int(side)]
            return Placed(float(middle[0] - x - side * width / 2), float(middle[1] - y), anchor, box)
    return None
