"""Items of a section: their texts come from its template, their cells from records."""

from __future__ import annotations

import jinja2
import pytest

import reports.study.sentences
from reports.page.items import FOLDS, Items
from reports.page.section import Figure, Heading, Table, Text

TEMPLATE = """
{% macro summary() %}{{ n }} rows.{% endmacro %}
{% macro learning_curves_figure(label) %}
Caption of {{ label }}.

How.

What one sees.
{% endmacro %}
{% macro short_figure() %}Caption alone.{% endmacro %}
{% macro errors_table() %}
Errors.
{% if n > 1 %}

Means.

Of rows.
{% endif %}
{% endmacro %}
"""


@pytest.fixture
def items(monkeypatch: pytest.MonkeyPatch) -> Items:
    environment = reports.study.sentences._environment()
    monkeypatch.setattr(environment, "loader", jinja2.DictLoader({"a.section": TEMPLATE}))
    return Items("a.section", {"n": 3})


def test_texts_come_from_the_template(items: Items) -> None:
    assert items.text("summary") == Text("3 rows.")
    assert items.heading("summary") == Heading("3 rows.")
    figure = items.figure("learning-curves", print, number=2, label="mlp")
    assert figure == Figure("learning-curves-2", print, "Caption of mlp.", "How.", "What one sees.")
    with pytest.raises(ValueError, match="unpack"):
        items.figure("short", print)


def test_cells_come_from_records(items: Items) -> None:
    records = [
        {
            "label": "a",
            "metrics": {"mae": 0.1},
            "low": [1.0, 2.0],
            "names": ["x", "y"],
            "folds": [0, 1],
            "has_folds": True,
        },
        {"label": "b", "metrics": None, "low": None, "names": [], "folds": [0], "has_folds": False},
    ]
    columns = [
        ("model", "label"),
        ("MAE", "metrics.mae"),
        ("low", "low.1"),
        ("names", "names"),
        ("twice", lambda record: 2 * len(record["label"])),
        FOLDS,
    ]
    table = items.table("errors", records, columns, digits=3, strong=[1])
    assert table == Table(
        "errors",
        ["model", "MAE", "low", "names", "twice", "folds"],
        [["a", 0.1, 2.0, "x, y", 2, 2], ["b", None, None, "", 2, None]],
        "Errors.",
        "Means. Of rows.",
        digits=3,
        strong=[1],
    )
