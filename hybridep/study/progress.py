"""How far a study is: a bar and the front so far, renewed on a terminal; a line now and then elsewhere."""

import math
import time
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hybridep.study.front import Point, front, words

REFRESH_SECONDS: Final = 0.5
PLAIN_SECONDS: Final = 5.0
# What is left is told when so much of a study is trained since its first epoch, or for so long: a start says little of the rest.
SHARE_TO_ESTIMATE: Final = 0.05
SECONDS_TO_ESTIMATE: Final = 30.0
BAR_WIDTH: Final = 24


class Progress:
    """Counts trials and epochs and shows them. `planned` grows where trials are added on the way.

    `accuracy` says whose accuracy the front is of, `later` what follows the planned trials, if anything does.
    """

    def __init__(self, planned: int, epochs: int, accuracy: str = "", later: str = "") -> None:
        self.planned = planned
        self.later = later
        self.done = 0
        self.failed = 0
        self.running: set[str] = set()
        self.points: list[Point] = []
        self._accuracy = accuracy
        self._epochs = epochs
        self._trained = 0
        self._reached: dict[str, int] = {}
        self._front: list[Point] = []
        self._started = time.monotonic()
        self._started_trials = False
        self._first_epoch = math.inf  # when it ended: until then workers start, for seconds or, on a busy machine, for minutes
        self._shown = -math.inf
        self._console = Console(highlight=False)
        self._live: Live | None = None
        self._finished = False

    def found(self, point: Point) -> None:
        """A trial that ended in an earlier run of the study."""
        self.done += 1
        self._add(point)

    def began(self, trial: str) -> None:
        self._started_trials = True
        self.running.add(trial)
        self.show()

    def epoch(self, trial: str, epoch: int) -> None:
        self._first_epoch = min(self._first_epoch, time.monotonic())
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
        """Show where the study stands, unless that was done a moment ago; nothing after `finish`."""
        terminal = self._console.is_terminal
        if self._finished or (not now and time.monotonic() - self._shown < (REFRESH_SECONDS if terminal else PLAIN_SECONDS)):
            return
        self._shown = time.monotonic()
        if not terminal:
            print(self.line(), flush=True)
            return
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(self._picture(), refresh=True)

    def note(self, message: str) -> None:
        """Print a message of its own, above what is renewed."""
        if self._live is None:
            print(message, flush=True)
        else:
            self._console.print(Text(message), soft_wrap=True)

    def finish(self) -> None:
        """Show the last state and leave it there: nothing is shown from now on."""
        if not self._finished:
            self.show(now=True)
            self._finished = True
            if self._live is not None:
                self._live.stop()
                self._live = None

    def line(self) -> str:
        """Where the study stands, in one line."""
        return " | ".join([self._counts(), *self._times(), *self._best()])

    def _picture(self) -> Group:
        bar = ProgressBar(total=max(self.planned, 1), completed=min(self.done + self._begun(), self.planned), width=BAR_WIDTH)
        grid = Table.grid(padding=(0, 1))
        grid.add_row(bar, Text(self._counts()), Text(", ".join(self._times()), style="dim"))
        return Group(grid, *(Text(line, overflow="ellipsis", no_wrap=True) for line in self._best()))

    def _counts(self) -> str:
        failed = f" ({self.failed} failed)" if self.failed else ""
        starting = not self._started_trials and self.done < self.planned
        doing = "starting Ray" if starting else f"{len(self.running)} running"
        later = f", {self.later}" if self.later and self.done < self.planned else ""
        return f"{self.done}/{self.planned} trials done{failed}, {doing}{later}"

    def _times(self) -> list[str]:
        left = self._seconds_left()
        return [f"{_duration(time.monotonic() - self._started)} elapsed", *([] if left is None else [f"{_duration(left)} left"])]

    def _best(self) -> list[str]:
        """The front in a line, none where there is none yet."""
        name = f"front in {self._accuracy.lower()} accuracy" if self._accuracy else "front"
        return [f"{name}: {words(self._front)}"] if self._front else []

    def _begun(self) -> float:
        """The trials that run, as parts of whole ones."""
        return sum(self._reached.values()) / self._epochs

    def _seconds_left(self) -> float | None:
        left = max(0.0, self.planned - self.done - self._begun()) * self._epochs
        if left == 0:
            return 0.0 if self.done >= self.planned else None
        lasted, trained = time.monotonic() - self._first_epoch, self._trained - 1
        if trained < 1 or (trained < SHARE_TO_ESTIMATE * self.planned * self._epochs and lasted < SECONDS_TO_ESTIMATE):
            return None
        return lasted / trained * left


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
