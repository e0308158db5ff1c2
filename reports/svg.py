"""Figures as SVG that can stand in one page together, in its light and its dark scheme."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from reports.style import COLOURS, FONTS, GRID, INK, MUTED, PAPER, drawing

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
_STYLE = re.compile(r"<style[^>]*>.*?</style>", re.DOTALL)
_FONT = re.compile(r"font-family: 'Helvetica', 'Arial',[^;\"]*; ?")
_PLACES = re.compile(r' (?:d|x|y|points|transform)="[^"]*"')
_REFERENCE = re.compile(r'(xlink:href="#|url\(#)([^")]+)')
_ID = re.compile(r' id="([^"]+)"')
_COLOUR = re.compile("|".join(VARIABLES), re.IGNORECASE)


def draw_svg(draw: Callable[[], Figure], name: str) -> str:
    """Draw a figure and return it as an `<svg>` element.

    Its ids begin with `name`, so that no other figure of the page has them; colours of the style become variables of
    the page with the colour itself to fall back on; its size is that of the figure, 72 points to the inch.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    with drawing(), mpl.rc_context({"svg.hashsalt": name}):
        figure = draw()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    svg = text[text.index("<svg") :].strip()
    svg = _STYLE.sub("", _FONT.sub("", svg), count=1).replace("<defs></defs>", "", 1)
    svg = svg.replace("<svg ", f'<svg font-family="{FONTS}" stroke-linejoin="round" stroke-linecap="butt" ', 1)
    svg = _PLACES.sub(lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match[0]), svg)
    svg = re.sub(r' transform="rotate\(-?0 [^"]*"', "", svg)
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, count=1, flags=re.DOTALL)
    used = {match[2] for match in _REFERENCE.finditer(svg)}
    svg = _ID.sub(lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", svg)
    svg = _REFERENCE.sub(lambda match: f"{match[1]}{name}-{match[2]}", svg)
    svg = _COLOUR.sub(lambda match: f"var({VARIABLES[match[0].lower()]}, {match[0].lower()})", svg)
    return re.sub(r">\s*\n\s*<", "><", svg)
