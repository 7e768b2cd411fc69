"""`Process`: a process that is known again for certain, also by another program, later."""

import contextlib
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Process:
    """A process id, which the system gives out again, with what makes it unique: seconds from the machine's start to its own."""

    pid: int
    started: float

    @classmethod
    def find(cls, pid: int) -> "Process | None":
        """The process that has this id now, or None where none runs."""
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(pid)
            if found.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                # Both count from an epoch that moves when the clock is set; their difference does not.
                return cls(pid, round(found.create_time() - psutil.boot_time(), 2))
        return None

    @property
    def running(self) -> bool:
        return Process.find(self.pid) == self

    @property
    def command(self) -> str:
        """Its command line, empty where it has ended."""
        with contextlib.suppress(psutil.Error):
            return " ".join(psutil.Process(self.pid).cmdline()) if self.running else ""
        return ""

    def signal(self, number: int) -> None:
        """Send a signal, if this very process still runs."""
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended in between
            if self.running:
                psutil.Process(self.pid).send_signal(number)

    def descendants(self) -> "list[Process]":
        """Its children, theirs, and so on; not those that were left behind by a parent that ended."""
        with contextlib.suppress(psutil.NoSuchProcess):
            below = psutil.Process(self.pid).children(recursive=True) if self.running else []
            return [process for child in below if (process := Process.find(child.pid))]
        return []
