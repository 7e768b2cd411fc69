"""Classes of a user's own: the lines of docs/extending.md in real studies, on two nodes, after the file is gone, and mistakes in them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hybridep.cluster.__main__ import main as cluster
from hybridep.cluster.node import started_nodes
from tests.test_cluster import private_machine

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "extending.md"
TINY = (
    "--sizes",
    "64",
    "12",
    "10",
    "--T1",
    "6",
    "--T2",
    "3",
    "--train-samples",
    "200",
    "--epochs",
    "2",
    "--seeds",
    "0",
    "--confirm",
    "0",
    "--search",
)
ENVIRONMENT = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def page_code() -> str:
    return "\n\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env={**ENVIRONMENT, **environment}, cwd=ROOT, timeout=300, check=False
    )


def sweep(*argv: str) -> subprocess.CompletedProcess[str]:
    return run("studies/schedule_sweep.py", *argv)


@pytest.fixture
def ideas(tmp_path: Path) -> Path:
    file = tmp_path / "my_ideas.py"
    file.write_text(page_code(), encoding="utf-8")
    return file


def rows(study: Path) -> dict[str, list[dict]]:
    found = {}
    for file in study.glob("ray/*/result.json"):
        found[file.parent.name] = [json.loads(line) for line in file.read_text().splitlines()]
    return found


CHECK = """
import sys
from pathlib import Path
from hybridep.extensions import Extension
Extension.read(Path(sys.argv[1])).load()
from hybridep.config import TrialConfig
from hybridep.datasets import load
from hybridep.presets import PROTOCOLS
from hybridep.trainer import Trainer
small = {"epochs": 2, "train_samples": 200, "T1": 6, "T2": 3}
digits = PROTOCOLS["digits"].replace(**small, sizes=(64, 12, 10))
runs = {
    "sawtooth": digits.replace(family="sawtooth", teeth=3),
    "bias": digits.replace(family="bias"),
    "by_loss": digits.replace(family="constant", skew=1.0, cheap="by_loss", cheap_share=0.25),
    "pairs": digits.replace(family="constant", skew=1.0, cheap="pairs"),
    "blocks": digits.replace(draw="blocks", skew=0.3),
    "pyramid": PROTOCOLS["digits"].replace(**small, network="pyramid", sizes=(), hidden=20),
    "stripes": PROTOCOLS["digits"].replace(**small, dataset="stripes", sizes=(64, 12, 2)),
}
for name, config in runs.items():
    assert TrialConfig.create(**config.flat("json")) == config
    trainer = Trainer(config, load(config.dataset))
    trainer.train_epoch()
    state = trainer.state_dict()
    row = trainer.train_epoch()
    again = Trainer(config, load(config.dataset))
    again.load_state_dict(state)
    assert {**again.train_epoch(), "epoch_seconds": 0, "agreement": 0, "relative_bias": 0} == {
        **row, "epoch_seconds": 0, "agreement": 0, "relative_bias": 0}, name
    print(name, row["nudged_phases"] / row["updates"], config.describe(digits))
"""


def test_every_example_of_the_page_trains_and_is_restored(ideas):
    found = run("-c", CHECK, str(ideas))
    assert found.returncode == 0, found.stderr
    words = {line.split()[0]: line for line in found.stdout.splitlines()}
    assert set(words) == {"sawtooth", "bias", "by_loss", "pairs", "blocks", "pyramid", "stripes"}
    assert float(words["by_loss"].split()[1]) == pytest.approx(1.25, abs=0.02)
    assert "sawtooth, mean p_std 0.5, teeth 3" in words["sawtooth"]


def test_a_study_searches_own_classes_and_goes_on_with_its_copy_when_the_file_has_changed(ideas, tmp_path):
    study = tmp_path / "study"
    arguments = (*TINY, "random", "--trials", "3", "--space", "estimators", "--families", "sawtooth", "bias", "--out", str(study))
    begun = sweep("--extend", str(ideas), *arguments)
    assert begun.returncode == 0, begun.stderr + begun.stdout
    found = rows(study)
    searched = {name: lines[-1] for name, lines in found.items() if name.startswith("search-")}
    assert len(searched) == 3
    assert {row["config"]["family"] for row in searched.values()} <= {"sawtooth", "bias"}
    assert all("family" not in row["config"]["description"] for row in searched.values())
    kept = json.loads((study / "study.json").read_text())["extensions"]
    assert [extension["file"] for extension in kept] == ["my_ideas.py"]
    ideas.write_text("raise RuntimeError('the file has changed')", encoding="utf-8")
    resumed = sweep("--resume", str(study), "--trials", "5")
    assert resumed.returncode == 0, resumed.stderr + resumed.stdout
    assert sum(name.startswith("search-") for name in rows(study)) == 5
    damaged = json.loads((study / "study.json").read_text())
    damaged["extensions"][0]["source"] += "\n"
    (study / "study.json").write_text(json.dumps(damaged))
    refused = sweep("--resume", str(study), "--trials", "6")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "missing or was changed" in refused.stderr


WHERE = """
import sys
if "ray" in sys.modules and (ray := sys.modules["ray"]).is_initialized():  # in a worker
    Path({marks!r}, ray.get_runtime_context().get_node_id()).touch()
