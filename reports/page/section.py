"""The interface of a section of the report: what it computes, what it shows, and how it is found by name.

A section turns a study (the results on one task) into facts, numbers that go to report.json, and the facts into items,
which the page renders. It never writes HTML.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.base.workers import Progress
from sen.registry import find_plugins, load_plugin

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from reports.study.study import Study

__all__ = [
    "Figure",
    "Heading",
    "Item",
    "Section",
    "Table",
    "Text",
    "Value",
    "load_section",
    "section_names",
]

_GROUP = "sen_bench.report_sections"

#: A cell of a table: text, a whole number, another number (with the decimals that a typical one needs), nothing ("–").
Value = str | int | float | None


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    text: str


@dataclass(frozen=True)
class Text:
    """Plain text; an empty line begins a new paragraph.

    Attributes:
        text: The text.
        name: Name of its template, by which it can be chosen among the items of a section.
    """

    text: str
    name: str = field(default="", compare=False)


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        name: Name of the downloaded file, unique in its section; lower case, digits and hyphens.
        draw: Draws it by `reports.page.style.subplots`, from the facts alone, under the style of the report.
        caption: What the figure shows.
        method: How it was computed: equation, publication, DOI.
        alt: Description for a reader who cannot see it: what is plotted, and the main numbers.
    """

    name: str
    draw: Callable[[], Canvas]
    caption: str
    method: str
    alt: str


@dataclass(frozen=True)
class Table:
    """A table; a column in which all cells are numbers is aligned by their decimals.

    Attributes:
        name: Name of the downloaded files, unique in its section; lower case, digits and hyphens.
        columns: Headings, with units. "std", "... low" and "... high" get the decimals of the column before.
        rows: One cell for each column; the first names the row.
        caption: What the table shows.
        method: How it was computed.
        digits: Significant digits of a typical number of a column that are shown; CSV has all of them.
        strong: Positions of the rows that matter most, set in bold.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    caption: str
    method: str = ""
    digits: int = 4
    strong: Sequence[int] = ()


Item = Heading | Text | Figure | Table


class Section(ABC):
    """A section of the report, built without arguments.

    Register it under the entry point group `sen_bench.report_sections`; the name of the entry point is `name`.

    Attributes:
        name: Its id in the page and key in report.json: lower case, digits and hyphens.
        title: Its heading.
        place: Sections come in this order; the report's own are 100 to 900.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    place: ClassVar[int] = 1000

    @abstractmethod
    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Compute the facts.

        Args:
            study: The results on one task.
            progress: To be called with how much is done, and how much there is (None if that is unknown).

        Returns:
            What JSON can hold; numbers, not formatted text. Numbers that are not finite become null.

        Raises:
            Absent: There is nothing to show.
        """

    @abstractmethod
    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """Return what to show of the facts, which are as `analyse` returned them after a round trip through JSON."""


def section_names() -> list[str]:
    """Return the names of all installed sections, sorted."""
    return list(find_plugins(_GROUP))


def load_section(name: str) -> Section:
    """Import and build the section called `name`.

    Raises:
        KeyError: No installed package registers a section of that name.
        TypeError: What is registered is not a Section.
    """
    return load_plugin(_GROUP, name, Section)()  # type: ignore[type-abstract]
