"""The schedule sweep from the command line: bad input, a whole study on Ray, and studies whose processes are killed."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

STUDIES = Path(__file__).resolve().parent.parent / "studies"
sys.path.insert(0, str(STUDIES))

import schedule_sweep  # noqa: E402
from running import study as running_study  # noqa: E402
from running.arguments import parse  # noqa: E402
from running.folder import StudyFolder, TrialFiles, drop_unfinished_line  # noqa: E402
from running.front import Point, front  # noqa: E402
from running.resources import Resources  # noqa: E402

from hybridep.config import TrialConfig  # noqa: E402

THESIS = ["standard", "centered", "cosine", "inverse_cosine", "stochastic"]
TINY = ["--sizes", "64", "16", "10", "--T1", "8", "--T2", "4", "--train-samples", "300", "--seeds", "0", "1"]


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The complaint about a command line; it must be one line, with exit code 2."""
    assert running_study.main("schedule_sweep", schedule_sweep.Args, schedule_sweep.plan, argv) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"error: [^\n]+\n", shown.err), shown.err
    return shown.err


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ("--dataset imagenet", "--dataset 'imagenet': must be one of digits"),
        ("--protocol imagenet", "--protocol 'imagenet': must be one of digits"),
        ("--families cosin", "families 'cosin': must be one of constant"),
        ("--cheap biased", "cheap 'biased': must be one of standard"),
        ("--accurate exact", "accurate 'exact': must be one of standard"),
        ("--draw often", "draw 'often': must be one of bernoulli"),
        ("--search luck", "--search 'luck': must be one of thesis"),
        ("--space all", "space 'all': must be one of schedule"),
        ("--skew-range 0 1.5", "skew_range 0.0 1.5: must"),
        ("--skew-range -1 1", "skew_range -1.0 1.0: must"),
        ("--skew-range 0.7 0.2", "skew_range 0.7 0.2: must"),
        ("--skew-range nan 1", "skew_range nan 1.0: must"),
        ("--skew-range 0", "--skew-range"),
        ("--beta 0", "beta 0.0:"),
        ("--beta nan", "beta nan:"),
        ("--beta -1", "beta -1.0:"),
        ("--beta-range 0.1 0.2", "--beta-range 0.1 0.2: space schedule has no β"),
        ("--space schedule+nudge --beta-range 0 1", "beta_range 0.0 1.0: must"),
        ("--T1 0", "T1 0:"),
        ("--T2 -3", "T2 -3:"),
        ("--T1 1.5", "--T1"),
        ("--learning-rates -0.1", "learning_rates"),
        ("--learning-rates 0.1 0.1 0.1", "learning_rates"),
        ("--momentum 1", "momentum 1.0:"),
        ("--sizes 784 128 10", "sizes 784-128-10"),
        ("--sizes 64 128 7", "sizes 64-128-7"),
        ("--sizes 64", "sizes 64"),
        ("--epochs 0", "epochs 0:"),
        ("--epochs ten", "--epochs"),
        ("--batch-size 0", "batch_size 0:"),
        ("--relaxation soon", "soon"),
        ("--relaxation fixed --tolerance 0.1", "tolerance 0.1"),
        ("--network transformer", "transformer"),
        ("--trials 0", "--trials 0: must be at least 1"),
        ("--trials many", "--trials"),
        ("--confirm -1", "--confirm -1: must be 0 or more"),
        ("--grid 0 5 --search grid", "--grid 0 5: must"),
        ("--search grid --families piecewise", "knots"),
        ("--seeds 1 1", "--seeds 1 1: must be different"),
        ("--seeds -1", "--seeds -1: must be"),
        ("--seeds one", "--seeds"),
        ("--validation 0", "--validation 0: a search selects"),
        ("--validation 5000", "validation 5000"),
        ("--train-samples 100000 --search thesis", "train_samples 100000"),
        ("--cpus-per-trial 0", "--cpus-per-trial 0: must be more than 0"),
        ("--cpus-per-trial 4096", "--cpus-per-trial 4096: this machine has"),
        ("--cpus-per-trial nan", "--cpus-per-trial nan: must"),
        ("--gpus-per-trial -1", "--gpus-per-trial -1: must be 0 to 1"),
        ("--gpus-per-trial 1.5", "--gpus-per-trial 1.5: must be 0 to 1"),
        ("--gpus-per-trial 1", "--gpus-per-trial 1: this machine has"),
        ("--out s3://bucket/study", "--out s3:/bucket/study: must be a folder"),
        ("--search thesis --trials 9", "--trials: means nothing to --search thesis"),
        ("--search grid --space estimators", "--space estimators: must be schedule or schedule+nudge"),
        ("--max-concurrent 0", "--max-concurrent 0: must be at least 1"),
        ("--time-budget 0", "--time-budget 0: must be more than 0 seconds"),
        ("--ray-address here", "--ray-address 'here': must be host:port"),
        ("--ray-address nowhere.invalid:6379", "--ray-address 'nowhere.invalid': is no host that is known here"),
        ("--ray-address 127.0.0.1:1", "--ray-address 127.0.0.1:1: no Ray cluster answers there"),
        ("--resume nowhere", "--resume nowhere: is not a study (no study.json in it)"),
        ("--from nowhere", "--from nowhere: is not a study (no study.json in it)"),
        ("--resume nowhere --from nowhere", "--from nowhere: cannot be given together with --resume"),
        ("--colour blue", "--colour"),
        ("cosine", "cosine"),
        ("--dataset mnist --data-dir nowhere", "nowhere"),
        ("--out /dev/null/study", "--out /dev/null/study: cannot be"),
    ],
)
def test_bad_input_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: str, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hybridep.datasets._download", lambda *_: None)
    assert complaint in refused(capsys, *argv.split())
    assert not (tmp_path / "results").exists()


