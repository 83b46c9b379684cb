"""How our pictures look: fonts, colours for every eye, labels apart, files with the same bytes."""

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from lmmcl.run.checkpoint import write_atomically

INK, MUTED, FAINT, PAPER = "#22262b", "#6b7280", "#d5d8dc", "#ffffff"
LOSS, GAIN = "#c2520a", "#0b66a8"
# After Okabe and Ito, darkened until each can be read as text on white (4.5 to 1).
CATEGORIES = (
    "#0072B2",
    "#BC5000",
    "#007F5C",
    "#B0478A",
    "#8A6500",
    "#5B55B5",
    "#882255",
    "#26807A",
    "#6B6B1F",
)
# Orange for what was lost, blue for what was gained: told apart with every common colour blindness; in grey
# the sign in the cell tells.
CHANGE = LinearSegmentedColormap.from_list(
    "change", ["#8f3a05", "#d9742b", "#f3c096", "#f7f6f3", "#a8cfe6", "#3f8fc4", "#084a80"], N=512
)

_RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "svg.hashsalt": "lmmcl",
    "svg.fonttype": "path",
    "path.simplify": False,
}


@contextmanager
def styled() -> Iterator[None]:
    """Our settings, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings: Any = matplotlib.rcParams
        settings.update(_RC)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, on the Agg canvas: no display, no global state."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def headline(figure: Figure, title: str, subtitle: str, left: float) -> None:
    """Title and explanation at the top left, ``left`` inches from the edge."""
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - 0.30 / height, title, fontsize=13, fontweight="bold", va="center")
    figure.text(left / width, 1 - 0.56 / height, subtitle, fontsize=8.5, color=MUTED, va="center")


def place(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches from the lower left corner."""
    whole_width, whole_height = figure.get_size_inches()
    return figure.add_axes(
        (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
    )


def label(name: str, width: int = 11) -> str:
    """A task's name, in as many lines as it needs."""
    return "\n".join(textwrap.wrap(name.replace("_", " "), width, break_long_words=False)) or name


def halo(width: float = 2.5) -> list[Any]:
    """A white seam around a text, so that it can be read on top of lines."""
    return [patheffects.withStroke(linewidth=width, foreground=PAPER)]


def signed(change: float, digits: int = 0) -> str:
    """A change with its sign, a true minus, and no sign before a zero."""
    text = f"{change:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Moves labels apart until they stand at least ``gap`` from each other, each as near its place as can be.

    Labels that touch are joined to a block around their mean (pool adjacent violators); order is kept, and
    blocks are pushed back between ``low`` and ``high``.
    """
    order = np.argsort(np.asarray(positions), kind="stable")
    blocks: list[list[float]] = []  # [centre, members]
    for i in order:
        blocks.append([float(positions[i]), 1])
        while len(blocks) > 1 and blocks[-1][0] - blocks[-2][0] < gap * (blocks[-1][1] + blocks[-2][1]) / 2:
            (centre, members), (last, more) = blocks[-2], blocks.pop()
            blocks[-1] = [(centre * members + last * more) / (members + more), members + more]
    placed = np.empty(len(order))
    start, k = low - gap / 2, 0
    for centre, members in blocks:
        bottom = max(start, min(centre - gap * members / 2, high + gap / 2 - gap * members))
        for i in range(int(members)):
            placed[order[k]] = bottom + gap * (i + 0.5)
            k += 1
        start = bottom + gap * members
    return [float(position) for position in placed]


def save(figure: Figure, path: Path, title: str) -> list[Path]:
    """Writes ``path`` as ``.png`` (200 dots per inch) and ``.svg``; the same figure gives the same bytes.

    Returns:
        The two paths.
    """
    metadata = {
        ".png": {"Title": title, "Software": None},
        ".svg": {"Title": title, "Date": None, "Creator": None},
    }
    written = []
    for suffix, held in metadata.items():
        data = io.BytesIO()
        with styled():
            figure.savefig(data, format=suffix[1:], dpi=200, metadata=held)
        file = path.with_name(path.name + suffix)
        write_atomically(file, data.getvalue())
        written.append(file)
    return written
