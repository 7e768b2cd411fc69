"""`OpenedStudy`: a study as an object, for notebooks and scripts of one's own. Reads what stands in its folder, also while it runs."""

import tempfile
from functools import cached_property
from html import escape
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from analysis import interactive
from analysis.answer import Answer, answer
from analysis.decision import ANSWER_COLUMNS
from analysis.findings import findings
from analysis.read import Study, read_study
from analysis.tables import front_table, main_strategies, shown_strategies, strategies_table
from analysis.terminal import as_text
from hybridep.storage import UrlFolder, is_url


class OpenedStudy:
    """A study as it stood when it was opened; open it again to see what has come since."""

    def __init__(self, study: Study) -> None:
        self.study = study

    @classmethod
    def at(cls, place: str | Path) -> "OpenedStudy":
        """The study in a folder or at a URL. InvalidInput where there is none or nothing has been trained yet."""
        if not is_url(str(place)):
            return cls(read_study(Path(place)))
        remote = UrlFolder(str(place))
        wanted = [name for name in remote.names() if name.endswith(("study.json", "result.json", "error.txt"))]
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder, str(place).rstrip("/").rpartition("/")[2])
            local.mkdir()
            for name, content in remote.read_all(wanted).items():
                (local / name).parent.mkdir(parents=True, exist_ok=True)
                (local / name).write_bytes(content)
            return cls(read_study(local))

    @cached_property
    def answer(self) -> Answer:
        """All that a report shows, computed on first use."""
        return answer(self.study)

    @property
    def trials(self) -> pd.DataFrame:
        """A row for each trial and seed, with the last epoch's columns and the whole configuration."""
        return self.study.trials

    @property
    def curves(self) -> pd.DataFrame:
        """A row for each trial, seed and epoch."""
        return self.study.curves

    @property
    def strategies(self) -> pd.DataFrame:
        """A row for each strategy, over its seeds."""
        return strategies_table(self.answer)

    @property
    def front(self) -> pd.DataFrame:
        """A row for each strategy on the front, cheapest first."""
        return front_table(self.answer)

    @property
    def decision(self) -> pd.DataFrame:
        """A row for each question that was to be decided, with its answer; no rows where there was none."""
        return self.answer.decision.answers if self.answer.decision else pd.DataFrame(columns=list(ANSWER_COLUMNS))

    def figure(self, name: str = "front") -> go.Figure:
        """front, costs or curves."""
        return interactive.figure(self.answer, name)

    def _shown(self) -> pd.DataFrame:
        return shown_strategies(self.answer, main_strategies(self.answer))

    def __repr__(self) -> str:
        return f"{self.study.name}\n{as_text(self._shown())}"

    def _repr_html_(self) -> str:
        sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in [*findings(self.answer), *self.answer.notes])
        return f"<h3>{escape(self.study.name)}</h3>{self._shown().to_html(index=False)}<ul>{sentences}</ul>"
