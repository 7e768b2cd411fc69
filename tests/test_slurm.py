"""The Slurm script, run by bash with pretended Slurm commands: its directives, its logic around signals, and a study over two rounds."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest

from hybridep.cluster.processes import Process

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "studies/slurm/study.sbatch"
PATIENCE = 240.0

# The parts of sbatch's manual that the script uses: options and the form of their values.
OPTIONS = {
    "job-name": r"\w+",
    "nodes": r"\d+(-\d+)?",
    "ntasks-per-node": r"\d+",
    "cpus-per-task": r"\d+",
    "time": r"\d\d:\d\d:\d\d",
    "signal": r"B:(USR1|USR2|TERM)@\d+",
    "requeue": None,
    "no-kill": None,
    "open-mode": r"append|truncate",
    "output": r"[\w.-]*%j[\w.-]*",
}

# Notes how it was called. As hybridep.cluster it behaves like a cluster that starts at once, as anything else like a study of which an
# epoch takes a moment and which ends with code 130 when it is asked to; STUDY says where it differs.
PYTHON = r"""#!/usr/bin/env bash
echo "python $*" >> "$CALLS"
case "$1 $2 ${3:-}" in
"-m hybridep.cluster head")
    [ "${STUDY:-}" = no-head ] && { echo "error: no" >&2; exit 2; }
    [ "${STUDY:-}" = slow-head ] && { touch "$CALLS.head"; sleep 2; }
    echo "Started head 10.1.2.3:4567: 4 CPUs, no GPU"
    exit 0 ;;
"-m hybridep.cluster join")
    trap 'echo "join ended" >> "$CALLS"; exit 0' TERM
    while :; do sleep 0.1; done ;;
"-m hybridep.cluster stop") exit 0 ;;
esac
mkdir -p "$3/ray/a"
touch "$3/study.json"
trap 'echo "study asked to end" >> "$CALLS"; [ "${STUDY:-}" = deaf ] || exit 130' INT
case "${STUDY:-}" in
fails) exit 1 ;;
invalid) exit 2 ;;
esac
for epoch in 1 2 3 4 5 6 7 8; do
    sleep 0.2
    [ "${STUDY:-}" = slow ] || [ "${STUDY:-}" = deaf -a "$epoch" -gt 1 ] || echo "{}" >> "$3/ray/a/result.json"
    [ "${STUDY:-}" = slow ] || [ "${STUDY:-}" = deaf ] && sleep 5
    [ "$(wc -l < "$3/ray/a/result.json")" -ge 8 ] && break
