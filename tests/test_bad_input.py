"""Bad input, whatever it is: command lines, study folders, data, results and checkpoints that are cut, altered or foreign.

Each case ends in one line and exit code 2 before anything is trained, or in the results of an undisturbed run. Readers of single formats
have tests of their own beside them; here is what a user's command makes of them.
"""

import functools
import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hybridep
from hybridep.checkpoints import MAGIC
from hybridep.config import ADDED
from hybridep.policies import FAMILIES
from hybridep.schedules import Constant
from hybridep.study.folder import StudyFolder
from tests.sweeps import STUDIES, begun_in, refused, running_study, schedule_sweep, sweep
from tests.trials import COSINE, PROTOCOL, begin_in, digits, rows

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture(autouse=True)
def nothing_to_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No datasets but those that are given, and nothing written but here."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("hybridep.datasets._download", lambda *_: None)
    monkeypatch.setattr(running_study, "train", lambda *_: pytest.fail("trains, and should have refused"))


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A study of the thesis's strategies of which nothing has run yet."""
    return begun_in(tmp_path / "study")


# Command lines


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
        ("--space all", "space 'all': must be one of signs"),
        ("--skew-range 0 1.5", "skew_range 0.0 1.5: must"),
        ("--skew-range -1 1", "skew_range -1.0 1.0: must"),
        ("--skew-range 0.7 0.2", "skew_range 0.7 0.2: must"),
        ("--skew-range nan 1", "skew_range nan 1.0: must"),
        ("--skew-range 0", "--skew-range"),
        ("--beta 0", "beta 0.0:"),
        ("--beta nan", "beta nan:"),
        ("--beta -1", "beta -1.0:"),
        ("--beta-range 0.1 0.2", "--beta-range 0.1 0.2: space signs has no β"),
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
        ("--trials 0", "--trials 0: must be 1 to 100,000, --search thesis runs"),
        ("--trials many", "--trials"),
        ("--confirm -1", "--confirm -1: must be 0 to 1,000"),
        ("--draw spread", "--draw spread: means nothing to --space signs, which searches it"),
        ("--accurate standard", "--accurate standard: means nothing to --space signs, which searches it"),
        ("--space cheap --cheap negative", "--cheap negative: means nothing to --space cheap, which searches it"),
        ("--search thesis --per update", "--per update: means nothing to --search thesis"),
        ("--space estimators --cheap negative", "--cheap negative: means nothing to --space estimators, which searches it"),
        ("--space estimators --grain sample", "--grain sample: means nothing to --space estimators, which searches it"),
        ("--space cheap --accurate part --accurate-part 0.5", "means nothing to --space cheap, which searches it"),
        ("--search thesis --grain sample", "--grain sample: means nothing to --search thesis"),
        ("--cheap part --cheap-part 1.5", "cheap_part 1.5: Input should be less than or equal to 1"),
        ("--cheap part --cheap-part 0", "cheap_part 0.0: Input should be greater than"),
        ("--cheap part --cheap-of centered", "cheap_of 'centered': must be an estimator of one nudged phase"),
        ("--cheap-part 0.5", "cheap_part 0.5: estimator standard takes no parameters"),
        ("--cheap corrected --grain sample", "grain sample: estimator corrected works on whole minibatches"),
        ("--search grid --families residual", "families residual: is an adaptive policy"),
        ("--space cheap --families agreement", "families agreement: compare with an accurate estimator, space cheap may choose none"),
        ("--extend nowhere.py", "--extend nowhere.py: cannot be read"),
        ("--grid 0 5 --search grid", "--grid 0 5: must"),
        ("--search grid --families piecewise", "knots"),
        ("--seeds 1 1", "--seeds 1 1: must be different"),
        ("--seeds -1", "--seeds -1: must be"),
        (f"--seeds {2**127}", f"--seeds {2**127}: must be different numbers from 0 to {2**53 - 6}"),
        (f"--seeds {2**53 - 1} --confirm 1", f"must be different numbers from 0 to {2**53 - 2}"),
        ("--grid 1000 1000 --search grid", "--grid 1000 1000: must"),
        (f"--epochs {10**9}", f"epochs {10**9}: Input should be less than or equal to 10000"),
        ("--seeds one", "--seeds"),
        ("--validation 0", "--validation 0: a search selects"),
        ("--validation 5000", "validation 5000"),
        ("--train-samples 100000 --search thesis", "train_samples 100000"),
        ("--cpus-per-trial 0", "--cpus-per-trial 0: must be 0.0001 to 100,000"),
        ("--cpus-per-trial 4096", "--cpus-per-trial 4096: this machine has"),
        ("--cpus-per-trial nan", "--cpus-per-trial nan: must"),
        ("--gpus-per-trial -1", "--gpus-per-trial -1: must be 0.0001 to 1, or 0"),
        ("--gpus-per-trial 1.5", "--gpus-per-trial 1.5: must be 0.0001 to 1, or 0"),
        ("--gpus-per-trial 1", "--gpus-per-trial 1: this machine has"),
        ("--device tpu", "--device"),
        ("--device gpu", "--device gpu: this machine has no GPU that PyTorch can use ("),
        ("--device gpu --gpus-per-trial 0", "--device gpu: trials would run on CPUs alone with --gpus-per-trial 0"),
        ("--device cpu --gpus-per-trial 0.5", "--gpus-per-trial 0.5: must be 0 or left out with --device cpu"),
        ("--device cpu --precision tf32", "--precision tf32: needs a GPU (trials run on CPUs alone, --device cpu)"),
        ("--precision tf32", "--precision tf32: needs a GPU (this machine has no GPU that PyTorch can use ("),
        ("--precision tf32 --gpus-per-trial 0", "--precision tf32: needs a GPU (trials run on CPUs alone, --gpus-per-trial 0)"),
        ("--precision half", "--precision"),
        ("--start last --augment True --search thesis", "start last: must be zeros with augment"),
        (
            "--start last --start-memory 0.0001",
            "--start-memory 0.0001: a trial with start last keeps the equilibria of 1,198 images on 5 seeds",
        ),
        ("--space schedule+nudge+relaxation --start-memory 0.0001 --confirm 0", "--start-memory 0.0001: a trial with start last keeps"),
        ("--start-memory 0", "--start-memory 0: must be 1e-06 to 1e+06, in GiB"),
        ("--start-memory nan", "--start-memory nan: must be"),
        ("--out memory://study", "--out memory://study: must be a store that all nodes reach"),
        ("--out nowhere://study", "--out nowhere://study: cannot be used"),
        ("--resume nowhere://study", "--resume nowhere://study: cannot be used"),
        ("--out file:///dev/null/study", "--out file:///dev/null/study: cannot be"),
        ("--resume file:///nowhere/study", "--resume file:///nowhere/study: is not a study (no study.json in it)"),
        ("--init-gain inf", "init_gain inf:"),
        ("--kernel -1", "kernel -1:"),
        ("--network conv --channels 0 --sizes 10", "channels 0"),
        ("--channels 8", "channels 8: network mlp takes only"),
        ("--dtype float16", "float16"),
        ("--warmup-epochs 99", "warmup_epochs 99"),
        ("--eta-min nan", "eta_min nan:"),
        ("--test-samples 0", "test_samples 0:"),
        ("--patience -1", "--patience -1: must be 0 to 10,000"),
        ("--time-budget nan", "--time-budget nan: must be more than 0 seconds"),
        ("--dataset nowhere.npz --protocol digits", "dataset nowhere.npz: no such file"),
        ("--dataset digits --data-dir", "--data-dir"),
        ("--from /dev/null", "--from /dev/null: study.json is damaged"),
        ("--resume /proc/self/mem", "--resume /proc/self/mem: study.json cannot be read"),
        ("--search thesis --trials 9", "--trials: means nothing to --search thesis"),
        ("--search grid --space estimators", "--space estimators: must be schedule or schedule+nudge"),
        ("--max-concurrent 0", "--max-concurrent 0: must be 1 to 100,000"),
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
def test_a_command_line_that_makes_no_sense_is_told_in_one_line(capsys: pytest.CaptureFixture[str], argv: str, complaint: str) -> None:
    assert complaint in refused(capsys, *argv.split())
    assert not list(Path().iterdir())


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
    environment = {**os.environ, "PYTHONPATH": str(STUDIES.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "2 []\n"
    assert done.stderr == "error: epochs 0: Input should be greater than or equal to 1\n"


@pytest.mark.parametrize(
    ("script", "argv"),
    [
        ("schedule_sweep.py", "--epochs 0"),
        ("thesis_tables.py", "--table mnist --data-dir nowhere --seeds -1"),
        ("overhead_benchmark.py", "--trials 0"),
        ("chaos_benchmark.py", "--kills 3"),
        ("bias_order.py", "--threads 0"),
        ("bias_order.py", "--out s3://bucket/study"),
        ("bias_order.py", "--precision tf32"),
        ("thesis_tables.py", "--table mnist --data-dir nowhere --precision tf32"),
        ("thread_benchmark.py", "--out s3://bucket/study"),
        ("../analysis/report.py", ""),
    ],
)
def test_a_script_ends_with_code_2_and_one_line(script: str, argv: str) -> None:
    command = [sys.executable, str(STUDIES / script), *argv.split()]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(STUDIES.parent)}, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert not list(Path().iterdir())


def test_an_output_folder_that_holds_something_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert f"--out {tmp_path}: is not empty" in refused(capsys, "--out", str(tmp_path))
    (tmp_path / "study.json").write_text("{}")
    assert f"--out {tmp_path}: holds a study already; continue it with --resume" in refused(capsys, "--out", str(tmp_path))


NAMING = """
import sys
from hybridep.study.description import new_folder
input()  # until all are ready
print(*(new_folder("schedule_sweep") for _ in range(20)), sep="\\n")
"""


def test_studies_that_begin_at_the_same_moment_have_folders_of_their_own(tmp_path: Path) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", NAMING], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in started:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    named = [name for process in started for name in process.communicate()[0].split()]
    assert len(named) == len(set(named)) == 80
    assert {str(path.relative_to(tmp_path)) for path in (tmp_path / "results").iterdir()} == set(named)


def test_a_study_that_is_refused_leaves_no_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    refused(capsys, "--dataset", "cifar10", "--data-dir", str(tmp_path))
    assert not list(Path().iterdir())


def test_classes_without_images_to_train_on_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun_in(tmp_path / "study", "--search", "thesis", tiny=("--train-samples", "5", "--validation", "0"))
    assert capsys.readouterr().out == "digits: the 5 images to train on have none of class 0, 1, 3, 4, 5, 7, 9\n"


def test_what_warm_starts_keep_is_told_before_a_study_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = ("--train-samples", "1000", "--validation", "0", "--seeds", "1", "2")
    begun_in(tmp_path / "warm", "--search", "thesis", "--start", "last", tiny=tiny)
    # 138 units in half precision.
    said = f"A trial with start last keeps the equilibria of 1,000 images on 2 seeds, {138 * 2 * 1000 * 2 / 2**30:.3g} GiB of memory"
    assert capsys.readouterr().out == f"{said}, and up to 2 times that on disk\n"
    begun_in(tmp_path / "cold", "--search", "thesis", tiny=tiny)
    assert capsys.readouterr().out == ""


def test_a_study_goes_on_only_with_memory_for_its_warm_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = begun_in(tmp_path / "study", "--search", "thesis", "--start", "last")
    capsys.readouterr()
    assert "--start-memory 1e-06: a trial with start last keeps" in refused(capsys, "--resume", str(study), "--start-memory", "1e-6")


@pytest.mark.parametrize("out", [None, "study"])
def test_a_study_that_ray_refuses_leaves_nothing(monkeypatch: pytest.MonkeyPatch, out: str | None) -> None:
    def refusing(*_: Any) -> int:
        assert len(list(Path().glob("**/study.json"))) == 1
        return 2

    monkeypatch.setattr(running_study, "train", refusing)
    assert sweep("--search", "thesis", "--epochs", "2", *(("--out", out) if out else ())) == 2
    assert [str(path) for path in Path().glob("**/*")] == ([out] if out else ["results"])


def test_where_no_folder_can_be_made_one_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    Path("results").write_text("a file")
    assert refused(capsys, "--search", "thesis").startswith("error: --out: must be given, for results/schedule_sweep-")


# Studies that are continued


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
        (lambda study: study.update(format=99), "was written in format 99, this version reads format 2"),
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
        ("--trials 3", "--trials 3: must be at least 12"),
    ],
)
def test_a_study_is_continued_as_it_was_begun(capsys: pytest.CaptureFixture[str], begun: Path, argv: str, complaint: str) -> None:
    assert complaint in refused(capsys, "--resume", str(begun), *argv.split())


