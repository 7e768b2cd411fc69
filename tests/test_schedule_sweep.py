"""The schedule sweep from the command line: a whole study on Ray, and studies whose processes are killed."""

import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hybridep.config import TrialConfig
from hybridep.presets import STRATEGIES
from hybridep.study.command_line import GROUPS, lines_of, parse
from hybridep.study.folder import StudyFolder, TrialFiles, drop_unfinished_line
from hybridep.study.front import Point, front
from hybridep.study.resources import Resources
from studies import gradient_alignment, thesis_tables
from tests.sweeps import STUDIES, TINY, begun_in, refused, running_study, schedule_sweep

THESIS = ["standard", "centered", "cosine", "inverse_cosine", "stochastic"]
CONTROL = "centered_2_epochs"  # half of three, rounded up


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A study of the thesis's strategies of which nothing has run yet."""
    return begun_in(tmp_path / "study")


def helped(capsys: pytest.CaptureFixture[str], arguments: Any, *argv: str) -> str:
    """What --help shows, in one line without frames."""
    with pytest.raises(SystemExit) as ended:
        parse(arguments, [*argv, "--help"])
    assert ended.value.code == 0
    return " ".join(re.sub("[│╭╮╰╯]", " ", capsys.readouterr().out).split())


def test_help_begins_with_examples_and_has_groups_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    before, *parts = re.split(r" ((?:[a-z]+ )?options) [-─]{2,}", helped(capsys, schedule_sweep.Args))
    assert before.count("python studies/schedule_sweep.py") == 4
    shown = dict(zip(parts[::2], parts[1::2], strict=True))
    assert list(shown) == ["options", *(f"{name} options" for name in GROUPS)]
    assert "--search {thesis,random,quasi-random,tpe,nsga2,gp,grid,none}" in shown["study options"]
    assert "--kernel INT side of each convolution's kernel in pixels (default: 3 with conv)" in shown["network options"]
    assert "--histograms, --no-histograms" in shown["reporting options"]


