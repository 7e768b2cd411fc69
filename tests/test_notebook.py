"""A study as an object, and the page that shows how it is used in a notebook."""

import re
from pathlib import Path

import fsspec
import pandas as pd
import pytest

import hybridep.study
from analysis.opened import OpenedStudy
from hybridep.config import InvalidInput
from tests.synthetic_study import write_study

PAGE = Path(__file__).resolve().parent.parent / "docs" / "notebook.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notebook") / "results" / "sweep"
    write_study(folder)
    return folder


@pytest.fixture(scope="module")
def study(folder: Path) -> OpenedStudy:
    return hybridep.study.open(folder)


def test_the_code_of_the_page_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent.parent)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(blocks) == 5
    assert "Digits, 24 searched strategies" in Path("front.html").read_text(encoding="utf-8")
    assert (folder / "report.html").exists()


def test_its_tables_are_those_of_the_report(study: OpenedStudy) -> None:
    assert {"standard", "centered", "cosine"} <= set(study.trials["strategy"])
    assert len(study.curves) == study.trials["epoch"].sum()
    assert study.front["strategy"].tolist() == list(study.answer.front)
    assert study.front["nudged_phases"].is_monotonic_increasing
    assert study.strategies["on_front"].sum() == len(study.front)


def test_figures_hold_every_strategy_once(study: OpenedStudy) -> None:
    for name, cost in (("front", "nudged_phases"), ("costs", "relaxation_steps")):
        points = [trace for trace in study.figure(name).data if trace.mode == "markers"]
        drawn = sorted(value for trace in points for value in trace.x)
        assert drawn == sorted(study.strategies[cost].dropna())
    assert {trace.name for trace in study.figure("curves").data} >= {"standard", "centered"}
    with pytest.raises(InvalidInput, match=r"^figure 'speed': must be one of front, costs, curves$"):
        study.figure("speed")


def test_a_notebook_shows_a_table_and_what_it_says(study: OpenedStudy) -> None:
    page = study._repr_html_()
    assert page.count("<tr") >= 6
    assert "<li>" in page
    assert "centered" in repr(study)


def test_a_study_at_a_url_is_read_as_one_in_a_folder(folder: Path, study: OpenedStudy) -> None:
    store = fsspec.filesystem("memory")
    store.put(str(folder), "/kept/sweep", recursive=True)
    pd.testing.assert_frame_equal(hybridep.study.open("memory://kept/sweep").trials, study.trials)
    store.rm("/kept", recursive=True)


def test_what_is_no_study_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is not a study"):
        hybridep.study.open(tmp_path)
