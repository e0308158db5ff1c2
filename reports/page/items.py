"""What sections show, made of facts and of the texts in their templates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reports.page.section import Figure, Heading, Table, Text, Value
from reports.study.sentences import Sentences
from reports.study.wording import in_brackets

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["FOLDS", "Column", "Items", "interval_columns"]

Column = tuple[str, str | Callable[[Any], Any]]
"""Heading of a column, and where a record has its value: a key, a path such as "metrics.mae", or a function."""

FOLDS: Column = ("folds", lambda result: len(result["folds"]) if result["has_folds"] else None)
"""How many folds a result has."""


def interval_columns(path: str, low: str = "95 % low", high: str = "95 % high") -> list[Column]:
    """Return the two columns of an interval that a record has at a path."""
    return [(low, f"{path}.0"), (high, f"{path}.1")]


class Items(Sentences):
    """Makes the items of a section, with the texts of its template.

    The texts of a figure NAME are the macro NAME_figure with three paragraphs: caption, method, and the description
    for a reader who cannot see it. Those of a table are NAME_table: caption, and the method where there is one.
    Hyphens in names are underscores there. Values by other keywords go to the macro.

    Attributes:
        unit: The unit of the task as it stands after the name of a quantity: " (eV)".
    """

    def __init__(self, module: str, facts: Mapping[str, Any]) -> None:
        """Load the template of a section, see `reports.study.sentences.Sentences`."""
        super().__init__(module, facts)
        self.unit = in_brackets(facts.get("unit", ""))

    def text(self, macro: str, **values: Any) -> Text:
        """Return a text."""
        return Text(self(macro, **values), macro)

    def heading(self, macro: str, **values: Any) -> Heading:
        """Return a heading."""
        return Heading(self(macro, **values))

    def figure(self, name: str, draw: Callable[[], Canvas], *, number: int | None = None, **values: Any) -> Figure:
        """Return a figure.

        Args:
            name: Its name, and that of its texts.
            draw: Draws it, see `reports.page.section.Figure`.
            number: Goes to the end of the name, where several figures share their texts.
            values: Arguments of the macro.
        """
        caption, method, alt = self.paragraphs(_macro(name, "figure"), **values)
        return Figure(_numbered(name, number), draw, caption, method, alt)

    def table(
        self,
        name: str,
        records: Iterable[Any],
        columns: Sequence[Column],
        *,
        digits: int = 4,
        strong: Sequence[int] = (),
        number: int | None = None,
        **values: Any,
    ) -> Table:
        """Return a table.

        Args:
            name: Its name, and that of its texts.
            records: What its rows are about, one each.
            columns: Headings, and where a record has the value. What a record lacks is empty; the members of a list
                are joined by commas.
            digits: See `reports.page.section.Table`.
            strong: See there.
            number: Goes to the end of the name, where several tables share their texts.
            values: Arguments of the macro.
        """
        caption, *method = self.paragraphs(_macro(name, "table"), **values)
        return Table(
            name=_numbered(name, number),
            columns=[heading for heading, _ in columns],
            rows=[[_cell(record, key) for _, key in columns] for record in records],
            caption=caption,
            method=" ".join(method),
            digits=digits,
            strong=strong,
        )


def _macro(name: str, kind: str) -> str:
    return f"{name.replace('-', '_')}_{kind}"


def _numbered(name: str, number: int | None) -> str:
    return name if number is None else f"{name}-{number}"


def _cell(record: Any, key: str | Callable[[Any], Any]) -> Value:
    value = key(record) if callable(key) else _at(record, key)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return value  # type: ignore[no-any-return]  # facts are JSON


def _at(record: Any, path: str) -> Any:
    """Return what a record holds at a path; None where a part of it is None or missing."""
    for key in path.split("."):
        if isinstance(record, Mapping):
            record = record.get(key)
        elif record is not None:
            record = record[int(key)]
    return record
