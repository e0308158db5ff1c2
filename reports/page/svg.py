"""Figures as SVG that can stand in one page together, in its light and its dark scheme."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from benchmarks.base.text import visible
from reports.page.style import COLOURS, FONTS, GRID, INK, MUTED, PAPER, drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["VARIABLES", "draw_svg"]

#: Colours of the style that the page's scheme replaces, and the names of its variables.
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    PAPER: "--paper",
    **{colour: f"--colour-{i}" for i, colour in enumerate(COLOURS)},
}

# matplotlib repeats in every text what its container can say once, and counts in millionths of a point.
_TAG = re.compile(r"<[^>]*>")
_STYLE = re.compile(r"<style[^>]*>.*?</style>", re.DOTALL)
_FONT = re.compile(r"font-family: 'Helvetica', 'Arial',[^;\"]*; ?")
_PLACES = re.compile(r' (?:d|x|y|points|transform)="[^"]*"')
_REFERENCE = re.compile(r'(xlink:href="#|url\(#)([^")]+)')
_ID = re.compile(r' id="([^"]+)"')
_COLOUR = re.compile("|".join(VARIABLES), re.IGNORECASE)

_POWER = re.compile(r"10\^\{(-?)(\d+)\}")
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def draw_svg(draw: Callable[[], Figure], name: str, labels: Sequence[str] = ()) -> str:
    """Draw a figure and return it as an `<svg>` element.

    Its ids begin with `name`, so that no other figure of the page has them; colours of the style become variables of
    the page with the colour itself to fall back on; its size is that of the figure, 72 points to the inch.

    Args:
        draw: Draws the figure.
        name: Its id in the page.
        labels: Labels of the results on the page, see `reports.page.style.look_of`.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    with drawing(labels), mpl.rc_context({"svg.hashsalt": name}):
        figure = draw()
        _write_powers(figure)
        _lay_out(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = visible(buffer.getvalue())
    svg = text[text.index("<svg") :].strip()
    svg = _STYLE.sub("", svg, count=1).replace("<defs></defs>", "", 1)
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    used = {match[2] for tag in _TAG.findall(svg) for match in _REFERENCE.finditer(tag)}

    def change(tag: re.Match[str]) -> str:
        """Change a tag, and leave alone what is written between two."""
        text = _PLACES.sub(lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match[0]), _FONT.sub("", tag[0]))
        text = re.sub(r' transform="rotate\(-?0 [^"]*"', "", text)
        text = _ID.sub(lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", text)
        text = _REFERENCE.sub(lambda match: f"{match[1]}{name}-{match[2]}", text)
        return _COLOUR.sub(lambda match: f"var({VARIABLES[match[0].lower()]}, {match[0].lower()})", text)

    svg = _TAG.sub(change, svg)
    svg = svg.replace("<svg ", f'<svg font-family="{FONTS}" stroke-linejoin="round" stroke-linecap="butt" ', 1)
    return re.sub(r">\s*\n\s*<", "><", svg)


def _lay_out(figure: Figure) -> None:
    """Place the axes of a figure, as `savefig` does, which to this end draws all of it an additional time."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    if engine := figure.get_layout_engine():
        FigureCanvasSVG(figure)
        engine.execute(figure)
        figure.set_layout_engine(None)


def _write_powers(figure: Figure) -> None:
    """Write the powers of ten on logarithmic axes in plain characters: the style of the report reads no mathematics."""
    from matplotlib.ticker import Formatter, LogFormatterMathtext

    class Powers(Formatter):
        def __init__(self, inner: Formatter) -> None:
            self._inner = inner

        def __call__(self, x: float, pos: int | None = None) -> str:
            return _without_maths(self._inner(x, pos))

        def set_locs(self, locs: list[float]) -> None:
            self._inner.set_locs(locs)

    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if isinstance(major := axis.get_major_formatter(), LogFormatterMathtext):
            axis.set_major_formatter(Powers(major))
        if isinstance(minor := axis.get_minor_formatter(), LogFormatterMathtext):
            axis.set_minor_formatter(Powers(minor))


def _without_maths(label: str) -> str:
    """Write the label of a logarithmic axis, such as a power of ten as mathematics, in plain characters."""
    label = label.replace("$\\mathdefault{", "").removesuffix("}$").replace(r"\times", "\N{MULTIPLICATION SIGN}")
    return _POWER.sub(
        lambda match: "10" + match[1].replace("-", "\N{SUPERSCRIPT MINUS}") + match[2].translate(_SUPERSCRIPTS), label
    ).replace("-", "\N{MINUS SIGN}")
