"""What TensorBoard makes of a study: in its event files, and on its pages in a real browser."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hybridep.study.events import EventLog
from hybridep.study.front import Point
from hybridep.study.front_image import FrontImage, draw
from hybridep.study.progress import Progress
from tests.browser import CHROMIUM, headless, wait
from tests.synthetic_study import PROTOCOL, THESIS, records

EPOCHS = 3
SEEDS = (0, 1)
COUNTS = [[[5, 0, 3, 8], [1, 1, 1, 1]], [[16, 0, 0, 0], [0, 2, 2, 0]]]  # [seeds, layers, bins]
FOUND = {"search-0001": {"family": "linear", "skew": 0.4, "rising": True, "beta": 0.3}}
VARYING = {"family": True, "skew": False, "rising": False, "cycles": False, "beta": True, "cheap": True, "unheard": True}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The event files of three trials with histograms, and an image of their front."""
    folder: Path = tmp_path_factory.mktemp("tensorboard") / "study"
    (folder / "ray").mkdir(parents=True)
    progress = Progress(3, EPOCHS)
    for name, overrides in {"standard": THESIS["standard"], "centered": THESIS["centered"], **FOUND}.items():
        lines = records(name, name, "thesis" if name in THESIS else "search", SEEDS, overrides, EPOCHS)
        log = EventLog(folder / "ray" / name, lines[0]["config"], PROTOCOL, VARYING, seeds=True)
        for line in lines:
            line["relaxation_steps"] = line["free_steps"] + line["nudged_steps"]
            log.epoch({**line, "activations": {"lowest": -1.0, "highest": 1.0, "counts_by_seed": COUNTS}})
        log.close(complete=True)
        progress.found(Point.of(lines[-1]))
    FrontImage(folder / "front", progress, "Validation").renew(last=True)
    return folder


def events(run: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run))
    found.Reload()
    return found


def test_a_seeds_histograms_are_the_counts_that_its_worker_made(study: Path) -> None:
    from tensorboard.util.tensor_util import make_ndarray

    for seed in SEEDS:
        found = events(study / "ray" / "centered" / f"seed-{seed}")
        for layer in (1, 2):
            values = found.Tensors(f"activations/layer_{layer}")
            assert [value.step for value in values] == [1, 2, 3]
            left, right, counts = make_ndarray(values[-1].tensor_proto).T
            assert left.tolist() == [-1.0, -0.5, 0.0, 0.5] and right.tolist() == [-0.5, 0.0, 0.5, 1.0]
            assert counts.tolist() == COUNTS[seed][layer - 1]


def test_every_measure_stands_in_the_files_of_trials_and_seeds(study: Path) -> None:
    for run in ("ray/centered", "ray/centered/seed-0", "ray/search-0001/seed-1"):
        tags = set(events(study / run).Tags()["scalars"])
        wanted = {"accuracy/val_acc", "accuracy/test_acc", "schedule/p_std", "schedule/learning_rate", "cost/nudged_phases"}
        assert wanted | {"relaxation/free_residual", "relaxation/saturation"} <= tags


def test_the_front_is_an_image_with_a_step_for_each_renewal(study: Path) -> None:
    images = events(study / "front").Images("front")
    assert [image.step for image in images] == [3]
    assert images[0].encoded_image_string.startswith(b"\x89PNG")
    assert (images[0].width, images[0].height) == (1280, 840)


def hparams(run: Path) -> dict[str, Any]:
    """What the HParams plugin reads of one run."""
    from tensorboard.plugins.hparams.metadata import EXPERIMENT_TAG, SESSION_START_INFO_TAG
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = events(run).summary_metadata
    read = {tag: HParamsPluginData.FromString(content[tag].plugin_data.content) for tag in (EXPERIMENT_TAG, SESSION_START_INFO_TAG)}
    experiment = read[EXPERIMENT_TAG].experiment
    values = read[SESSION_START_INFO_TAG].session_start_info.hparams
    return {
        "columns": {info.name for info in experiment.hparam_infos},
        "metrics": [info.name.tag for info in experiment.metric_infos],
        "values": {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()},
    }


def test_every_trial_names_both_objectives_and_the_parameters_of_all_families(study: Path) -> None:
    for name in ("standard", "search-0001"):
        found = hparams(study / "ray" / name)
        assert found["metrics"] == ["accuracy/val_acc", "cost/nudged_phases"]
        assert found["columns"] == VARYING.keys() - {"unheard"}
    assert found["values"]["rising"] == "True" and found["values"]["beta"] == 0.3
    assert found["values"]["cheap"] == "standard"  # the protocol's, where the strategy has none of its own


def test_a_trial_is_one_run_unless_seeds_are_asked_for_and_names_only_what_varies(tmp_path: Path) -> None:
    lines = records("cosine", "cosine", "thesis", SEEDS, THESIS["cosine"], EPOCHS)
    log = EventLog(tmp_path / "cosine", lines[0]["config"], PROTOCOL, varying={"family": True, "skew": True, "unheard": True})
    for line in lines:
        log.epoch({**line, "relaxation_steps": line["free_steps"] + line["nudged_steps"]})
    log.close(complete=True)
    assert [path.name for path in (tmp_path / "cosine").iterdir() if path.is_dir()] == []
    found = hparams(tmp_path / "cosine")
    assert found["columns"] == {"family", "skew"} and found["values"] == {"family": "cosine", "skew": 0.5}