def test_a_study_of_a_version_that_knew_fewer_fields_is_continued(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Any] = []
    monkeypatch.setattr(running_study, "train", lambda folder, plan, *_: plans.append(plan) or 1)

    def older(study: dict[str, Any]) -> None:
        for name in ADDED:
            del study["protocol"][name]
        study["arguments"]["options"] |= {"momentum": None, "cheap_memory": None}  # what was not given stood there too

    change(begun, older)
    assert sweep("--resume", str(begun)) == 1
    assert {name: getattr(plans[0].protocol, name) for name in ADDED} == ADDED


def test_a_search_from_before_there_were_starts_goes_on_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begun_in(tmp_path / "study", "--search", "random", "--space", "schedule+nudge+relaxation")
    plans: list[Any] = []
    monkeypatch.setattr(running_study, "train", lambda folder, plan, *_: plans.append(plan) or 1)
    change(study, lambda description: description["choices"].pop("starts"))
    capsys.readouterr()
    assert sweep("--resume", str(study)) == 1
    assert capsys.readouterr().out.startswith(f"{study}: goes on with the starts that it was begun with, without last\n")
    assert plans[0].search.space.limits.starts == ("zeros",)


def test_a_search_goes_on_with_the_names_that_it_was_begun_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = dict(FAMILIES)
    argv = ("--search", "random", "--space", "estimators", "--trials", "4")
    study = begun_in(tmp_path / "study", *argv)
    args = running_study.read_arguments("schedule_sweep", schedule_sweep.Args, ["--resume", str(study)])
    try:

        class Sometimes(Constant, name="sometimes"):
            """A family that came to the code when the study had begun."""

        folder, _ = running_study.prepare("schedule_sweep", args, (fresh := schedule_sweep.plan(args)))
        told, plan = capsys.readouterr().out, fresh.choosing(folder.description["choices"])
        folder.close()
        assert told == f"{study}: goes on with the families that it was begun with, without sometimes\n"
        assert fresh.search and "sometimes" in fresh.search.space.limits.families
        assert plan.search and plan.search.space.limits.families == tuple(known)
        assert json.loads((study / "study.json").read_text())["choices"] == plan.choices
    finally:
        FAMILIES.restore(known)


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda choices: choices["draws"].append("dice"), "draws 'dice': was searched, and is none any more; there are bernoulli, spread"),
        (lambda choices: choices.pop("families"), "families: must be a list of names"),
    ],
)
def test_a_search_whose_names_are_gone_is_not_continued(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, edit: Callable[[Any], object], complaint: str
) -> None:
    study = begun_in(tmp_path / "study", "--search", "random")
    change(study, lambda description: edit(description["choices"]))
    said = refused(capsys, "--resume", str(study))
    assert f"the choices in study.json cannot be searched ({complaint}); it ran with hybridep {hybridep.__version__}" in said


