"""Commands whose output nobody reads any more, or whose terminal is closed: the work goes on, or stops in order and can be continued."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.sweeps import STUDIES, TINY

ROOT = STUDIES.parent
COMMANDS = {
    **{path.stem: [str(path)] for path in sorted(STUDIES.glob("*.py")) if path.stem != "__init__"},
    **{name: ["-m", name] for name in ("analysis.report", "analysis.thesis_report", "hybridep.cluster")},
}
SWEEP = [str(STUDIES / "schedule_sweep.py"), "--search", "thesis", *TINY]
BIAS = [str(STUDIES / "bias_order.py"), "--sizes", "64", "16", "10", "--samples", "4", "--estimators", "standard", "--hybrid-betas", "0.1"]
BIAS += ["--beta-range", "0.1", "1"]
# Ways in which a shell starts a command.
NOHUP = ["sh", "-c", 'trap "" HUP && exec "$@"', "sh"]
CLOSED = {"output": ["sh", "-c", 'exec "$@" >&-', "sh"], "all": ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]}
ON_TERMINAL = [
    sys.executable,
    "-c",
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])",
]

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a command in a session of its own, as a terminal's are, in tmp_path."""
    running: list[subprocess.Popen[str]] = []

    def begin(argv: list[str], through: list[str] | None = None, **streams: Any) -> subprocess.Popen[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        streams = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, **streams}
        command = [*(through or []), sys.executable, *argv]
        running.append(subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True, **streams))
        return running[-1]

    yield begin
    for process in running:
        with suppress(ProcessLookupError), process:
            os.killpg(process.pid, signal.SIGKILL)


def outcome(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code, and what it said on standard error."""
    said = process.communicate()[1]
    return process.returncode, said


def wait_until(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    while not happened():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def rows(study: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in study.glob("ray/*/result.json"))


@pytest.fixture
def unread() -> Iterator[int]:
    """The end of a pipe that is written to, after its reader has gone, as of `| head -0`."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_minds_that_its_reader_has_gone(start: Start, command: str, unread: int) -> None:
    assert outcome(start([*COMMANDS[command], "--help"], stdout=unread)) == (0, "")


def test_a_study_goes_on_to_its_report_without_a_reader_and_under_nohup(start: Start, unread: int, tmp_path: Path) -> None:
    study = tmp_path / "study"
    process = start([*SWEEP, "--epochs", "4", "--out", str(study)], NOHUP, stdout=unread)
    wait_until(process, lambda: rows(study) >= 1)
    os.kill(process.pid, signal.SIGHUP)
    assert outcome(process) == (0, "")
    assert (study / "report.html").exists()


def test_a_study_whose_terminal_is_closed_stops_and_is_continued_without_standard_output(start: Start, tmp_path: Path) -> None:
    study = tmp_path / "study"
    ours, theirs = pty.openpty()
    process = start([*SWEEP, "--epochs", "12", "--out", str(study)], ON_TERMINAL, stdin=theirs, stdout=theirs)
    os.close(theirs)
    wait_until(process, lambda: rows(study) >= 2)
    os.close(ours)
    code, said = outcome(process)
    assert (code, "Traceback" in said) == (130, False), said

    process = start([str(STUDIES / "schedule_sweep.py"), "--resume", str(study)], CLOSED["output"])
    assert outcome(process) == (0, "")
    assert (study / "report.html").exists()
    # All epochs of the thesis's strategies, a half and three quarters of them by the controls.
    assert {path.read_bytes().count(b"\n") for path in study.glob("ray/*/result.json")} == {12, 9, 6}


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_study_without_ray_stops_in_order(start: Start, number: signal.Signals, tmp_path: Path) -> None:
    study = tmp_path / "study"
    process = start([*BIAS, "--epochs", "9999", "--trained", "9999", "--out", str(study)], stdout=subprocess.PIPE)
    wait_until(process, (study / "study.json").exists)
    process.send_signal(number)
    shown, said = process.communicate()
    assert (process.returncode, "Stopped" in shown + said, "Traceback" in said) == (130, True, False), said


@pytest.mark.parametrize("way", CLOSED)
def test_a_study_without_ray_writes_its_results_where_standard_files_are_closed(start: Start, way: str, tmp_path: Path) -> None:
    study = tmp_path / "study"
    process = start([*BIAS, "--epochs", "1", "--trained", "1", "--out", str(study)], CLOSED[way])
    assert outcome(process) == (0, "")
    assert (study / "bias_order.png").exists()


def lines_as_command(code: str) -> list[str]:
    """A command whose main is these lines."""
    lines = "\n".join(f"    {line}" for line in [*code.splitlines(), "return 0"])
    return ["-c", f"import os\nfrom hybridep.command import as_command\ndef main():\n{lines}\nas_command(main)\n"]


def test_a_full_disk_ends_output_and_not_the_work(start: Start, tmp_path: Path) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        process = start(lines_as_command("print('one', flush=True)\nprint('two' * 10**6)\nos.mkdir('done')"), stdout=full)
        assert outcome(process) == (0, "")
    assert (tmp_path / "done").exists()


def test_a_file_that_is_opened_later_is_not_taken_for_standard_output(start: Start, tmp_path: Path) -> None:
    code = "with open('file', 'w') as file:\n    print('not in it', flush=True)\n    os.system('echo nor this')\n    file.write('alone')"
    assert outcome(start(lines_as_command(code), CLOSED["output"])) == (0, "")
    assert (tmp_path / "file").read_text() == "alone"


def test_a_reader_that_is_slow_and_does_not_let_wait_gets_everything(start: Start) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    process = start(lines_as_command("print('x' * 10**6)"), stdout=write)
    os.close(write)
    with open(read, "rb") as reader:
        assert len(reader.read()) == 10**6 + 1
    assert outcome(process) == (0, "")


def test_characters_that_the_terminal_does_not_have_are_replaced(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    process = start(lines_as_command("print('● β = 1 ±')"), stdout=subprocess.PIPE, encoding="latin-1")
    assert process.communicate() == ("? ? = 1 ±\n", "")


def test_characters_are_replaced_in_the_plainest_locale(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    process = start(lines_as_command(r"print('\u25cf \u03b2 = 1 \udcff')"), stdout=subprocess.PIPE)
    assert process.communicate() == ("? ? = 1 ?\n", "")


def test_what_stands_for_standard_output_in_a_notebook_stays(start: Start) -> None:
    code = (
        "import io, sys\nfrom hybridep.command import as_command\nsys.stdout = io.StringIO()\n"
        "try:\n    as_command(lambda: print('inside') or 3)\n"
        "except SystemExit as exit:\n    sys.exit((exit.code, sys.stdout.getvalue()) != (3, 'inside\\n'))\n"
    )
    assert outcome(start(["-c", code])) == (0, "")
