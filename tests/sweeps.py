"""Schedule sweeps for tests: how a command line is refused, and a small study that was begun and has run nothing."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from hybridep.study import study as running_study
from hybridep.study.command_line import parse
from studies import schedule_sweep

STUDIES = Path(__file__).resolve().parent.parent / "studies"
TINY = ("--sizes", "64", "16", "10", "--T1", "8", "--T2", "4", "--train-samples", "300", "--seeds", "0", "1")


def sweep(*argv: str) -> int:
    """The exit code of a sweep with this command line."""
    return running_study.main("schedule_sweep", schedule_sweep.Args, schedule_sweep.plan, argv)


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The complaint about a command line; it must be one line, with exit code 2."""
    assert sweep(*argv) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"error: [^\n]+\n", shown.err), shown.err
    return shown.err


def begun_in(folder: Path, *argv: str, tiny: tuple[str, ...] = TINY) -> Path:
    """A study of which nothing has run yet, of the thesis's strategies unless `argv` says otherwise; its folder."""
    args = replace(parse(schedule_sweep.Args, [*(argv or ("--search", "thesis")), *tiny]), out=str(folder))
    study, _ = running_study.prepare("schedule_sweep", args, schedule_sweep.plan(args))
    study.close()
    return study.path
