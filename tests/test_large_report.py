"""The report of a study of 10,000 trials: `pytest -m slow tests/test_large_report.py` makes one and holds the report to its limits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.synthetic_study import write_study

TRIALS, EPOCHS = 10_000, 20
SECONDS, BYTES = 30.0, 2 * 2**30

# Processor time, which other work on the machine does not stretch; the report is made in one process.
REPORT = """
import json, resource, sys
from pathlib import Path
from analysis.report import write_report
page = write_report(Path(sys.argv[1])).page
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": used.ru_utime + used.ru_stime, "bytes": used.ru_maxrss * 1024, "page": page.stat().st_size}))
"""


def report_on(folder: Path) -> dict[str, float]:
    """What a report costs in a process of its own."""
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", REPORT, str(folder)], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


@pytest.mark.slow
def test_ten_thousand_trials_are_reported_in_half_a_minute_and_two_gibibytes(tmp_path: Path) -> None:
    measured = report_on(write_study(tmp_path / "study", trials=TRIALS - 5, epochs=EPOCHS, seeds=(0, 1, 2)))
    print(measured)
    assert measured["seconds"] < SECONDS
    assert measured["bytes"] < BYTES
    assert measured["page"] < 5_000_000
