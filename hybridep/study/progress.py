"""How far a study is: one line that is renewed on a terminal, a line now and then elsewhere."""

import math
import shutil
import sys
import time
from typing import Final

from hybridep.study.front import Point, front, words

REFRESH_SECONDS: Final = 0.5
PLAIN_SECONDS: Final = 5.0


class Progress:
    """Counts trials and epochs and shows them. `planned` grows where trials are added on the way."""

    def __init__(self, planned: int, epochs: int) -> None:
        self.planned = planned
        self.done = 0
        self.failed = 0
        self.running: set[str] = set()
        self._epochs = epochs
        self._trained = 0
        self._reached: dict[str, int] = {}
        self.points: list[Point] = []
        self._front: list[Point] = []
        self._started = time.monotonic()
        self._shown = -PLAIN_SECONDS
        self._terminal = sys.stdout.isatty()

    def found(self, point: Point) -> None:
        """A trial that ended in an earlier run of the study."""
        self.done += 1
        self._add(point)

    def began(self, trial: str) -> None:
        self.running.add(trial)
        self.show()

    def epoch(self, trial: str, epoch: int) -> None:
        self._trained += 1
        self._reached[trial] = epoch
        self.show()

    def ended(self, trial: str, point: Point | None) -> None:
        """A trial has its last epoch, or failed where there is no point."""
        self.running.discard(trial)
        self._reached.pop(trial, None)
        self.done += 1
        self.failed += point is None
        if point is not None:
            self._add(point)
        self.show()

    def _add(self, point: Point) -> None:
        if math.isfinite(point.accuracy):
            self.points.append(point)
            self._front = front([*self._front, point])

    def show(self, now: bool = False) -> None:
        """Print where the study stands, unless it was printed a moment ago."""
        period = REFRESH_SECONDS if self._terminal else PLAIN_SECONDS
        if not now and time.monotonic() - self._shown < period:
            return
        self._shown = time.monotonic()
        line = self.line()
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{line[:width]:<{width}}", end="", flush=True)
        else:
            print(line, flush=True)

    def note(self, message: str) -> None:
        """Print a message of its own."""
        end = "\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r" if self._terminal else ""
        print(end + message, flush=True)

    def line(self) -> str:
        failed = f" ({self.failed} failed)" if self.failed else ""
        left = self._seconds_left()
        starting = not self.running and self.done < self.planned
        parts = [
            f"{self.done}/{self.planned} trials done{failed}, {'starting' if starting else f'{len(self.running)} running'}",
            f"{_duration(left)} left" if left is not None else "",
            f"front: {words(self._front)}" if self._front else "",
        ]
        return " | ".join(part for part in parts if part)

    def _seconds_left(self) -> float | None:
        if not self._trained:
            return None
        left = (self.planned - self.done) * self._epochs - sum(self._reached.values())
        return (time.monotonic() - self._started) / self._trained * max(0, left)

    def finish(self) -> None:
        """Print the last state and leave the line."""
        self.show(now=True)
        if self._terminal:
            print(flush=True)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
