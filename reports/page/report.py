"""From studies to a report: every section analyses every study, and its outcome is kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from benchmarks.base.errors import UsageError, printable, suggest
from benchmarks.base.files import plain
from benchmarks.base.workers import Progress
from reports.page.section import Item, Section, load_section
from reports.study.study import Absent, Result, Study
from sen.registry import guard

__all__ = ["Outcome", "Part", "Report", "choose_sections", "make_report"]

#: Increased whenever the layout of report.json changes. In 2, results have no colour and no marker, the section
#: equivalence holds components of environments, and separation names the runs without inequivalent atoms. In 3, what
#: they called blocks are runs, which may be of other models than SEN; these have nothing before a block. In 4, the
#: differences of the overview are of declared contrasts, with an answer to each of two questions; what a comparison by
#: crystal system called better is errs_less; two measures compare environments, operations have the symbols of screws
#: and glides, and what becomes of displaced atoms is in equivalence and no more in separation. In 5, the section
#: learning is called training.
FORMAT = 5


@dataclass
class Outcome:
    """The outcome of a section on one study.

    Attributes:
        name: Name of the section.
        title: Heading of the section.
        facts: What it found; None if it has nothing to show or failed.
        items: What it shows.
        reason: Why it shows nothing, or what failed, in one sentence.
        failed: Whether it failed.
        seconds: Time it took.
    """

    name: str
    title: str
    facts: dict[str, Any] | None = None
    items: list[Item] = field(default_factory=list)
    reason: str = ""
    failed: bool = False
    seconds: float = 0.0

    def fail(self, error: Exception) -> None:
        """Note that the section, or the drawing of its figures, raised an exception."""
        message = printable(error, 300).removesuffix(".")
        self.reason = (
            f"The section {self.name!r} failed with {type(error).__name__}{f': {message}' if message else ''}. "
            "Everything else in this report is not affected."
        )
        self.failed, self.items = True, []


@dataclass(frozen=True)
class Part:
    """The part of a report that is about one task."""

    study: Study
    outcomes: list[Outcome]


@dataclass(frozen=True)
class Report:
    """Everything that the page shows.

    Attributes:
        parts: One for each task.
        made: Time of creation.
        command: Words of the command that made it; `--sections` and its value come last.
        origin: Versions, commit and machine that made it.
        by_section: Whether the command takes `--sections` to make one section alone. `sen-bench explain` does not: its
            page is about crystals and shows no scores of models.
    """

    parts: list[Part]
    made: datetime
    command: tuple[str, ...]
    origin: Mapping[str, str | None]
    by_section: bool = True

    @property
    def failures(self) -> list[Outcome]:
        """The sections that failed."""
        return [outcome for part in self.parts for outcome in part.outcomes if outcome.failed]

    def facts(self) -> dict[str, Any]:
        """Return what goes to report.json."""
        facts: dict[str, Any] = plain(
            {
                "format": FORMAT,
                "made": self.made.isoformat(timespec="seconds"),
                "command": list(self.command),
                "provenance": dict(self.origin),
                "tasks": [
                    {
                        "task": part.study.task.facts(),
                        "notes": list(part.study.notes),
                        "results": [_result_facts(result) for result in part.study.results],
                        "sections": {
                            outcome.name: {
                                "title": outcome.title,
                                "state": "failed" if outcome.failed else "absent" if outcome.reason else "shown",
                                "reason": outcome.reason or None,
                                "facts": outcome.facts,
                            }
                            for outcome in part.outcomes
                        },
                    }
                    for part in self.parts
                ],
            }
        )
        return facts


def choose_sections(names: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """Check the requested names of sections among those known; without any, return all of these.

    Raises:
        UsageError: A name is unknown, or named twice.
    """
    if names is None:
        return list(known)
    for name in names:
        if name not in known:
            raise UsageError(f"There is no section called {name!r}. {suggest(name, known)}")
    if not names or len(set(names)) != len(names):
        raise UsageError(f"--sections takes names separated by commas, none of them twice. {suggest('', known)}")
    return list(names)


def make_report(
    studies: Sequence[Study],
    sections: Sequence[str],
    *,
    made: datetime,
    command: Sequence[str],
    origin: Mapping[str, str | None],
    load: Callable[[str], Section] = load_section,
    progress: Callable[[str], Progress] = lambda _: lambda _done, _total: None,
    done: Callable[[Study, Outcome], None] = lambda _study, _outcome: None,
) -> Report:
    """Let the sections of these names analyse every study; one that fails stops no other.

    `load` makes a section of its name, `progress` a progress callback of a description, and `done` is called when a
    section is done with a study.
    The other arguments are those of `Report`.
    """
    parts = []
    for study in studies:
        outcomes = []
        for outcome, section in _load(sections, load):
            if section is not None:
                _run(outcome, section, study, progress(f"{study.title}: {outcome.title.lower()}"))
            done(study, outcome)
            outcomes.append(outcome)
        parts.append(Part(study, outcomes))
    return Report(parts, made, tuple(command), origin)


def _load(names: Iterable[str], load: Callable[[str], Section]) -> list[tuple[Outcome, Section | None]]:
    """Load sections, in the order of the page; those that cannot be loaded come last."""
    loaded: list[tuple[float, str, Outcome, Section | None]] = []
    for name in names:
        outcome = Outcome(name, name)
        place, section = math.inf, None
        with guard(f"The section {name} cannot be loaded.", outcome.fail):
            found = load(name)
            place, outcome.title, section = found.place, str(found.title), found
        loaded.append((place, name, outcome, section))
    return [(outcome, section) for _, _, outcome, section in sorted(loaded, key=lambda item: item[:2])]


def _run(outcome: Outcome, section: Section, study: Study, progress: Progress) -> None:
    start = time.perf_counter()
    try:
        with guard(f"The section {outcome.name} failed.", outcome.fail, passing=Absent):
            facts = plain(section.analyse(study, progress))
            outcome.facts, outcome.items = facts, list(section.show(facts))
    except Absent as absent:
        outcome.reason = printable(absent, 1000)
    outcome.seconds = time.perf_counter() - start


def _result_facts(result: Result) -> dict[str, Any]:
    return {
        "label": result.label,
        "path": str(result.path),
        "kind": "run" if result.run else "published",
        "rows": len(result.rows),
        "folds": result.folds,
        "seeds": result.seeds,
        "command": result.command() or None,
        "config": result.facts.get("config") if result.run else None,
        "data": result.facts.get("data") if result.run else None,
        "records": [{key: record[key] for key in record if key != "elements"} for record in result.records.values()],
    }