def test_images_are_renewed_when_trials_have_ended_but_not_more_often_than_the_period(tmp_path: Path) -> None:
    progress = Progress(9, EPOCHS)
    image = FrontImage(tmp_path / "front", progress, "Validation", period=0.0)
    image.renew()
    assert not (tmp_path / "front").exists()  # nothing has ended
    progress.found(Point("centered", 0.9, 0.01, 100))
    image.renew()
    image.renew()
    slow = FrontImage(tmp_path / "slow", progress, "Validation", period=1000.0)
    for number in range(5):
        progress.found(Point(f"search-{number}", 0.5, 0.01, 90 - number))
        slow.renew()
    image.renew(last=True)
    slow.renew(last=True)
    assert [event.step for event in events(tmp_path / "front").Images("front")] == [1, 6]
    assert [event.step for event in events(tmp_path / "slow").Images("front")] == [2, 6]


def test_what_keeps_the_front_from_being_drawn_is_told_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A damaged installation: the study needs no picture, and its report will say what is wrong.
    monkeypatch.setitem(sys.modules, "analysis.layout", None)
    progress = Progress(9, EPOCHS)
    image = FrontImage(tmp_path / "front", progress, "Validation", period=0.0)
    for number in range(3):
        progress.found(Point(f"search-{number}", 0.5, 0.01, 90 - number))
        image.renew()
    image.renew(last=True)
    told = capsys.readouterr().out
    assert told.count("\n") == 1 and "The front is not drawn for TensorBoard from here on (ModuleNotFoundError" in told


def test_the_front_is_drawn_where_modules_are_imported_one_at_a_time(tmp_path: Path) -> None:
    # Python gives one of two threads that import SciPy at the same time half a module.
    progress = Progress(9, EPOCHS)
    progress.found(Point("centered", 0.9, 0.01, 100))
    threads = []
    image = FrontImage(tmp_path / "front", progress, "Validation", period=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hybridep.study.front_image.draw", lambda *_: threads.append(threading.current_thread()) or b"")
        patch.setattr("hybridep.study.front_image.write_image", lambda *_: None)
        image.renew()
    assert threads == [threading.main_thread()]


def test_drawing_takes_no_more_than_its_share_of_the_drivers_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybridep.study.front_image.draw", lambda *_: time.sleep(0.05) or draw([Point("centered", 0.9, 0.0, 1)], "Test"))
    progress = Progress(9, EPOCHS)
    progress.found(Point("centered", 0.9, 0.01, 100))
    image = FrontImage(tmp_path / "front", progress, "Validation", period=0.0)
    image.renew(last=True)
    assert image._next - time.monotonic() > 0.05 * 40


@pytest.fixture(scope="module")
def tensorboard(study: Path) -> Iterator[str]:
    """The address of a TensorBoard on loopback."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(study), "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                yield found[0]
                break
        else:
            raise AssertionError("TensorBoard did not say where it listens")
    finally:
        process.terminate()
        process.communicate(timeout=60)


# All text of a page, also in the shadow roots that TensorBoard's older parts are made of.
TEXT = """
const inside = (child) => (child.shadowRoot ? seen(child.shadowRoot) : '') + seen(child);
const seen = (node) => [...node.childNodes].map((child) => child.nodeType === 3 ? child.textContent
  : child.nodeType === 1 && !['SCRIPT', 'STYLE'].includes(child.tagName) ? inside(child) : '').join(' ');
const text = seen(document.body);
return arguments[0].every((word) => text.includes(word)) ? text : null;
"""

FIND = """
const all = (node) => [...node.querySelectorAll(arguments[0]), ...[...node.querySelectorAll('*')].flatMap(
  (child) => child.shadowRoot ? all(child.shadowRoot) : [])];
const found = all(document);
return found.length ? found : null;
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_tensorboard_shows_every_run_and_both_objectives_of_every_trial(tensorboard: str) -> None:
    with headless() as browser:
        browser.get(f"{tensorboard}#timeseries")
        wait(browser, TEXT, ["ray/standard", "ray/centered", "ray/search-0001", "seed-1", "/val_acc"], seconds=120)
        browser.get("about:blank")  # another fragment alone would not load the page anew
        browser.get(f"{tensorboard}#hparams")
        # Of the parameters, TensorBoard shows the first five in its table and offers the rest.
        text = wait(browser, TEXT, ["accuracy/val_acc", "cost/nudged_phases", "skew", "search-0001"], seconds=120)
        assert "0.30000" in text
        tabs = wait(browser, FIND, "paper-tab")
        next(tab for tab in tabs if "PARALLEL" in tab.text.upper()).click()
        # A run that lacked a value of a column shown at first would have no line.
        lines = wait(browser, FIND, "g.foreground path")
        points = [len(line.get_attribute("d").split("L")) for line in lines]
        assert points == [5 + 2] * 3  # parameters, and both objectives, of three trials
