"""Figures are made and saved here; the one module that imports matplotlib.

Nothing is read from the environment that would change or end a drawing: no backend (Jupyter's kernels name theirs in MPLBACKEND for every
command that is started from them, and matplotlib refuses to be imported where that is not installed), no user's style file.
"""

import io
import os
import sys
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Final


def _import_matplotlib() -> None:
    """Import it whatever MPLBACKEND says. A backend that exists stays chosen, for a notebook that also draws by itself."""
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = backend


_import_matplotlib()

import matplotlib.style  # noqa: E402
from matplotlib import ticker  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.patches import Patch  # noqa: E402

__all__ = ["FAINT", "INK", "MUTED", "Axes", "Figure", "Line2D", "Patch", "as_png", "new_figure", "save", "style", "ticker"]

INK, MUTED, FAINT = "#1a1a1a", "#5b6470", "#9aa4af"
STYLE: Final[dict[str, Any]] = {
    "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "legend.fontsize": 8, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": MUTED, "axes.labelcolor": INK, "text.color": INK,
    "xtick.color": MUTED, "ytick.color": MUTED, "axes.grid": True, "grid.color": "#e6e9ec", "grid.linewidth": 0.6, "axes.axisbelow": True,
    "lines.linewidth": 1.4, "legend.frameon": False, "pdf.fonttype": 42, "svg.hashsalt": "hybridep", "figure.dpi": 100, "savefig.dpi": 200,
}  # fmt: skip


def style() -> AbstractContextManager[None]:
    """Draw as all figures here are drawn, whatever the user's own matplotlibrc says."""
    return matplotlib.style.context(["default", STYLE])


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that keeps its parts apart."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `<stem>.png` and `<stem>.pdf`, the same bytes for the same figure; returns the files."""
    png, pdf = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.pdf")
    figure.savefig(png)
    layout = figure.get_layout_engine()
    figure.set_layout_engine("none")  # laid out once for both files
    figure.savefig(pdf, metadata={"CreationDate": None, "ModDate": None})
    figure.set_layout_engine(layout)
    return [png, pdf]


def as_png(figure: Figure, dpi: float) -> bytes:
    """The figure as the content of a PNG file."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=dpi)
    return image.getvalue()
