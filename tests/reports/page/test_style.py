from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reports.page.style import (
    COLOURS,
    DARK_COLOURS,
    GROUP_COLOURS,
    SEQUENTIAL,
    SYSTEM_COLOURS,
    heatmap,
    label_points,
    legend,
    legend_beside,
    subplots,
)
from reports.page.svg import draw_svg


def test_a_heatmap_has_its_labels_and_few_elements() -> None:
    def draw() -> Any:
        figure, axes = subplots(height=5)
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


def test_labels_of_a_heatmap_are_few_enough_to_be_read() -> None:
    _, axes = subplots(height=3)
    names = [f"row{i}" for i in range(100)]
    heatmap(axes, np.eye(100), names, names, "share", scale=(SEQUENTIAL, 0, None))
    labels = [label for label in axes.get_yticklabels() if label.get_text()]
    assert labels[0].get_text() == "row0"
    assert all(label.get_size() >= 5.5 for label in labels)
    assert sum(label.get_size() for label in labels) <= 72 * 3


@pytest.mark.parametrize(
    ("labels", "columns"), [(["tfn"] * 7, 7), ([f"cgcnn (1b3faae{i})" for i in range(7)], 4), ([], 1)]
)
def test_a_legend_is_one_line_where_that_fits(labels: list[str], columns: int) -> None:
    figure, axes = subplots()
    legend(figure, [axes.scatter([], []) for _ in labels], labels)
    (made,) = figure.legends
    assert made._ncols == columns
    figure.draw_without_rendering()
    assert made.get_window_extent().width <= figure.bbox.width


def test_no_group_has_the_colour_of_a_result() -> None:
    def rgb(colour: str) -> Any:
        return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])

    for colour in {*GROUP_COLOURS, *SYSTEM_COLOURS.values()} - {SYSTEM_COLOURS["unknown"]}:
        assert min(np.linalg.norm(rgb(colour) - rgb(other)) for other in (*COLOURS, *DARK_COLOURS)) > 50, colour


def test_labels_of_points_do_not_touch() -> None:
    figure, axes = subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    label_points(figure, axes, [(0.1, 0.1), (0.1001, 0.1), (0.8, 0.8)], ["CaO", "CaSO₄", "CaTiO₃"], size=5)
    assert [text.get_text() for text in axes.texts] == ["CaO", "CaTiO₃"]
