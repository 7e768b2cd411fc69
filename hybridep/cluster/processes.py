"""`Process`: a process that is known again for certain, also by another program, later. Needs Linux's /proc."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process id, which the system gives out again, with what makes it unique: when it began, in clock ticks after which boot."""

    pid: int
    started: int
    boot: str

    @classmethod
    def find(cls, pid: int) -> "Process | None":
        """The process that has this id now, or None where none runs."""
        fields = _stat(pid)
        if fields is None or fields[0] in ("Z", "X"):
            return None
        return cls(pid, int(fields[19]), Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())

    @property
    def running(self) -> bool:
        return Process.find(self.pid) == self

    def signal(self, number: int) -> None:
        """Send a signal, if this very process still runs."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):  # it ended in between
                os.kill(self.pid, number)

    def descendants(self) -> "list[Process]":
        """Its children, theirs, and so on; not those that were left behind by a parent that ended."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and (fields := _stat(int(entry.name))):
                children.setdefault(int(fields[1]), []).append(int(entry.name))
        found: list[Process] = []
        pending = [self.pid] if self.running else []
        while pending:
            for pid in children.get(pending.pop(), []):
                pending.append(pid)
                if (process := Process.find(pid)) is not None:
                    found.append(process)
        return found


def _stat(pid: int) -> list[str] | None:
    """/proc/<pid>/stat from the third field on (state, parent, ...): the name before them may hold spaces and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
