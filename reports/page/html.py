"""A report as one HTML file that needs no other file; Jinja2 escapes everything that it shows."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from benchmarks.base.text import visible
from benchmarks.base.workers import Progress
from reports.page.cite import bibtex, methods
from reports.page.report import Outcome, Part, Report
from reports.page.section import Figure, Heading, Item, Table, Text
from reports.page.style import DARK_COLOURS
from reports.page.svg import draw_svg
from reports.page.tables import as_csv, as_latex, is_numeric, shown
from reports.study.sentences import Sentences
from sen.registry import guard

__all__ = ["render"]

# Tables with more rows scroll in a window on the screen.
_LONG = 24
_PIXELS_PER_POINT = 96 / 72


def render(report: Report, facts_file: str, progress: Progress = lambda _done, _total: None) -> str:
    """Return the page. A section that cannot be drawn becomes a failed one, in the report too.

    Args:
        report: What to show.
        facts_file: Name of the file with the facts, which lies next to the page.
        progress: Called with how many sections are drawn, and how many there are.
    """
    script, css, template = map(_asset, ("report.js", "report.css", "report.html"))
    dark = " ".join(f"--colour-{i}: {colour};" for i, colour in enumerate(DARK_COLOURS))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    setter = _Setter(report, progress)
    parts = [setter.part(part) for part in report.parts]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, finalize=_finalize)
    return environment.from_string(template).render(
        kind="sen-bench report" if report.by_section else "Crystals explained by sen-bench",
        title=" · ".join(part["title"] for part in parts),
        lead=_lead(report.parts),
        made=report.made.strftime("%d %B %Y, %H:%M UTC").lstrip("0"),
        version=report.origin["sen-bench"],
        commit=_short(report.origin["git_commit"] or ""),
        parts=parts,
        methods=methods(report.parts, report.origin, scores=report.by_section),
        bibtex=bibtex(report.parts, report.origin),
        command=shlex.join(report.command),
        facts_file=facts_file,
        css=Markup(css.replace("/* colours of results */", dark)),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=f"sha256-{digest}",
    )


def _finalize(value: Any) -> Any:
    """Make text visible; markup is our own, or `draw_svg` has done it."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


