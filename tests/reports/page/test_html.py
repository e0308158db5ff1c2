"""The page in a browser: nothing asked for, nothing complained about, everything there."""

from __future__ import annotations

import csv
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import own_names
from tests.reports.chromium import Chromium, find_chromium
from tests.reports.made_runs import make_run, official

BINARY = find_chromium()
pytestmark = [
    pytest.mark.deep,
    pytest.mark.skipif(BINARY is None, reason="needs chromium (apt-get install chromium)"),
]

OWN_SECTIONS = (
    *("overview", "parity", "calibration", "training", "learning-curves"),
    *("worst", "systems", "generalisation", "provenance"),
)
NEED_MODELS = {"elements", "equivalence", "fit", "maps", "separation"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two runs with all sections that need no model."""
    from datetime import UTC, datetime

    from benchmarks.base.machine import provenance
    from reports.page.html import render
    from reports.page.report import make_report
    from reports.study.reading import read_studies

    folder = tmp_path_factory.mktemp("page")
    dataset = official(folder / "data")
    make_run(folder / "runs", dataset)
    make_run(folder / "runs", dataset, block="capsule", noise=0.2)
    studies = read_studies([folder / "runs"], data_dir=folder / "data")
    report = make_report(
        studies, OWN_SECTIONS, made=datetime.now(UTC), command=["sen-bench", "report", "runs"], origin=provenance()
    )
    html = render(report, "report.json")
    assert not report.failures
    (folder / "report.html").write_text(html)
    return folder / "report.html"


@pytest.fixture
def browser(page: Path, tmp_path: Path) -> Iterator[Chromium]:
    assert BINARY
    with Chromium(BINARY, tmp_path / "profile") as browser:
        browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "downloads"))
        browser.open(page)
        yield browser


def download(browser: Chromium, selector: str, folder: Path) -> Path:
    before = set(folder.glob("*"))
    browser.evaluate(f"document.querySelector('{selector}').click()")
    for _ in range(100):
        new = {path for path in folder.glob("*") if path.suffix != ".crdownload"} - before
        if new:
            return new.pop()
        time.sleep(0.1)
    raise AssertionError(f"{selector}: no file")


def test_page_asks_for_nothing_and_complains_of_nothing(browser: Chromium, page: Path) -> None:
    assert browser.requests == [page.resolve().as_uri()]
    assert browser.complaints == []
    assert browser.evaluate("document.documentElement.classList.contains('js')")


def test_sections_are_there_and_can_be_walked_to(browser: Chromium) -> None:
    assert {*OWN_SECTIONS} | NEED_MODELS == {*own_names("report_sections")}  # a new one belongs here, or needs models
    ids = browser.evaluate("[...document.querySelectorAll('main section')].map(section => section.id)")
    assert ids == [*OWN_SECTIONS, "methods", "cite"]
    links = browser.evaluate("[...document.querySelectorAll('nav a')].map(link => link.getAttribute('href'))")
    assert links == [f"#{name}" for name in ids]
    assert browser.evaluate("document.querySelectorAll('h1').length") == 1
    assert browser.evaluate("document.querySelectorAll('main figure svg').length") >= 4
    # What the keyboard reaches first leads past everything else.
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert browser.evaluate("document.activeElement.getAttribute('href')") == "#content"


def test_ids_are_unique_and_references_lead_somewhere(browser: Chromium) -> None:
    found: Any = browser.evaluate("""(() => {
        const ids = [...document.querySelectorAll('[id]')].map(element => element.id);
        const html = document.documentElement.outerHTML;
        const used = [...html.matchAll(/(?:href="#|url\\(&quot;#|url\\(#|aria-labelledby=")([^")&]+)/g)].map(m => m[1]);
        return {twice: ids.filter((id, i) => ids.indexOf(id) != i), lost: used.filter(id => !ids.includes(id))};
    })()""")
    assert found == {"twice": [], "lost": []}


def test_tables_and_figures_can_be_read_aloud(browser: Chromium) -> None:
    assert browser.evaluate("""[...document.querySelectorAll('table')].every(table =>
        document.getElementById(table.getAttribute('aria-labelledby')).textContent.length > 20 &&
        [...table.querySelectorAll('th')].every(cell => ['row', 'col'].includes(cell.scope)))""")
    assert browser.evaluate("""[...document.querySelectorAll('.plot')].every(plot =>
        plot.getAttribute('role') == 'img' && plot.getAttribute('aria-label').length > 20)""")


def test_downloads(browser: Chromium, tmp_path: Path) -> None:
    folder = tmp_path / "downloads"
    svg = download(browser, "#overview button[data-svg]", folder)
    assert svg.name == "overview-scores.svg"
    text = svg.read_text()
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in text
    table = download(browser, "#overview-results-table a[download$=csv]", folder)
    rows = list(csv.DictReader(table.open()))
    assert {row["model"] for row in rows} == {"mlp", "capsule"}
    assert float(rows[0]["MAE (meV/atom)"]) < float(rows[1]["MAE (meV/atom)"])
    latex = download(browser, "#overview-results-table a[download$=tex]", folder).read_text()
    assert r"\toprule" in latex
    assert "R$^2$" in latex
    assert browser.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_told_from_its_background(browser: Chromium, scheme: str) -> None:
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    contrast = browser.evaluate("""(() => {
        const light = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
            .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
        const page = light(getComputedStyle(document.documentElement).backgroundColor);
        return ['p', '.method', 'td', 'a', 'svg text'].map(what => {
            const element = document.querySelector(`main ${what}`), style = getComputedStyle(element);
            const text = light(what.startsWith('svg') ? style.fill : style.color);
            return (Math.max(text, page) + .05) / (Math.min(text, page) + .05);
        });
    })()""")
    assert min(contrast) > 4.5


def test_page_fits_a_phone(page: Path, tmp_path: Path) -> None:
    assert BINARY
    with Chromium(BINARY, tmp_path / "profile") as browser:
        browser.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True)
        browser.open(page)
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390
        assert not browser.evaluate("document.querySelector('nav details').open")
        wide = browser.evaluate("""[...document.querySelectorAll('.plot, .scroll')].map((place) => [
            place.scrollWidth > place.clientWidth,
            place.parentElement.querySelector('.sideways').checkVisibility(),
            getComputedStyle(place).backgroundImage.split('linear-gradient').length - 1,
        ])""")
        assert {tuple(each) for each in wide} == {(True, True, 4), (False, False, 4)}


def test_captions_stay_with_their_tables_on_paper(browser: Chromium) -> None:
    browser.call("Emulation.setEmulatedMedia", media="print")
    breaks = browser.evaluate("""[...document.querySelectorAll('figure.table')].map((table) => {
        const caption = getComputedStyle(table.querySelector('figcaption'));
        const is_long = table.querySelector('.long') !== null;
        return [is_long, getComputedStyle(table).breakInside, caption.breakInside, caption.breakAfter];
    })""")
    assert {tuple(each) for each in breaks} == {(False, "avoid", "avoid", "avoid"), (True, "auto", "avoid", "avoid")}