IMPORTED = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    print(end.code, sorted({"ray", "torch", "optuna", "sklearn"} & set(sys.modules)))
"""


def test_bad_input_is_found_before_ray_and_pytorch_are_imported(tmp_path: Path) -> None:
    command = [sys.executable, "-c", IMPORTED, str(STUDIES / "schedule_sweep.py"), "--epochs", "0"]
    environment = {**os.environ, "PYTHONPATH": str(STUDIES)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "2 []\n"
    assert done.stderr == "error: epochs 0: Input should be greater than or equal to 1\n"


@pytest.mark.parametrize(("has_token", "mode"), [(True, "token"), (False, None)])
def test_a_client_of_a_cluster_on_loopback_stays_there_and_shows_its_token(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_token: bool, mode: str | None
) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", os.environ.copy())  # what is set below stays here
    (tmp_path / "token").write_text("secret" if has_token else "")
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(tmp_path / ("token" if has_token else "none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        Resources(ray_address=f"127.0.0.1:{listener.getsockname()[1]}").prepare()
    assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert os.environ.get("RAY_AUTH_MODE") == mode


def test_an_output_folder_that_holds_something_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert f"--out {tmp_path}: is not empty" in refused(capsys, "--out", str(tmp_path))
    (tmp_path / "study.json").write_text("{}")
    assert f"--out {tmp_path}: holds a study already; continue it with --resume" in refused(capsys, "--out", str(tmp_path))


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A study of the thesis's strategies of which nothing has run yet."""
    args = replace(parse(schedule_sweep.Args, ["--search", "thesis", *TINY]), out=tmp_path / "study")
    folder, _ = running_study.prepare("schedule_sweep", args, schedule_sweep.plan(args))
    folder.close()
    return folder.path


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a study.json."""
    description = json.loads((path / "study.json").read_text())
    edit(description)
    (path / "study.json").write_text(json.dumps(description))


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda study: study.clear(), "study.json is damaged (format is missing"),
        (lambda study: study.pop("arguments"), "study.json is damaged (arguments is missing"),
        (lambda study: study.update(format=99), "was written in format 99, this version reads format 1"),
        (lambda study: study.update(format="1"), "study.json is damaged (format is missing or not a int)"),
        (lambda study: study.update(kind="thesis_tables"), "is a thesis_tables study"),
        (lambda study: study["arguments"].update(trials="many"), "study.json is damaged (arguments: trials 'many'"),
        (lambda study: study["arguments"].update(dataset="imagenet"), "--dataset 'imagenet'"),
        (lambda study: study["protocol"].update(epochs=3), "study.json is damaged (protocol does not follow from arguments)"),
        (lambda study: study["dataset"].update(checksum="0"), "was begun with other digits data"),
    ],
)
def test_a_study_that_was_altered_is_not_continued(
    capsys: pytest.CaptureFixture[str], begun: Path, edit: Callable[[dict[str, Any]], object], complaint: str
) -> None:
    change(begun, edit)
    assert complaint in refused(capsys, "--resume", str(begun))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_study_json_that_is_none_is_told(capsys: pytest.CaptureFixture[str], begun: Path, content: bytes) -> None:
    (begun / "study.json").write_bytes(content)
    assert f"--resume {begun}: study.json is damaged" in refused(capsys, "--resume", str(begun))


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ("--epochs 3", "--epochs: cannot be changed when a study is continued"),
        ("--seeds 7", "--seeds: cannot be changed when a study is continued"),
        ("--search tpe", "--search: cannot be changed when a study is continued"),
        ("--out elsewhere", "--out: cannot be changed when a study is continued"),
        ("--trials 3", "--trials 3: must be at least 24"),
    ],
)
def test_a_study_is_continued_as_it_was_begun(capsys: pytest.CaptureFixture[str], begun: Path, argv: str, complaint: str) -> None:
    assert complaint in refused(capsys, "--resume", str(begun), *argv.split())


def test_resources_and_the_number_of_trials_may_change(begun: Path) -> None:
    argv = ["--resume", str(begun), "--cpus-per-trial", "0.5", "--trials", "30"]
    args = running_study.read_arguments("schedule_sweep", schedule_sweep.Args, argv)
    assert (args.resources.cpus_per_trial, args.trials, args.seeds, args.options.T1) == (0.5, 30, (0, 1), 8)


def test_a_study_is_repeated_from_its_study_json(begun: Path, tmp_path: Path) -> None:
    argv = ["--from", str(begun / "study.json"), "--out", str(tmp_path / "again"), "--seeds", "4"]
    args = running_study.read_arguments("schedule_sweep", schedule_sweep.Args, argv)
    assert (args.out, args.search, args.options.T1, args.seeds) == (tmp_path / "again", "thesis", 8, (4,))
    assert args.resume is None


def test_a_second_driver_on_a_study_is_refused_until_the_first_has_ended(capsys: pytest.CaptureFixture[str], begun: Path) -> None:
    first = StudyFolder.open(begun, "schedule_sweep")
    assert f"--resume {begun}: is being run by process {os.getpid()} on " in refused(capsys, "--resume", str(begun))
    first.close()
    StudyFolder.open(begun, "schedule_sweep").close()


def test_the_searches_are_the_samplers_that_there_are() -> None:
    from running.search import SAMPLERS

    assert set(schedule_sweep.SEARCHES) == {"thesis", "grid", *SAMPLERS}


def test_the_thesis_strategies_come_first_in_every_study() -> None:
    for search in schedule_sweep.SEARCHES:
        plan = schedule_sweep.plan(schedule_sweep.Args(search=search))
        assert [trial.name for trial in plan.fixed][:5] == THESIS
        assert all(trial.seeds == plan.seeds for trial in plan.fixed)


def test_a_search_holds_images_out_and_the_thesis_alone_does_not() -> None:
    assert schedule_sweep.plan(schedule_sweep.Args()).protocol.validation == 1437 // 6
    assert schedule_sweep.plan(schedule_sweep.Args(search="thesis")).protocol.validation == 0


def test_half_a_line_is_cut_and_whole_ones_stay(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    for content, kept in ((b'{"a": 1}\n{"b', b'{"a": 1}\n'), (b"{", b""), (b"", b""), (b"{}\n", b"{}\n")):
        file.write_bytes(content)
        drop_unfinished_line(file)
        assert file.read_bytes() == kept


def test_the_last_whole_row_counts(tmp_path: Path) -> None:
    files = TrialFiles(tmp_path)
    assert files.last() is None
    files.results.write_text('{"epoch": 1}\n{"epoch": 2, "done": true}\nnot json\n{"epoch": 3, "do')
    assert files.last() == {"epoch": 2, "done": True}
    assert files.ended


def test_a_checkpoint_that_is_ahead_of_its_rows_is_dropped(begun: Path) -> None:
    trial = begun / "ray" / "cosine"
    trial.mkdir()
    (trial / "params.json").write_text("{}")
    (trial / "result.json").write_text('{"epoch": 1}\n')
    for epoch in (1, 2):
        (trial / f"checkpoint-00000{epoch}.pt").touch()
    folder = StudyFolder.open(begun, "schedule_sweep")
    folder.recover()
    folder.close()
    assert [path.name for path in trial.glob("checkpoint*")] == ["checkpoint-000001.pt"]


def test_the_front_keeps_what_nothing_beats() -> None:
    points = [
        Point("a", 0.9, 0.01, 100),
        Point("b", 0.8, 0.2, 100),
        Point("c", 0.95, 0.0, 200),
        Point("d", 0.9, 0.0, 150),
        Point("e", 0.5, 0, 50),
    ]
    assert [point.strategy for point in front(points)] == ["e", "a", "c"]
    assert [point.strategy for point in front(points, slack=1.0)] == ["e", "a", "b", "c"]


def running(*argv: str) -> subprocess.Popen[str]:
    """A study in a process of its own."""
    command = [sys.executable, str(STUDIES / "schedule_sweep.py"), *argv]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result_rows(study: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of each trial as they stand in its file, without what depends on the clock and the process."""
    passing = ("epoch_seconds", "time_total_s", "timestamp", "hostname", "pid")
    return {
        path.parent.name: [
            {name: value for name, value in json.loads(line).items() if not name.startswith(passing)}
            for line in path.read_bytes().split(b"\n")[:-1]
        ]
        for path in study.glob("ray/*/result.json")
    }