"""


def test_workers_on_two_nodes_know_own_classes(ideas, tmp_path, monkeypatch):
    marks = tmp_path / "nodes"
    marks.mkdir()
    ideas.write_text(f"from pathlib import Path\n{page_code()}\n{WHERE.format(marks=str(marks))}", encoding="utf-8")
    study = tmp_path / "study"
    monkeypatch.setattr("hybridep.cluster.__main__.cpus", lambda: 1)  # so that two trials at once are on two nodes
    with private_machine(monkeypatch):
        assert cluster(["head", "--port", "0"]) == 0
        (head,) = started_nodes()
        assert cluster(["join", str(head.plan.head)]) == 0
        arguments = (*TINY, "random", "--trials", "4", "--space", "estimators", "--families", "sawtooth", "bias", "--out", str(study))
        done = run("studies/schedule_sweep.py", "--extend", str(ideas), "--ray-address", str(head.plan.head), *arguments, **os.environ)
    assert done.returncode == 0, done.stderr + done.stdout
    assert len(list(marks.iterdir())) == 2
    assert sum(name.startswith("search-") for name in rows(study)) == 4


GOOD_TABLE = "Nudging.whole(m.n, [np.full(m.n, m.beta)], [np.full(m.n, 1 / m.beta / m.n)], np.full(m.n, -1 / m.beta / m.n))"
ESTIMATOR = """
import numpy as np
from hybridep.estimators import Estimator
from hybridep.nudging import Nudging

class Own(Estimator, name="own"):
    nudged_phases = property(lambda self: 1.0)
    def nudging(self, m, generator):
        return {}
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nothing_of_this_name", ["ModuleNotFoundError", "nothing_of_this_name", "line 1"]),
        ("x = 1\ny = (", ["SyntaxError", "line 2"]),
        ("x = 1\n\nraise KeyError('a')", ["KeyError", "line 3"]),
        ("from hybridep.schedules import Schedule\nclass Own(Schedule, name='cosine'):\n    pass", ["family 'cosine'", "exists already"]),
        (ESTIMATOR.format(GOOD_TABLE.replace("-1 / m.beta", "-2 / m.beta")), ["estimator own", "sum to -0.333", "must be 0"]),
        (ESTIMATOR.format(GOOD_TABLE.replace("1 / m.beta", "3 / m.beta")), ["estimator own", "3 / n", "must be 1 / n"]),
    ],
    ids=["no such module", "syntax", "raises", "name exists", "weights", "slope"],
)
def test_a_file_that_cannot_be_used_is_told_in_one_line_before_anything_starts(text, words, tmp_path):
    file = tmp_path / "own.py"
    file.write_text(text)
    refused = sweep("--extend", str(file), "--out", str(tmp_path / "study"))
    assert refused.returncode == 2
    assert re.fullmatch(r"error: --extend own\.py: [^\n]+\n", refused.stderr), refused.stderr
    assert all(word in refused.stderr for word in words), refused.stderr
    assert not (tmp_path / "study").exists()


def test_a_file_that_is_not_there_and_options_of_own_classes_are_told(ideas, tmp_path):
    refused = sweep("--extend", str(tmp_path / "none.py"))
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1) and "cannot be read" in refused.stderr
    refused = sweep("--extend", str(ideas), *TINY, "grid", "--families", "bias", "--out", str(tmp_path / "study"))
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1) and "adaptive policy" in refused.stderr
    refused = sweep("--extend", str(ideas), "--draw", "blocks", "--grain", "sample", *TINY, "grid", "--out", str(tmp_path / "study"))
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1) and "grain sample: draw blocks has only minibatch" in refused.stderr
    known = sweep("--extend", str(ideas), "--help")
    assert known.returncode == 0 and "--hidden" in known.stdout and "--cheap-share" in known.stdout
