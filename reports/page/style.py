"""The style of figures: one palette that colour-blind readers can distinguish, on light and dark pages.

INK, MUTED, GRID and PAPER are for lines and text, COLOURS for results; the page replaces them by the colours of its
light or dark scheme. Every other colour stays as it is and must be visible on both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from sen.crystal import CRYSTAL_SYSTEMS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = [
    "COLOURS",
    "DARK_COLOURS",
    "DIVERGING",
    "FONTS",
    "GRID",
    "GROUP_COLOURS",
    "INK",
    "MARKERS",
    "MUTED",
    "PAPER",
    "SEQUENTIAL",
    "SYSTEM_COLOURS",
    "WIDE",
    "Look",
    "drawing",
    "heatmap",
    "label_points",
    "legend",
    "legend_beside",
    "log_ticks",
    "look_of",
    "panels",
    "points",
    "subplots",
]

INK = "#1b1e23"
MUTED = "#666d76"
GRID = "#d9dce1"
PAPER = "#fefefe"

#: Of results, in their order. Contrast with the light and the dark page is 3:1 or more; markers differ as well.
COLOURS = ("#1f77b4", "#d1603d", "#2a9d6f", "#a05195", "#b58a00", "#8a6d5b", "#c0577f", "#7a7f3a", "#7d6bb2", "#5b8c9e")
# The same hues on a dark page.
DARK_COLOURS = (
    *("#5aa9e6", "#ec8a6c", "#4cc596", "#cf86c0", "#d9b23c", "#bd9c87", "#e58aad", "#adb362", "#a99ddf", "#8fbccb"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")

#: Colour maps for values from low to high, and around zero.
SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"

#: Of elements, folds and other groups of atoms or rows: far from COLOURS, so that none is taken for a result.
GROUP_COLOURS = ("#8a14ff", "#e87500", "#0062f5", "#ff14d0", "#0eaa0e", "#f50000", "#009f9f", "#7a9900")
SYSTEM_COLOURS = {**dict(zip(CRYSTAL_SYSTEMS[1:], GROUP_COLOURS, strict=False)), "unknown": "#7a7a7a"}

# Widths in points of a letter of a legend, and of its handle with the space around it.
_LETTER, _HANDLE = 3.9, 26.0
# The smallest labels of a heatmap that can be read, in points.
_READABLE = 5.5

FONTS = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"

#: Width of two columns of a journal page in inches.
WIDE = 7.2

_SETTINGS: dict[str, Any] = {
    "font.family": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans", "sans-serif"],
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "savefig.dpi": 220,
    "text.color": INK,
    # A dollar in the name of a file or a model is not mathematics.
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "patch.edgecolor": INK,
    "svg.fonttype": "none",  # text stays text: it can be read aloud, and edited for a journal
    "image.interpolation": "nearest",
}


class Look(NamedTuple):
    """How a result is drawn: the same in every figure of its part of the page."""

    colour: str
    marker: str


_labels: ContextVar[Sequence[str]] = ContextVar("labels of the results of a part of the page", default=())


def look_of(label: str) -> Look:
    """Return the look of a result by its place among those of the part being drawn; any other label is muted."""
    labels = _labels.get()
    if label not in labels:
        return Look(MUTED, "o")
    place = labels.index(label)
    return Look(COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)])


@contextmanager
def drawing(labels: Sequence[str] = ()) -> Iterator[None]:
    """Draw figures in the style of the report.

    Args:
        labels: Labels of the results, in the order of the page; `look_of` gives each its colour and marker.
    """
    import logging

    import matplotlib as mpl

    # Of the fonts named, those that are not installed here are for the reader's browser.
    logger = logging.getLogger("matplotlib.font_manager")
    level, token = logger.level, _labels.set(labels)
    logger.setLevel(logging.ERROR)
    try:
        with mpl.rc_context(_SETTINGS):
            yield
    finally:
        _labels.reset(token)
        logger.setLevel(level)


def subplots(
    rows: int = 1,
    columns: int = 1,
    *,
    width: float = WIDE,
    height: float = 3.0,
    **options: Any,
) -> tuple[Figure, Any]:
    """Make a figure with axes, without pyplot's memory of all figures.

    Args:
        rows: Rows of axes.
        columns: Columns of axes.
        width: Width of the whole figure in inches; at most WIDE.
        height: Height of the whole figure in inches.
        options: Options of `matplotlib.figure.Figure.subplots`, such as sharex, squeeze and width_ratios.

    Returns:
        The figure, and one axes or an array of them.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def panels(
    titles: Sequence[str], *, height: float, xlabel: str = "", ylabel: str = "", **options: Any
) -> tuple[Figure, list[Any]]:
    """Make a figure with axes under these titles: three in a row, or two where four would leave one alone.

    Args:
        titles: One for each axes.
        height: Height of one of them in inches.
        xlabel: Written once, below all of them.
        ylabel: Written once, left of all of them.
        options: See `subplots`.
    """
    n = len(titles)
    columns = 2 if n == 4 else min(3, n)
    rows = -(-n // columns)
    width = WIDE * (0.5, 0.72, 1)[columns - 1]
    figure, axes = subplots(rows, columns, width=width, height=height * rows, squeeze=False, **options)
    for panel, title in zip(axes.flat, titles, strict=False):
        panel.set_title(title)
    for extra in axes.flat[n:]:
        extra.set_visible(False)
    for write, text in ((figure.supxlabel, xlabel), (figure.supylabel, ylabel)):
        if text:
            write(text, fontsize=_SETTINGS["axes.labelsize"])
    return figure, list(axes.flat[:n])


def points(axes: Any, x: Any, values: Any, intervals: Any, label: str, *, hollow: Any = False) -> None:
    """Draw values [n] with their intervals [n, 2] in the look of a result.

    Args:
        axes: Where to draw.
        x: Their positions, [n].
        values: NaN where there is none.
        intervals: Low and high ends, NaN where there is none.
        label: Label of the result.
        hollow: Which of them are drawn hollow, bool [n].
    """
    import numpy as np

    look = look_of(label)
    axes.scatter([], [], s=16, marker=look.marker, color=look.colour, label=label)  # for the legend, and never hollow
    low, high = np.asarray(intervals, dtype=float).T
    axes.vlines(x, low, high, color=look.colour, linewidth=1.0)
    faces = np.where(np.broadcast_to(hollow, np.shape(values)), "none", look.colour)
    axes.scatter(
        x, values, s=16, marker=look.marker, facecolor=faces, edgecolor=look.colour, linewidth=0.9, clip_on=False
    )


def label_points(
    figure: Figure, axes: Axes, points: Sequence[tuple[float, float]], texts: Sequence[str], *, size: float
) -> None:
    """Write texts of this size beside points, those alone that do not touch an earlier one."""
    figure.draw_without_rendering()  # where the axes are is known from here on
    written: list[Any] = []
    for point, text in zip(points, texts, strict=True):
        label = axes.annotate(text, point, (3, 2), textcoords="offset points", fontsize=size)
        box = label.get_window_extent()
        if any(box.overlaps(other) for other in written):
            label.remove()
        else:
            written.append(box)


def legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Put one legend above all axes of a figure; `axes.get_legend_handles_labels()` returns what it takes.

    It is one line where that fits, and else the fewest lines.
    """
    n = len(labels)
    widths = [_HANDLE + _LETTER * len(label) for label in labels]
    # Matplotlib fills one column after the other, and each is as wide as its longest label.
    fitting = (
        columns
        for lines in range(1, n + 1)
        for columns in [-(-n // lines)]
        if sum(max(widths[at : at + lines]) for at in range(0, n, lines)) <= 72 * figure.get_figwidth()
    )
    look = {"handletextpad": 0.4, "columnspacing": 1.2}
    figure.legend(handles, labels, loc="outside upper left", ncols=next(fitting, 1), **look)


def legend_beside(figure: Figure, axes: Axes, height: str, labels: Sequence[str] | None = None) -> None:
    """Move the legend of an axes, as seaborn makes it, to the "upper" or the "center" right of all axes.

    Labels replace its own.
    """
    handles, own = axes.get_legend_handles_labels()
    axes.legend_ = None
    for handle in handles:
        handle.set(alpha=1, markersize=4)
    figure.legend(handles, labels or own, loc=f"outside right {height}")


def log_ticks(axis: Any) -> None:
    """Put ticks at 1, 2 and 5 of each decade of a logarithmic axis, such as `axes.yaxis`, written as plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    formatter = ScalarFormatter()
    formatter.set_scientific(False)
    axis.set_major_formatter(formatter)
    axis.set_minor_formatter(NullFormatter())


def heatmap(
    axes: Axes,
    matrix: NDArray[Any],
    rows: Sequence[str],
    columns: Sequence[Any],
    label: str,
    *,
    scale: tuple[str, float, float | None],
    **options: Any,
) -> None:
    """Draw a matrix as colours, with a colour bar; NaN shows the background.

    Where not all labels of an axis can be read side by side, only every second, third... is written.

    Args:
        axes: Where to draw.
        matrix: The values, [n, m].
        rows: Their n labels.
        columns: Their m labels.
        label: That of the colour bar.
        scale: Colour map, and the values at its ends; None for the largest.
        options: Options of `seaborn.heatmap`.
    """
    import seaborn as sns

    cmap, low, high = scale
    box = axes.get_window_extent()
    sides = (min(box.size),) * 2 if options.get("square") else box.size
    room = [72 / axes.figure.dpi * side / len(labels) for side, labels in zip(sides, (columns, rows), strict=True)]
    sns.heatmap(
        matrix,
        cmap=cmap,
        vmin=low,
        vmax=high,
        xticklabels=_thin(columns, room[0]),
        yticklabels=_thin(rows, room[1]),
        cbar_kws={"label": label, "shrink": 0.8},
        rasterized=True,
        ax=axes,
        **options,
    )
    sizes = [min(7, max(_READABLE, own)) for own in room]
    axes.tick_params(axis="x", length=0, pad=2, rotation=90, labelsize=sizes[0])
    axes.tick_params(axis="y", length=0, pad=2, rotation=0, labelsize=sizes[1])


def _thin(labels: Sequence[Any], room: float) -> list[str]:
    """Return labels, empty where the room in points for each is too little to read all."""
    step = math.ceil(_READABLE / room)
    return ["" if i % step else str(label) for i, label in enumerate(labels)]