def wait_for_rows(process: subprocess.Popen[str], study: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while sum(map(len, result_rows(study).values())) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def descendants(root: int) -> dict[int, str]:
    """Process ids and command lines of all processes below one."""
    parents, commands = {}, {}
    for entry in Path("/proc").iterdir():
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            commands[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ").strip()
        except (OSError, ValueError):
            continue
    below = {root}
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    return {process: commands[process] for process in below - {root}}


def listening(processes: set[int]) -> set[str]:
    """Addresses, in the kernel's hexadecimal, on which these processes accept TCP connections."""
    sockets = set()
    for process in processes:
        for link in Path(f"/proc/{process}/fd").glob("*"):
            try:
                sockets.add(os.readlink(link))
            except OSError:
                continue
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {fields[1].split(":")[0] for fields in lines if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets}


SEARCH = ["--search", "random", "--trials", "3", "--epochs", "3", "--histograms", *TINY]


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A study that nothing disturbed, and what it printed."""
    study = tmp_path_factory.mktemp("complete") / "study"
    process = running(*SEARCH, "--out", str(study))
    shown, complaint = process.communicate(timeout=300)
    assert process.returncode == 0, complaint
    assert complaint == ""
    return study, shown


def test_a_study_holds_every_epoch_of_the_thesis_and_of_the_search(complete: tuple[Path, str]) -> None:
    study, _ = complete
    rows = result_rows(study)
    assert set(rows) == {*THESIS, "search-0001", "search-0002", "search-0003"}
    assert all([row["epoch"] for row in trial] == [1, 2, 3] for trial in rows.values())
    assert all(row["config"]["seeds"] == [0, 1] for trial in rows.values() for row in trial)
    assert rows["standard"][-1]["nudged_phases"] * 2 == rows["centered"][-1]["nudged_phases"]
    assert not list(study.glob("ray/*/checkpoint*"))


def test_a_study_describes_itself(complete: tuple[Path, str]) -> None:
    description = json.loads((complete[0] / "study.json").read_text())
    assert (description["kind"], description["seeds"], description["trials_planned"]) == ("schedule_sweep", [0, 1], 8)
    assert TrialConfig(**description["protocol"]).sizes == (64, 16, 10)
    assert description["started"] <= description["ended"]
    assert {"hybridep", "torch", "numpy", "ray", "optuna", "python"} == set(description["versions"])


def test_a_study_prints_where_it_stands_and_nothing_of_rays(complete: tuple[Path, str]) -> None:
    study, shown = complete
    first, *rest = shown.splitlines()
    assert first == f"{study}: 8 trials of 3 epochs on seeds 0 1"
    progress = [line for line in rest if " trials done" in line]
    assert progress[-1].startswith("8/8 trials done, 0 running | 0:00 left | front: ")
    assert "ray" not in shown.replace(str(study), "").replace("array", "").lower()


def test_a_study_is_answered_by_its_report(complete: tuple[Path, str]) -> None:
    assert {"trials.csv", "curves.csv", "front.csv", "report.html"} <= {path.name for path in complete[0].iterdir()}


def test_optuna_knows_the_thesis_strategies_and_the_searched_ones(complete: tuple[Path, str]) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    study, _ = complete
    rows = result_rows(study)
    known = optuna.load_study(study_name="hybridep", storage=JournalStorage(JournalFileBackend(str(study / "optuna.log"))))
    assert [trial.user_attrs["trial"] for trial in known.trials] == [*THESIS, "search-0001", "search-0002", "search-0003"]
    for trial in known.trials:
        last = rows[trial.user_attrs["trial"]][-1]
        assert trial.values == [last["val_acc"], last["nudged_phases"]]


def test_tensorboard_reads_every_trial_and_seed(complete: tuple[Path, str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    study, _ = complete
    rows = result_rows(study)["cosine"]
    for run, column in (("cosine", "test_acc"), ("cosine/seed-1", "test_acc_by_seed")):
        events = EventAccumulator(str(study / "ray" / run))
        events.Reload()
        found = [(event.step, event.value) for event in events.Scalars("accuracy/test_acc")]
        expected = [row[column] if run == "cosine" else row[column][1] for row in rows]
        assert found == [(epoch, pytest.approx(value)) for epoch, value in enumerate(expected, start=1)]


def test_tensorboard_gets_histograms_of_activations_and_an_image_of_the_front(complete: tuple[Path, str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    study, _ = complete
    seed, front = (EventAccumulator(str(run)) for run in (study / "ray" / "cosine" / "seed-1", study / "front"))
    seed.Reload()
    front.Reload()
    assert [event.step for event in seed.Tensors("activations/layer_2")] == [1, 2, 3]
    assert front.Images("front")[-1].step == 8


def test_a_study_whose_processes_are_killed_ends_with_the_same_rows(complete: tuple[Path, str], tmp_path: Path) -> None:
    study = tmp_path / "study"
    process = running(*SEARCH, "--out", str(study))
    wait_for_rows(process, study, 2)
    processes = descendants(process.pid)
    assert listening({process.pid, *processes}) <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    workers = [worker for worker, command in processes.items() if re.match("ray::(StrategyTrial|ResourceTrainable)", command)]
    os.kill(workers[0], signal.SIGKILL)
    wait_for_rows(process, study, 6)
    process.send_signal(signal.SIGINT)
    shown, complaint = process.communicate(timeout=20)
    assert process.returncode == 130, complaint
    assert f"Stopped. Continue with: python {STUDIES / 'schedule_sweep.py'} --resume {study}\n" in shown

    stood = sum(map(len, result_rows(study).values()))
    process = running("--resume", str(study))
    wait_for_rows(process, study, stood + 4)
    process.kill()
    process.communicate()

    process = running("--resume", str(study))
    _, complaint = process.communicate(timeout=300)
    assert process.returncode == 0, complaint
    undisturbed, disturbed = result_rows(complete[0]), result_rows(study)
    assert set(disturbed) == set(undisturbed)
    for name, rows in undisturbed.items():
        assert list({row["epoch"]: row for row in disturbed[name]}.values()) == rows
    # A worker, both workers at Ctrl-C, both at the kill: each may have had an epoch on file whose checkpoint was not yet asked for.
    assert sum(map(len, disturbed.values())) <= sum(map(len, undisturbed.values())) + 5


def test_a_complete_study_that_is_resumed_trains_nothing(complete: tuple[Path, str]) -> None:
    before = {path: path.read_bytes() for path in complete[0].glob("ray/*/result.json")}
    process = running("--resume", str(complete[0]))
    _, complaint = process.communicate(timeout=120)
    assert process.returncode == 0, complaint
    assert {path: path.read_bytes() for path in complete[0].glob("ray/*/result.json")} == before
