"""`as_command`: what every command does about its surroundings: a reader of its output that goes away, a terminal that is closed."""

import io
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, NoReturn, TextIO

INTERRUPTED: Final = 130
_STOPPING: Final = (signal.SIGHUP, signal.SIGTERM)


def as_command(main: Callable[[], int]) -> NoReturn:
    """Run `main` as this process's command and leave with the exit code that it returns, or with 130 where it was interrupted.

    Output that cannot be written any more (`| head`, a closed terminal, a full disk) is given up; the work goes on. A closed terminal's
    SIGHUP, and SIGTERM, raise KeyboardInterrupt as Ctrl-C does; signals that are ignored from the start, as under nohup, stay so.
    """
    _open_missing_files()
    sys.stdout = _forgiving(sys.stdout, sys.__stdout__)
    sys.stderr = _forgiving(sys.stderr, sys.__stderr__)
    if threading.current_thread() is threading.main_thread():
        for number in _STOPPING:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _interrupt)
    try:
        code = main()
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # They come in pairs: of a closed terminal the shell's and the kernel's. The second must not cut short what the first has begun.
    for each in _STOPPING:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)


def _open_missing_files() -> None:
    """Open standard files that were closed (`>&-`) on nothing, before other files get their numbers and what is printed with them."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


class _Output(io.RawIOBase):
    """An open file that is replaced by nothing when it cannot be written, for this process and those that it starts."""

    def __init__(self, number: int) -> None:
        self._number = number

    def write(self, content: Any) -> int:
        try:
            while True:
                try:
                    return os.write(self._number, content)
                except BlockingIOError:  # whoever reads it has made it so, and it is full
                    select.select((), (self._number,), ())
        except OSError:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._number)
            os.close(nothing)
            return len(content)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)


def _forgiving(stream: TextIO | None, original: TextIO | None) -> TextIO:
    """The stream, of which nothing raises; one that is not this process's own, as in a notebook, as it is."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if stream is not original or not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    raw = _Output(stream.fileno())
    # Of another encoding than UTF-8, characters may be missing: a question mark is better than no report.
    errors = "replace" if stream.errors in (None, "strict", "surrogateescape") else stream.errors
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, errors, line_buffering=stream.line_buffering)
