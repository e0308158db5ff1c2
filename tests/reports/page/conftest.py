"""Fixtures and helpers of the tests of the report command."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.conftest import Answer

Command = Callable[..., Answer]

OWN_SECTIONS = ("overview", "parity", "training", "worst", "systems", "provenance")


@pytest.fixture
def report(sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Run the command on tmp_path / "runs" with the sections of our own; returns the facts of the only task."""
    monkeypatch.setenv("MATMINER_DATA", str(tmp_path / "matminer"))

    def call(*arguments: object, sections: str = ",".join(OWN_SECTIONS)) -> dict[str, Any]:
        out = tmp_path / "report.html"
        chosen = ("--sections", sections, "--data-dir", tmp_path / "data")
        answer = sen_bench("report", tmp_path / "runs", "-o", out, "--overwrite", *chosen, *arguments)
        assert answer.code == 0, answer.err
        HTMLParser().feed(out.read_text())
        facts = json.loads(out.with_suffix(".json").read_text())
        assert len(facts["tasks"]) == 1
        task: dict[str, Any] = facts["tasks"][0]
        for section in task["sections"].values():
            assert section["state"] != "failed", section["reason"]
        return task

    return call


def methods_of(html: str) -> str:
    part = html[html.index('id="methods-text"') : html.index('id="cite"')]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", part))