done
exit 0
"""
SRUN = """#!/usr/bin/env bash
echo "srun $*" >> "$CALLS"
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
"""
SCONTROL = """#!/usr/bin/env bash
echo "scontrol $*" >> "$CALLS"
[ "${REQUEUE:-}" != no ] || { echo "scontrol: error: Job is not requeueable" >&2; exit 1; }
"""


@dataclass
class Job:
    """A job of a pretended Slurm: the copy of the script that Slurm runs, the environment that it gives it, and what it called."""

    folder: Path
    environment: dict[str, str]
    arguments: tuple[str, ...] = ("study", "run.py", "--epochs", "8")
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def begin(self, **environment: str) -> subprocess.Popen[bytes]:
        """Run the script, as Slurm does when the job's turn has come."""
        with open(self.folder / "log", "ab") as log:
            job = subprocess.Popen(
                ["bash", self.folder / "spooled", *self.arguments],
                env={**self.environment, **environment},
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.running.append(job)
        return job

    def run(self, **environment: str) -> int:
        return self.begin(**environment).wait(PATIENCE)

    def epochs(self, study: str = "study") -> int:
        return sum(len(file.read_text().splitlines()) for file in (self.folder / study).glob("ray/*/result.json"))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def executable(path: Path, content: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    path.chmod(0o755)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    """A job on one node that runs the pretended study."""
    executable(tmp_path / "bin/python", PYTHON)
    executable(tmp_path / "bin/srun", SRUN)
    executable(tmp_path / "bin/scontrol", SCONTROL)
    number = str(os.getpid())  # names a folder in /tmp
    (tmp_path / "spooled").write_text(SCRIPT.read_text().replace("grace=90", "grace=2"))
    job = Job(
        tmp_path,
        {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "CALLS": str(tmp_path / "calls"),
            "SLURM_JOB_ID": number,
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_CPUS_PER_TASK": "2",
            "SLURMD_NODENAME": "node1",
        },
    )
    yield job
    for process in job.running:
        members = [Process.find(process.pid)]
        members += members[0].descendants() if members[0] else []
        for member in filter(None, members):
            member.signal(signal.SIGKILL)
        process.wait()
    shutil.rmtree(f"/tmp/hep-{number}", ignore_errors=True)


def test_bash_accepts_the_script():
    subprocess.run(["bash", "-n", SCRIPT], check=True)


def test_sbatch_would_accept_its_directives():
    lines = SCRIPT.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    first_command = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    directives = [line for line in lines if line.startswith("#SBATCH")]
    assert [line for line in lines[:first_command] if line.startswith("#SBATCH")] == directives  # sbatch reads no further
    for line in directives:
        option, value = re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", line).groups()
        assert option in OPTIONS
        assert re.fullmatch(OPTIONS[option], value) if OPTIONS[option] else value is None


def test_the_signal_leaves_time_to_end_the_study_and_the_cluster():
    text = SCRIPT.read_text()
    notice = int(re.search(r"--signal=B:USR1@(\d+)", text)[1])
    grace = int(re.search(r"^grace=(\d+)", text, re.MULTILINE)[1])
    assert notice >= grace + 60


def test_a_study_that_is_done_in_time_ends_the_job(job):
    assert job.run() == 0
    assert job.calls == [
        "python -m hybridep.cluster head --port 0",
        "python run.py --out study --ray-address 10.1.2.3:4567 --epochs 8",
        "python -m hybridep.cluster stop",
    ]
    assert "the study ended with code 0, after 8 epochs in this allocation" in job.log


def test_the_time_limit_ends_the_study_stops_the_cluster_and_queues_the_job_until_the_study_is_complete(job):
    first = job.begin()
    wait_until(lambda: job.epochs() >= 2)
    first.send_signal(signal.SIGUSR1)
    assert first.wait(PATIENCE) == 0
    assert job.calls[-3:] == [
        "study asked to end",
        "python -m hybridep.cluster stop",
        f"scontrol requeue {job.environment['SLURM_JOB_ID']}",
    ]
    assert 2 <= job.epochs() < 8
    assert job.run() == 0
    assert "python run.py --resume study --ray-address 10.1.2.3:4567 --epochs 8" in job.calls
    assert job.epochs() == 8
    assert sum(call.startswith("scontrol") for call in job.calls) == 1


def test_the_other_nodes_join_the_head_and_leave_before_it_stops(job):
    job.environment.update(SLURM_JOB_NUM_NODES="3", HYBRIDEP_HEAD_ADDRESS="10.1.2.3")
    assert job.run() == 0
    assert job.calls[0] == "python -m hybridep.cluster head --address 10.1.2.3 --port 0"
    assert job.calls[-2:] == ["join ended", "python -m hybridep.cluster stop"]
    (started,) = (call for call in job.calls if call.startswith("srun"))
    assert started == (
        "srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=2 --exclude=node1 --no-kill --kill-on-bad-exit=0 "
        "python -m hybridep.cluster join 10.1.2.3:4567 --foreground"
    )


def test_the_head_takes_an_address_that_other_nodes_can_reach(job):
    job.environment["SLURM_JOB_NUM_NODES"] = "2"
    executable(job.folder / "bin/getent", "#!/bin/sh\necho '127.0.1.1       STREAM node1'\n")
    executable(job.folder / "bin/hostname", '#!/bin/sh\n[ "$1" = -I ] && echo "10.9.8.7 192.168.1.1 " || echo node1\n')
    assert job.run() == 0
    assert job.calls[0] == "python -m hybridep.cluster head --address 10.9.8.7 --port 0"


@pytest.mark.parametrize(("study", "code"), [("fails", 1), ("invalid", 2)])
def test_a_study_that_fails_is_not_queued_again(job, study, code):
    assert job.run(STUDY=study) == code
    assert job.calls[-1] == "python -m hybridep.cluster stop"
    assert not any(call.startswith("scontrol") for call in job.calls)


def test_a_study_of_which_no_epoch_fits_into_the_time_limit_is_not_queued_for_ever(job):
    running = job.begin(STUDY="slow")
    wait_until((job.folder / "study/study.json").exists)
    running.send_signal(signal.SIGUSR1)
    assert running.wait(PATIENCE) == 1
    assert "not submitted again: no epoch fits into the time limit" in job.log
    assert not any(call.startswith("scontrol") for call in job.calls)


def test_a_study_that_does_not_end_when_asked_is_killed_and_queued(job):
    running = job.begin(STUDY="deaf")
    wait_until(lambda: job.epochs() == 1)
    running.send_signal(signal.SIGUSR1)
    assert running.wait(PATIENCE) == 0
    assert job.calls[-1].startswith("scontrol requeue")
    assert "the study ended with code 137" in job.log


def test_a_job_that_is_stopped_by_hand_ends_orderly_and_is_not_queued(job):
    running = job.begin()
    wait_until(lambda: job.epochs() >= 1)
    running.send_signal(signal.SIGTERM)
    assert running.wait(PATIENCE) == 130
    assert job.calls[-2:] == ["study asked to end", "python -m hybridep.cluster stop"]


def test_a_signal_while_the_cluster_starts_keeps_the_study_from_starting(job):
    running = job.begin(STUDY="slow-head")
    wait_until((job.folder / "calls.head").exists)
    running.send_signal(signal.SIGTERM)
    assert running.wait(PATIENCE) == 143
    assert job.calls == ["python -m hybridep.cluster head --port 0", "python -m hybridep.cluster stop"]


def test_a_cluster_that_does_not_start_ends_the_job(job):
    assert job.run(STUDY="no-head") == 1
    assert not any("run.py" in call for call in job.calls)


def test_a_job_that_slurm_does_not_queue_again_says_how_to_go_on(job):
    running = job.begin(REQUEUE="no")
    wait_until(lambda: job.epochs() >= 1)
    running.send_signal(signal.SIGUSR1)
    assert running.wait(PATIENCE) == 1
    assert "submit it with the same arguments to go on" in job.log


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "usage: sbatch .+"),
        (("study",), "usage: sbatch .+"),
        (("s3://bucket/study", "run.py"), "s3://bucket/study: must be a folder .+"),
    ],
)
def test_a_mistake_in_its_arguments_is_told_in_one_line(job, arguments, complaint):
    job.arguments = arguments
    assert job.run() == 2
    assert re.fullmatch(rf"error: {complaint}\n", job.log)


