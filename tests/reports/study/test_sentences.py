"""Sentences of templates: facts and parameters go in, plain paragraphs come out, and nothing is left open."""

from __future__ import annotations

import sys
from pathlib import Path

import jinja2
import pytest

from reports.study.sentences import Sentences

TEMPLATE = """
{% set big = rows > 1000 %}
{% macro words() %}
There are {{ rows|thousands }} rows{{ " at
most" if big }},
of {{ names|listed }}.
{% if note %}

<b>{{ note }}</b>
{% endif %}

{% endmacro %}
{% macro error(value) %}{{ value|figures(3) }}{{ unit|after_number }}{% endmacro %}
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    package = "package_of_" + request.node.name.removeprefix("test_")
    (tmp_path / package / "text").mkdir(parents=True)
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / package / "text" / "size.jinja").write_text(TEMPLATE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, package, raising=False)
    return f"{package}.size"


def test_line_breaks_are_spaces_and_empty_lines_paragraphs(module: str) -> None:
    sentences = Sentences(module, {"rows": 1265, "names": ["a", "b", "c"], "note": "a & b", "unit": "eV"})
    assert sentences.paragraphs("words") == ["There are 1,265 rows at most, of a, b and c.", "<b>a & b</b>"]
    assert sentences("words") == "There are 1,265 rows at most, of a, b and c.\n\n<b>a & b</b>"
    assert sentences("error", value=0.12345) == "0.123 eV"
    assert Sentences(module, {"rows": 2, "names": ["a"], "note": ""})("words") == "There are 2 rows, of a."


def test_what_is_missing_raises(module: str) -> None:
    sentences = Sentences(module, {"rows": 2, "names": ["a"]})
    with pytest.raises(jinja2.UndefinedError, match="note"):
        sentences("words")
    with pytest.raises(jinja2.UndefinedError, match="value"):
        sentences("error")
    with pytest.raises(TypeError, match="other"):
        sentences("error", other=1)
    with pytest.raises(AttributeError, match="nothing"):
        sentences("nothing")
    with pytest.raises(FileNotFoundError):
        Sentences(module.replace("size", "other"), {})
