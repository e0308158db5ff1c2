"""The how-to on sections, taken literally."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.benchmarks.conftest import Answer
from tests.conftest import REPOSITORY
from tests.reports.made_runs import make_run, official, own


def how_to() -> dict[str, str]:
    """The listings of the how-to, by what they are in."""
    text = (REPOSITORY / "docs" / "how-to" / "add-a-report-section.md").read_text()
    return dict(re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE))


@pytest.mark.skipif(not (find_spec("pip") and find_spec("setuptools")), reason="needs pip and setuptools")
def test_how_to_adds_a_section(
    sen_bench: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listings = how_to()
    assert sum(listing.count("\n") for listing in listings.values()) < 40
    install, report = (line.split() for line in listings["sh"].splitlines())
    package, site = tmp_path / "package", tmp_path / "site"
    package.mkdir()
    (package / "pyproject.toml").write_text(listings["toml"])
    (package / "bias_section.py").write_text(listings["python"])
    offline = ("--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet", "--target", site)
    subprocess.run([sys.executable, "-m", *install, *offline], cwd=package, check=True)
    monkeypatch.syspath_prepend(site)

    monkeypatch.chdir(tmp_path)
    make_run(Path("runs"), official(tmp_path / "data"))
    answer = sen_bench(*report[1:])
    assert answer.code == 0, answer.err
    html, facts = Path("report.html").read_text(), json.loads(Path("report.json").read_text())
    (label,) = facts["tasks"][0]["sections"]["bias"]["facts"]
    assert label == "mlp"
    assert '<section id="bias"' in html
    assert "Mean of predicted minus true." in html
    assert 'id="bias-bias"' in html

    make_run(Path("labels"), own(tmp_path / "own", kind="classification"))
    report[report.index("runs/")] = "labels"
    assert sen_bench(*report[1:], "--overwrite").code == 0
    assert "Probabilities have no bias to show; run a regression." in Path("report.html").read_text()
