"""Figures as SVG: text stays text, and several stand in one page."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from matplotlib.artist import Artist

from benchmarks.base.files import plain
from reports.page.section import Figure
from reports.page.style import INK, drawing, subplots
from reports.page.svg import VARIABLES, draw_svg
from reports.sections.overview import Overview
from reports.sections.parity import Parity
from reports.sections.systems import Systems
from reports.sections.training import Training
from reports.study.reading import read_studies
from tests.reports.made_runs import make_run, no_progress, official, study_of

HOSTILE = r"money $\frac x$"


def test_dollars_in_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), name=HOSTILE)
    file = tmp_path / f"{HOSTILE}.csv"
    file.write_text("id,prediction\n" + "".join(f"mb-jdft2d-{i:03d},{5 + i / 60}\n" for i in range(1, 61)))
    (study,) = read_studies([tmp_path / "runs"], against=[file], data_dir=tmp_path / "data")
    for section in (Overview(), Parity(), Systems(), Training()):
        for block in section.show(plain(section.analyse(study, no_progress))):
            if isinstance(block, Figure):
                assert HOSTILE in draw_svg(block.draw, block.name), block.name


def test_mathematics_is_drawn_where_it_is_meant() -> None:
    def draw() -> Any:
        figure, axes = subplots()
        axes.set_title(r"MoSe$_{2}$ $\bar{4}$ cost \$5 \$6", parse_math=True)
        axes.set_xlabel(r"$_{2}$ $\frac x$")
        axes.set_ylabel(f"{INK} x='1.23456' <b>")
        axes.set_yscale("log")
        axes.set_ylim(1e-4, 10)
        return figure

    svg = draw_svg(draw, "maths")
    text = " ".join(re.findall(r">([^<]*)<", svg))
    assert svg.count("$_{2}$") == text.count(r"$_{2}$ $\frac x$") == 1  # of the label, which asks for none
    assert "MoSecost$5$6" in "".join(text.split())
    assert "10⁻³" in text
    assert "mathdefault" not in svg
    # What is written is not changed as an attribute would be.
    assert f"{INK} x='1.23456' &lt;b&gt;" in text


def test_a_figure_is_drawn_once_with_its_axes_where_savefig_places_them() -> None:
    drawn = []

    class Counting(Artist):
        def draw(self, renderer: Any) -> None:  # noqa: ARG002
            drawn.append(True)

    def draw() -> Any:
        figure, axes = subplots()
        axes.set_ylabel("a label\nof two lines")
        axes.set_yticks([0, 1], ["none", "a long word"])
        figure.add_artist(Counting())
        figures.append(figure)
        return figure

    figures: list[Any] = []
    with drawing():
        draw().savefig(io.StringIO(), format="svg")
    drawn.clear()
    draw_svg(draw, "once")
    assert len(drawn) == 1
    expected, found = (figure.axes[0].get_position().bounds for figure in figures)
    assert found == expected


def test_figures_share_no_ids_and_follow_the_page(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"))
    facts = plain(Parity().analyse(study_of(tmp_path), no_progress))
    (figure,) = (block for block in Parity().show(facts) if isinstance(block, Figure))
    one, other = draw_svg(figure.draw, "one"), draw_svg(figure.draw, "other")
    assert one == draw_svg(figure.draw, "one")
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert " id=" not in one.replace(' id="one-', "")
    assert one.startswith("<svg ")
    assert "<image" in one  # the points
    for colour in VARIABLES:
        bare = one.replace(f", {colour})", "")
        assert colour not in bare