# Those that take their arguments by `parse`.
SCRIPTS = [path.stem for path in sorted(STUDIES.glob("*.py")) if "hybridep.study.arguments" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_option_is_described_and_none_has_nothing_for_a_default(capsys: pytest.CaptureFixture[str], script: str) -> None:
    arguments = importlib.import_module(f"studies.{script}").Args
    assert [line.name for line in lines_of(arguments()) if not line.about] == []
    shown = helped(capsys, arguments)
    assert "None" not in shown and "(default: )" not in shown


def test_defaults_are_the_values_of_the_protocol_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    shown = helped(capsys, schedule_sweep.Args)
    assert "--epochs INT passes over the training images (default: 15)" in shown
    assert "--beta FLOAT nudge strength β (default: 0.85)" in shown and "(default: 0 1 2)" in shown
    shown = helped(capsys, schedule_sweep.Args, "--protocol", "fashion-conv")
    assert "--epochs INT passes over the training images (default: 8)" in shown
    assert "--channels [INT [INT ...]] feature maps of each convolution (default: 16 32)" in shown and "(default: 1 2 3)" in shown
    assert "passes over the training images (default: 50)" in helped(capsys, gradient_alignment.Args)
    assert "Passes over the training images. (default: the table's)" in helped(capsys, thesis_tables.Args)
    assert "Passes over the training images. (default: 50)" in helped(capsys, thesis_tables.Args, "--table", "mnist")


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


def test_resources_and_the_number_of_trials_may_change(begun: Path) -> None:
    argv = ["--resume", str(begun), "--cpus-per-trial", "0.5", "--trials", "30"]
    args = running_study.read_arguments("schedule_sweep", schedule_sweep.Args, argv)
    assert (args.resources.cpus_per_trial, args.trials, args.seeds, args.options["T1"]) == (0.5, 30, (0, 1), 8)


def test_a_study_is_repeated_from_its_study_json(begun: Path, tmp_path: Path) -> None:
    argv = ["--from", str(begun / "study.json"), "--out", str(tmp_path / "again"), "--seeds", "4"]
    args = running_study.read_arguments("schedule_sweep", schedule_sweep.Args, argv)
    assert (args.out, args.search, args.options["T1"], args.seeds) == (str(tmp_path / "again"), "thesis", 8, (4,))
    assert args.resume is None


def test_a_second_driver_on_a_study_is_refused_until_the_first_has_ended(capsys: pytest.CaptureFixture[str], begun: Path) -> None:
    first = StudyFolder.open(begun, "schedule_sweep")
    assert f"--resume {begun}: is being run by process {os.getpid()} on " in refused(capsys, "--resume", str(begun))
    first.close()
    StudyFolder.open(begun, "schedule_sweep").close()


def test_the_searches_are_the_samplers_that_there_are() -> None:
    from hybridep.study.search import SAMPLERS

    assert set(schedule_sweep.SEARCHES) == {"thesis", "grid", "none", *SAMPLERS}


def test_the_thesis_strategies_come_first_in_every_study() -> None:
    for search in set(schedule_sweep.SEARCHES) - {"none"}:
        plan = schedule_sweep.plan(schedule_sweep.Args(search=search))
        assert [trial.name for trial in plan.fixed][:5] == THESIS
        assert all(trial.seeds == plan.seeds for trial in plan.fixed)


def test_a_search_confirms_on_five_fresh_seeds_unless_told_otherwise_and_the_thesis_alone_on_none() -> None:
    assert schedule_sweep.plan(schedule_sweep.Args()).fresh_seeds == (3, 4, 5, 6, 7)
    assert schedule_sweep.plan(schedule_sweep.Args(confirm=0)).fresh_seeds == ()
    assert schedule_sweep.plan(schedule_sweep.Args(search="thesis")).fresh_seeds == ()


def test_the_default_space_has_the_thesis_strategies_and_such_as_take_one_nudged_phase_in_every_update() -> None:
    plan = schedule_sweep.plan(schedule_sweep.Args())
    assert plan.search is not None and plan.search.trials == 12
    assert all(plan.search.space.point(plan.protocol, strategy) for strategy in STRATEGIES.values())
    for cheap, accurate in (("alternating", "centered"), ("split_sign", "alternating")):
        assert plan.search.space.point(plan.protocol, {**STRATEGIES["cosine"], "cheap": cheap, "accurate": accurate})
    assert plan.search.space.point(plan.protocol, {**STRATEGIES["cosine"], "accurate": "fourth_order"}) is None
    grid = schedule_sweep.plan(schedule_sweep.Args(search="grid"))
    assert {trial.overrides["family"] for trial in grid.fixed if trial.origin == "search"} == {"constant"}


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


def test_what_collapsed_on_a_seed_is_on_no_front_and_not_confirmed_for_it() -> None:
    points = [Point("a", 0.9, 0.0, 100), Point("b", 0.95, 0.3, 90, collapsed=1 / 3)]
    assert [point.strategy for point in front(points)] == ["a"]
    assert [point.strategy for point in front(points, slack=9.0)] == ["a"]


def test_centered_trained_for_less_runs_beside_the_thesis_strategies() -> None:
    planned = schedule_sweep.plan(schedule_sweep.Args())
    control = [trial for trial in planned.fixed if trial.origin == "control"]
    assert [(trial.name, trial.overrides["epochs"]) for trial in control] == [("centered_8_epochs", 8), ("centered_12_epochs", 12)]
    for trial in control:
        expected = planned.protocol.replace(**STRATEGIES["centered"], epochs=trial.overrides["epochs"])
        assert planned.protocol.replace(**trial.overrides) == expected
    short = schedule_sweep.plan(parse(schedule_sweep.Args, ["--epochs", "2", "--warmup-epochs", "1"]))
    assert [trial for trial in short.fixed if trial.origin == "control"] == []  # one epoch would be all warm-up


def running(*argv: str) -> subprocess.Popen[str]:
    """A study in a process of its own, as a notebook would start it: with its kernel's backend for figures."""
    command = [sys.executable, str(STUDIES / "schedule_sweep.py"), *argv]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result_rows(study: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of each trial as they stand in its file, without what depends on the clock and the process."""
    passing = ("epoch_seconds", "time_total_s", "timestamp", "load", "hostname", "pid")
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


SEARCH = ["--search", "random", "--trials", "3", "--space", "schedule", "--confirm", "0", "--epochs", "3", *TINY]
SEARCH += ["--histograms", "--tensorboard-seeds"]


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
    assert set(rows) == {*THESIS, CONTROL, "search-0001", "search-0002", "search-0003"}
    assert all([row["epoch"] for row in trial] == [1, 2, 3][: 2 if name == CONTROL else 3] for name, trial in rows.items())
    assert all(row["config"]["seeds"] == [0, 1] for trial in rows.values() for row in trial)
    assert rows["standard"][-1]["nudged_phases"] * 2 == rows["centered"][-1]["nudged_phases"]
    assert not list(study.glob("ray/*/checkpoint*"))


def test_a_study_describes_itself(complete: tuple[Path, str]) -> None:
    description = json.loads((complete[0] / "study.json").read_text())
    assert (description["kind"], description["seeds"], description["trials_planned"]) == ("schedule_sweep", [0, 1], 9)
    assert TrialConfig(**description["protocol"]).network.sizes == (64, 16, 10)
    assert description["started"] <= description["ended"]
    assert {"hybridep", "torch", "numpy", "ray", "optuna", "python"} == set(description["versions"])


def test_a_study_prints_where_it_stands_and_nothing_of_rays(complete: tuple[Path, str]) -> None:
    study, shown = complete
    first, *rest = shown.splitlines()
    assert first == f"{study}: 9 trials of 3 epochs on seeds 0 1"
    progress = [line for line in rest if " trials done" in line]
    assert progress[0].startswith("0/9 trials done, starting Ray | 0:0")
    assert re.match(r"9/9 trials done, 0 running \| \d:\d\d elapsed \| 0:00 left \| front in validation accuracy: ", progress[-1])
    assert "ray" not in shown.replace(str(study), "").replace("array", "").replace("starting Ray", "").lower()


def test_a_study_is_answered_by_its_report(complete: tuple[Path, str]) -> None:
    assert {"trials.csv", "curves.csv", "front.csv", "report.html"} <= {path.name for path in complete[0].iterdir()}


def test_optuna_knows_the_thesis_strategies_and_the_searched_ones(complete: tuple[Path, str]) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    study, _ = complete
    rows = result_rows(study)
    known = optuna.load_study(study_name="hybridep", storage=JournalStorage(JournalFileBackend(str(study / "optuna.log"))))
    assert known.metric_names == ["validation accuracy", "nudged phases"]
    assert known.trials[0].user_attrs["strategy"] == "p_std = 1" and all(trial.user_attrs["strategy"] for trial in known.trials)
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
    assert front.Images("front")[-1].step == 9


def test_a_study_whose_processes_are_killed_ends_with_the_same_rows(complete: tuple[Path, str], tmp_path: Path) -> None:
    study = tmp_path / "study"
    process = running(*SEARCH, "--out", str(study))
    wait_for_rows(process, study, 2)
    processes = descendants(process.pid)
    assert listening({process.pid, *processes}) <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    workers = [worker for worker, command in processes.items() if re.match("ray::(DurableTrial|ResourceTrainable)", command)]
    os.kill(workers[0], signal.SIGKILL)
    wait_for_rows(process, study, 6)
    process.send_signal(signal.SIGINT)
    shown, complaint = process.communicate(timeout=20)
    assert process.returncode == 130, complaint
    assert shown.endswith(f"Stopped. Continue with: python {STUDIES / 'schedule_sweep.py'} --resume {study}\n")
    if any(row.get("done") for trial in result_rows(study).values() for row in trial):
        assert "This study is not complete: " in (study / "report.html").read_text()

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
    # As a driver leaves it that dies right after the last trial's last row.
    study = json.loads((complete[0] / "study.json").read_text())
    (complete[0] / "study.json").write_text(json.dumps({**study, "ended": None}))
    before = {path: path.read_bytes() for path in complete[0].glob("ray/*/result.json")}
    process = running("--resume", str(complete[0]))
    _, complaint = process.communicate(timeout=120)
    assert process.returncode == 0, complaint
    assert {path: path.read_bytes() for path in complete[0].glob("ray/*/result.json")} == before
    assert json.loads((complete[0] / "study.json").read_text())["ended"] is not None