def test_fresh_seeds_may_be_added_to_a_study_but_not_taken_away(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    study = begun_in(tmp_path / "study", "--search", "random", "--confirm", "3")
    argv = ["--resume", str(study), "--confirm"]
    assert running_study.read_arguments("schedule_sweep", schedule_sweep.Args, [*argv, "5"]).confirm == 5
    assert "--confirm 2: must be at least 3, as the study was begun" in refused(capsys, *argv, "2")


JUNK: tuple[Any, ...] = (None, -1, 1e400, "", "x\ny", [], {}, [None], {"a": {}}, True)


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in JSON."""
    yield above
    for key, below in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(below, (*above, key))


def value_at(content: Any, place: tuple[Any, ...]) -> Any:
    return functools.reduce(lambda value, key: value[key], place, content)


def replaced(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    changed = json.loads(json.dumps(content))
    target = changed
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    return changed


def test_whatever_stands_in_a_study_json_it_is_continued_as_it_was_begun_or_refused(
    begun: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every value in turn is another kind of junk."""
    plans: list[Any] = []
    monkeypatch.setattr(running_study, "train", lambda folder, plan, *_: plans.append(plan) or 1)
    monkeypatch.setattr(running_study, "load", lambda *_: digits())
    content = json.loads((begun / "study.json").read_text())
    assert sweep("--resume", str(begun)) == 1
    for number, place in enumerate(place for place in places(content) if place and place[:2] != ("arguments", "resources")):
        junk = JUNK[number % len(JUNK)]
        if junk is True and isinstance(value_at(content, place), bool):
            continue  # no junk where a switch stands
        (begun / "study.json").write_text(json.dumps(replaced(content, place, junk)))
        capsys.readouterr()
        code = sweep("--resume", str(begun))
        complaint = capsys.readouterr().err
        assert (code, complaint.count("\n")) in ((1, 0), (2, 1)), (place, complaint)
        assert plans[-1] == plans[0], place


# Data


def npz(images: int = 40) -> bytes:
    rng = np.random.default_rng(0)
    content = io.BytesIO()
    labels = np.arange(images) % 10
    pixels = rng.integers(0, 255, (images, 8, 8)).astype(np.uint8)
    np.savez(content, train_images=pixels, train_labels=labels, test_images=pixels, test_labels=labels)
    return content.getvalue()


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def nothing(content: bytes) -> bytes:
    return b""


def page(content: bytes) -> bytes:
    return b"<!DOCTYPE html><html>404</html>"


def a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def more(content: bytes) -> bytes:
    return content + b"more"


class Touch:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def hostile(content: bytes) -> bytes:
    """A pickle that would run code."""
    return pickle.dumps({"data": Touch(Path("code has run")), "labels": []}, protocol=2)


@pytest.mark.parametrize("spoil", [half, nothing, page, more, hostile])
@pytest.mark.parametrize(
    ("name", "file"), [("mnist", "train-images-idx3-ubyte"), ("mnist", "t10k-labels-idx1-ubyte"), ("cifar10", "test_batch")]
)
def test_official_files_that_are_damaged_are_named(
    official_files: Callable[..., Any], capsys: pytest.CaptureFixture[str], spoil: Callable[[bytes], bytes], name: str, file: str
) -> None:
    written = official_files(name, layout="plain")
    path = written.files[file]
    path.write_bytes(spoil(path.read_bytes()))
    assert str(path) in refused(capsys, "--dataset", name, "--data-dir", str(written.data_dir))
    assert not list(Path().iterdir())


@pytest.mark.parametrize("spoil", [half, nothing, page, a_bit, hostile])
@pytest.mark.parametrize("layout", ["compressed", "archive"])
def test_packed_files_that_are_damaged_are_named(
    official_files: Callable[..., Any], capsys: pytest.CaptureFixture[str], spoil: Callable[[bytes], bytes], layout: str
) -> None:
    packed = {"layout": "archive"} if layout == "archive" else {"layout": "plain", "compressed": True}
    written = official_files("cifar10" if layout == "archive" else "mnist", **packed)
    path = next(iter(written.files.values()))
    path.write_bytes(spoil(path.read_bytes()))
    assert str(path) in refused(capsys, "--dataset", written.name, "--data-dir", str(written.data_dir))
    assert not list(Path().iterdir())


@pytest.mark.parametrize("spoil", [half, nothing, page, a_bit, hostile])
def test_ones_own_images_that_are_damaged_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "mine.npz"
    path.write_bytes(spoil(npz()))
    assert str(path) in refused(capsys, "--dataset", str(path), "--protocol", "digits", "--validation", "10")
    assert not list(Path().iterdir())


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_pixels_that_changed_since_a_study_began_are_noticed(
    official_files: Callable[..., Any], capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    """Nothing in these formats would tell."""
    written = official_files(name, layout="plain")
    study = tmp_path / "study"
    options = ("--search", "thesis", "--dataset", name, "--data-dir", str(written.data_dir))
    begun_in(study, *options, tiny=())
    path = written.files["test_batch" if name == "cifar10" else "t10k-images-idx3-ubyte"]
    path.write_bytes(a_bit(path.read_bytes()))
    assert f"--resume {study}: was begun with other {name} data" in refused(capsys, "--resume", str(study))


# Results and checkpoints of trials that go on


def checkpoint(trial: Path, epoch: int) -> Path:
    return trial / f"checkpoint-{epoch:06d}.pt"


def with_digest(payload: bytes) -> bytes:
    """What nobody can tell from a checkpoint by its digest."""
    return MAGIC + hashlib.sha256(payload).digest() + payload


def saved(state: Any) -> bytes:
    content = io.BytesIO()
    torch.save(state, content)
    return with_digest(content.getvalue())


def newest(spoil: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    def damage(trial: Path) -> None:
        path = checkpoint(trial, 2)
        path.write_bytes(spoil(path.read_bytes()))

    return damage


def both(spoil: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    def damage(trial: Path) -> None:
        for epoch in (1, 2):
            checkpoint(trial, epoch).write_bytes(spoil(checkpoint(trial, epoch).read_bytes()))

    return damage


def altered_state(edit: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """Change what a checkpoint holds, and make its digest anew."""

    def spoil(content: bytes) -> bytes:
        state = torch.load(io.BytesIO(content[len(MAGIC) + 32 :]), weights_only=True)
        edit(state)
        return saved(state)

    return spoil


def lines(edit: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], object]:
    """Change the lines of result.json; each but a torn one ends in a line feed."""

    def damage(trial: Path) -> None:
        file = trial / "result.json"
        file.write_bytes(b"".join(edit(file.read_bytes().splitlines(keepends=True))))

    return damage


DAMAGE: dict[str, Callable[[Path], object]] = {
    "checkpoint cut by a few bytes": newest(lambda content: content[:-7]),
    "checkpoint cut in half": newest(half),
    "checkpoint empty": newest(nothing),
    "checkpoint with a bit changed": newest(a_bit),
    "checkpoint with another digest": newest(lambda content: content[: len(MAGIC)] + bytes(32) + content[len(MAGIC) + 32 :]),
    "checkpoint with bytes behind it": newest(more),
    "checkpoint replaced by a web page": newest(page),
    "checkpoint replaced by a pickle": newest(hostile),
    "checkpoint replaced by a pickle with a good digest": newest(lambda content: with_digest(hostile(content))),
    "checkpoint replaced by a plain torch.save": newest(lambda content: saved({"model": torch.ones(3)})[len(MAGIC) + 32 :]),
    "checkpoint of something else": newest(lambda content: saved({"model": torch.ones(3)})),
    "checkpoint that is no dict": newest(lambda content: saved([1, 2])),
    "checkpoint of other seeds": newest(altered_state(lambda state: state["identity"].update(seeds=[3, 6]))),
    "checkpoint of another dataset": newest(altered_state(lambda state: state["identity"].update(dataset="0"))),
    "checkpoint without trainers": newest(altered_state(lambda state: state.update(trainers=[]))),
    "checkpoint without an order": newest(altered_state(lambda state: state["trainers"][0].pop("order"))),
    "checkpoint with other weights": newest(altered_state(lambda state: state["trainers"][1].update(parameters=[torch.ones(2)]))),
    "checkpoint with text for a number": newest(altered_state(lambda state: state.update(seconds="long"))),
    "checkpoint under a later name": lambda trial: checkpoint(trial, 1).replace(checkpoint(trial, 2)),
    "checkpoint under an earlier name": lambda trial: checkpoint(trial, 2).replace(checkpoint(trial, 1)),
    "checkpoint from the future": lambda trial: shutil.copy(checkpoint(trial, 2), checkpoint(trial, 9)),
    "checkpoint with a number that is none": lambda trial: shutil.copy(checkpoint(trial, 2), trial / "checkpoint-last.pt"),
    "checkpoint half written": lambda trial: (trial / ".checkpoint-000003.pt.17").write_bytes(MAGIC),
    "both checkpoints cut": both(half),
    "both checkpoints gone": lambda trial: [checkpoint(trial, epoch).unlink() for epoch in (1, 2)],
    "last line torn": lines(lambda rows: [*rows[:-1], half(rows[-1])]),
    "last line torn within a character": lines(lambda rows: [*rows, b'{"trial_id": "\xc3']),
    "last lines gone": lines(lambda rows: rows[:-2]),
    "no lines": lines(lambda rows: []),
    "a line that is no JSON": lines(lambda rows: [*rows, b"not json\n"]),
    "a line of another kind": lines(lambda rows: [*rows, b"[1, 2]\n"]),
    "a line of zero bytes": lines(lambda rows: [*rows, bytes(100) + b"\n"]),
    "an epoch that is text": lines(lambda rows: [*rows, b'{"epoch": "3"}\n']),
    "an epoch that is true": lines(lambda rows: [*rows, b'{"epoch": true}\n']),
    "lines twice": lines(lambda rows: [*rows, *rows]),
    "no configuration": lambda trial: (trial / "params.json").unlink(),
    "a configuration that is no JSON": lambda trial: (trial / "params.json").write_bytes(b"{"),
    "an error of an earlier run": lambda trial: (trial / "error.txt").write_text("no memory"),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """The rows of a trial by epoch."""
    return {row["epoch"]: row for row in rows(begin_in(tmp_path_factory.mktemp("undisturbed")), 4)}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with one trial that was stopped in its fourth epoch."""
    study = begun_in(tmp_path_factory.mktemp("stopped") / "study")
    trial = begin_in(study / "ray")
    (study / "ray" / "cosine" / "params.json").write_text(json.dumps(COSINE))
    with open(study / "ray" / "cosine" / "result.json", "w") as file:
        for _ in range(3):
            file.write(trial.step()["line"] + "\n")
    return study


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_trial_with_damaged_files_ends_with_the_rows_of_an_undisturbed_one(
    stopped: Path, undisturbed: dict[int, dict[str, Any]], tmp_path: Path, damage: str
) -> None:
    study = tmp_path / "copy"
    shutil.copytree(stopped, study)
    DAMAGE[damage](study / "ray" / "cosine")
    folder = StudyFolder.open(study, "schedule_sweep")
    folder.recover()
    files = folder.trial("cosine")
    files.begin(COSINE)
    trial = begin_in(study / "ray")
    for _ in range(4):
        line = trial.step()["line"]
        files.append(line)
        if json.loads(line)["done"]:
            break
    folder.close()
    clock = ("epoch_seconds", "time_total_s", "timestamp", "load")
    found = {}
    for text in files.results.read_bytes().splitlines():
        row = parsed(text)
        if "trial_id" in row:
            found[row["epoch"]] = {name: value for name, value in row.items() if not name.startswith(clock)}
    assert found == undisturbed
    assert not Path("code has run").exists()


def parsed(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line, parse_constant=str)
    except ValueError:
        return {}
    return row if isinstance(row, dict) else {}


@pytest.mark.parametrize(
    "changed",
    [
        {"config": {**COSINE, "skew": 0.4}},
        {"config": {**COSINE, "family": "inverse_cosine"}},
        {"config": {**COSINE, "seeds": [3, 6]}},
        {"protocol": PROTOCOL.replace(T1=9)},
    ],
)
def test_a_trial_does_not_go_on_from_a_checkpoint_of_another_configuration(stopped: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    shutil.copytree(stopped, tmp_path / "copy")
    fresh = rows(begin_in(tmp_path, **changed), 1)
    assert rows(begin_in(tmp_path / "copy" / "ray", **changed), 1) == fresh


def begin_with(study: Path, **versions: str) -> None:
    """Have a study say that it was begun with other versions."""
    change(study, lambda description: description["versions"].update(versions))


@pytest.mark.parametrize(
    "change",
    [
        {"val_acc": None},
        {"val_acc": "high"},
        {"nudged_phases": "many"},
        {"nudged_phases": None},
        {"val_acc_std": []},
        {"config": None},
        {"config": {}},
        {"config": {"strategy": "cosine", "seeds": []}},
        {"config": {"strategy": "cosine", "seeds": 3}},
    ],
    ids=repr,
)
def test_the_last_row_of_a_complete_trial_that_makes_no_sense_is_told(
    stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    study = tmp_path / "copy"
    shutil.copytree(stopped, study)
    file = study / "ray" / "cosine" / "result.json"
    last = json.loads(file.read_text().splitlines()[-1])
    file.write_text(json.dumps({**last, "done": True, **change}) + "\n")
    begin_with(study, torch="0.1")
    begun = json.loads((study / "study.json").read_text())
    assert sweep("--resume", str(study)) == 2
    assert json.loads((study / "study.json").read_text()) == begun
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: --resume {study}: {file} is damaged (")
    assert shown.err.count("\n") == 1


# Folders


@pytest.mark.parametrize(
    "make",
    [
        lambda study: (shutil.rmtree(study / "ray"), (study / "ray").write_text("a file")),
        lambda study: ((study / "study.json").unlink(), (study / "study.json").mkdir()),
        lambda study: ((study / ".lock").unlink(), (study / ".lock").mkdir()),
        lambda study: ((study / "study.json").unlink(), (study / "study.json").symlink_to("study.json")),
        lambda study: [(study / "ray" / "cosine" / name).mkdir(parents=True) for name in ("params.json", "result.json")],
    ],
    ids=["ray is a file", "study.json is a folder", ".lock is a folder", "study.json is a link to itself", "result.json is a folder"],
)
def test_a_study_folder_in_which_one_thing_is_another_is_told(
    begun: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], object]
) -> None:
    make(begun)
    assert sweep("--resume", str(begun)) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith(f"error: --resume {begun}: ") and complaint.count("\n") == 1