class _Setter:
    """Turns parts of a report into what the template reads, and numbers figures and tables across all of them."""

    def __init__(self, report: Report, progress: Progress) -> None:
        self._report = report
        self._progress = progress
        self._several = len(report.parts) > 1
        self._numbers = {"figure": 0, "table": 0}
        self._ids: set[str] = set()
        self._parts: list[str] = []
        self._labels: list[str] = []
        self._split = ""
        self._done = 0

    def part(self, part: Part) -> dict[str, Any]:
        # Runs on one data set with two targets are two parts of one name.
        self._parts.append(_slug(part.study.task.name))
        n_same = self._parts.count(self._parts[-1])
        name = self._parts[-1] + (f"-{n_same}" if n_same > 1 else "")
        prefix = f"{name}-" if self._several else ""
        self._labels = [result.label for result in part.study.results]
        split = part.study.task.split
        self._split = "" if split == "folds" else f" Split: {split}."
        return {
            "id": name,
            "title": part.study.title,
            "notes": part.study.notes,
            "sections": [self._section(outcome, prefix) for outcome in part.outcomes],
        }

    def _section(self, outcome: Outcome, prefix: str) -> dict[str, Any]:
        before = dict(self._numbers)
        name = f"{prefix}{_slug(outcome.name)}"
        items = []
        with guard(f"The section {outcome.name} cannot be drawn.", outcome.fail):
            items = [self._item(item, name) for item in outcome.items]
        if outcome.failed:
            self._numbers = before
        self._done += 1
        self._progress(self._done, sum(len(part.outcomes) for part in self._report.parts))
        return {
            "id": name,
            "title": outcome.title,
            "reason": outcome.reason,
            "failed": outcome.failed,
            "shown": items,
            "command": self._command(outcome.name),
        }

    def _command(self, name: str) -> str:
        """Return the command that makes a section alone, where there is one, into a file of its own."""
        words = list(self._report.command)
        if self._report.by_section:
            if "-o" in words:
                words[words.index("-o") + 1] = f"{name}.html"
            if "--sections" in words:
                del words[words.index("--sections") :]
            words += ["--sections", name]
        return shlex.join(words)

    def _item(self, item: Item, section: str) -> dict[str, Any]:
        if isinstance(item, Figure | Table):
            item = replace(item, caption=f"{item.caption}{self._split}")
        match item:
            case Heading():
                return {"kind": "heading", "text": item.text}
            case Text():
                return {"kind": "text", "paragraphs": re.split(r"\n\s*\n", _typeset(item.text.strip()))}
            case Figure():
                return self._figure(item, section)
            case Table():
                return self._table(item, section)
        raise TypeError(f"it shows {type(item).__name__}, which is not an item of the page")

    def _figure(self, figure: Figure, section: str) -> dict[str, Any]:
        name = self._new_id(f"{section}-{_slug(figure.name)}")
        svg = draw_svg(figure.draw, name, self._labels)
        width = re.search(r'width="([\d.]+)pt"', svg)
        return {
            "kind": "figure",
            "id": name,
            "number": self._count("figure"),
            "svg": Markup(svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)),  # noqa: S704 - matplotlib escapes its text
            "width": round(float(width[1]) * _PIXELS_PER_POINT) if width else 700,
            "file": name,
            "caption": _typeset(figure.caption),
            "method": figure.method,
            "alt": figure.alt,
        }

    def _table(self, table: Table, section: str) -> dict[str, Any]:
        name = self._new_id(f"{section}-{_slug(table.name)}-table")
        wrong = next((row for row in table.rows if len(row) != len(table.columns)), None)
        if wrong is not None:
            raise ValueError(f"a row of the table {table.name!r} has {len(wrong)} cells, not {len(table.columns)}")
        return {
            "kind": "table",
            "id": name,
            "number": self._count("table"),
            "columns": [{"text": text, "numeric": is_numeric(table, i)} for i, text in enumerate(table.columns)],
            "rows": shown(table),
            "long": len(table.rows) > _LONG,
            "strong": set(table.strong),
            "file": name,
            "csv": _data_url("text/csv", as_csv(table)),
            "latex": _data_url("application/x-tex", as_latex(table, name)),
            "caption": _typeset(table.caption),
            "method": table.method,
        }

    def _new_id(self, name: str) -> str:
        if name in self._ids:
            raise ValueError(f"two of its figures or tables are called {name!r}")
        self._ids.add(name)
        return name

    def _count(self, kind: str) -> int:
        self._numbers[kind] += 1
        return self._numbers[kind]


def _short(commit: str) -> str:
    return commit[:10] + ("-dirty" if commit.endswith("-dirty") else "")


def _data_url(kind: str, content: str) -> str:
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(content.encode()).decode()}"


def _typeset(text: str) -> str:
    """Turn hyphens before numbers into minus signs, and keep "n = 283" on one line."""
    text = re.sub(r"(?<![\w.)\]])-(?=\d)", "\N{MINUS SIGN}", text)
    return re.sub(r"\b(n|p) = (?=[\d.])", "\\1\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}", text)


def _slug(name: str) -> str:
    """Return a name in a form that can be an id and a file name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "x"


def _asset(name: str) -> str:
    return resources.files("reports.page").joinpath("templates", name).read_text(encoding="utf-8")


def _lead(parts: Sequence[Part]) -> str:
    """Say what each part is about, and which of its runs are on a part of the official rows."""
    studies = [part.study for part in parts]
    partial = [[run for run in study.runs if run.coverage is not None and run.coverage < 1] for study in studies]
    return " ".join(Sentences(__name__, {"parts": list(zip(studies, partial, strict=True))}).paragraphs("lead"))