def test_outside_slurm_it_says_how_it_is_submitted(job):
    del job.environment["SLURM_JOB_ID"]
    assert job.run() == 2
    assert re.fullmatch(r"error: usage: sbatch .+\n", job.log)


def test_a_real_study_on_two_nodes_is_interrupted_queued_and_completed(job):
    """Ray, the study and the cluster as they are; Slurm's commands alone are pretended, and both nodes are this machine."""
    executable(job.folder / "bin/python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    epochs = 6
    job.arguments = ("study", str(ROOT / "studies/schedule_sweep.py"), "--search", "thesis", "--seeds", "0", "--epochs", str(epochs))
    job.arguments += ("--max-concurrent", "1")  # a worker takes seconds to start
    job.environment.update(
        SLURM_JOB_NUM_NODES="2",
        HYBRIDEP_HEAD_ADDRESS="127.0.0.1",
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
        PYTHONPATH=str(ROOT),
        OMP_NUM_THREADS="1",
    )
    first = job.begin()
    wait_until(lambda: job.epochs() >= 1 or first.poll() is not None)
    assert first.poll() is None, job.log
    members = Process.find(first.pid).descendants()
    assert any("join" in Path(f"/proc/{process.pid}/cmdline").read_text() for process in members)
    first.send_signal(signal.SIGUSR1)
    assert first.wait(PATIENCE) == 0, job.log
    assert job.calls[-1].startswith("scontrol requeue"), job.log
    whole = 5 * epochs + 3 + 5  # and the controls: centered trained for half of them and for three quarters
    assert 1 <= job.epochs() < whole
    assert not any(process.running for process in members)
    assert job.run() == 0, job.log
    assert job.epochs() == whole
    trials = pd.read_csv(job.folder / "study/trials.csv")
    assert sorted(trials.epoch) == [3, 5, *[epochs] * 5]
    assert not Path(f"/tmp/hep-{job.environment['SLURM_JOB_ID']}").exists()
