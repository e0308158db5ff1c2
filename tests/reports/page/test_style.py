from __future__ import annotations

from typing import Any

import numpy as np

from reports.page.style import COLOURS, SEQUENTIAL, heatmap, legend_beside, subplots
from reports.page.svg import draw_svg


def test_a_heatmap_has_its_labels_and_few_elements() -> None:
    def draw() -> Any:
        figure, axes = subplots()
        heatmap(axes, np.eye(40), [f"row{i}" for i in range(40)], range(40), "share", scale=(SEQUENTIAL, 0, None))
        return figure

    svg = draw_svg(draw, "x")
    assert "row39" in svg
    assert "share" in svg
    # The cells are one image.
    assert svg.count("<path") < 200


def test_a_legend_beside_the_axes_is_opaque_and_keeps_the_colours_of_the_style() -> None:
    def draw() -> Any:
        import seaborn as sns

        figure, axes = subplots()
        palette = {"a": COLOURS[0], "b": COLOURS[1]}
        sns.scatterplot(x=[0, 1], y=[0, 1], hue=["a", "b"], palette=palette, alpha=0.1, rasterized=True, ax=axes)
        legend_beside(figure, axes, "upper", ["first", "second"])
        assert axes.get_legend() is None
        return figure

    svg = draw_svg(draw, "x")
    assert "first" in svg
    assert "second" in svg
    assert f"var(--colour-1, {COLOURS[1]})" in svg
    assert "opacity" not in svg
