"""What people see in a terminal: tables and sentences that fit it, and how far a study is."""

import os
import pty
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from rich.cells import cell_len
from rich.console import Console

from analysis.terminal import as_text, wrapped
from hybridep.study.front import Point
from hybridep.study.progress import Progress
from tests.synthetic_study import write_study

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def in_terminal(width: int, *command: str, cwd: Path) -> str:
    """What a command shows in a pseudo-terminal of so many columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(width), "TERM": "xterm-256color", "PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not read:
            break
        shown += read
    os.close(ours)
    assert process.wait(timeout=60) == 0, shown
    return shown.decode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study whose strategies have long descriptions, named `sweep`."""
    root: Path = tmp_path_factory.mktemp("terminal")
    write_study(root / "sweep", trials=20, epochs=5, confirm=(100, 101, 102), control=True, ended=None, trials_planned=40)
    return root


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_of_a_report_is_wider_than_the_terminal(folder: Path, width: int) -> None:
    shown = in_terminal(width, sys.executable, "-m", "analysis.report", "sweep", cwd=folder)
    assert "\x1b[1m" in shown  # the front stands out
    lines = [ESCAPES.sub("", line) for line in shown.splitlines()]
    assert [line for line in lines if cell_len(line) > width] == []
    words = "\n".join(lines)
    assert "Strategy" in words and "centered" in words and "inverse cosine" in words
    assert not re.search(r"\d\n *%", words)
    told = " ".join(words.split())
    assert "This study is not complete: 26 of its 40 trials have ended." in told
    assert "Continue with: python studies/schedule_sweep.py --resume sweep" in told.replace("! ", "")


def test_a_table_leaves_out_its_last_columns_and_says_so() -> None:
    table = pd.DataFrame({"Strategy": ["cosine"], "Nudged phases": ["35,000"], "Relaxation steps": ["1,000,000"], "Seeds": ["5"]})
    assert "Not shown" not in as_text(table, width=60)
    narrow = as_text(table, width=24)
    assert "35,000" in narrow and "1,000,000" not in narrow
    assert " ".join(narrow.split()).endswith("(Not shown for want of room: Relaxation steps, Seeds.)")
    assert all(len(line) <= 24 for line in narrow.splitlines())


def test_a_sentence_is_wrapped_below_its_first_word() -> None:
    assert wrapped("one two three 95 % four", "- ", width=15) == "- one two three\n  95 % four"


def on_a_terminal(progress: Progress, width: int = 80) -> StringIO:
    """Where a progress display goes that takes this for a terminal."""
    page = StringIO()
    progress._console = Console(file=page, width=width, force_terminal=True, highlight=False)
    return page


def test_a_terminal_shows_a_bar_the_times_and_the_front_so_far() -> None:
    progress = Progress(4, 10, "Validation", "confirmation follows")
    page = on_a_terminal(progress, 120)
    progress.show(now=True)
    assert "0/4 trials done, starting Ray, confirmation follows" in page.getvalue()
    progress.began("centered")
    for epoch in range(1, 11):
        progress.epoch("centered", epoch)
    progress.ended("centered", Point("centered", 0.95, 0.01, 1140))
    progress.show(now=True)
    last = ESCAPES.sub("", page.getvalue().split("starting Ray")[-1])
    assert "1/4 trials done" in last and "0:00 elapsed" in last and "left" in last
    assert "front in validation accuracy: centered 95.0% at 1,140" in last
    assert "━" in last
    assert max(cell_len(line) for line in last.splitlines()) <= 120


def test_nothing_is_shown_after_the_last_state() -> None:
    progress = Progress(1, 1)
    page = on_a_terminal(progress)
    progress.show(now=True)
    progress.finish()
    ended = page.getvalue()
    progress.show(now=True)
    progress.finish()
    assert page.getvalue() == ended


def test_what_is_left_is_not_guessed_from_the_first_epochs() -> None:
    progress = Progress(20, 10)
    progress.began("one")
    for epoch in range(1, 11):
        progress.epoch("one", epoch)
    assert " left" not in progress.line()
    progress.epoch("two", 1)
    assert re.search(r" \| 0:0\d left", progress.line())


def test_how_long_workers_took_to_start_is_not_expected_of_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("hybridep.study.progress.time.monotonic", lambda: now[0])
    progress = Progress(10, 10)
    progress.began("one")
    now[0] = 120.0  # the worker has started at last; from here on an epoch takes a second
    for epoch in range(1, 11):
        progress.epoch("one", epoch)
        now[0] += 1
    assert " | 1:40 left" in progress.line()


def test_where_there_is_no_terminal_a_line_tells_it_all(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(2, 1, "Test")
    progress.found(Point("centered", 0.95, 0.01, 1140))
    progress.show(now=True)
    progress.note("A message.")
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"1/2 trials done, starting Ray \| 0:00 elapsed \| front in test accuracy: centered 95.0% at 1,140", first)
    assert second == "A message."
